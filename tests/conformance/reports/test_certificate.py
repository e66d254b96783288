"""A certificate is issued only when nothing is open, and no word of it can be changed unseen."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bollard.conformance.certificate import canonical_bytes, fingerprint, issue, mismatches, read_certificate
from bollard.conformance.model import Level, Result, Tier, Verdict
from bollard.conformance.registry import all_checks
from bollard.conformance.reports import mutation_score, result_bytes, stored_result
from bollard.conformance.reports.keys import read_private_key, read_public_key, write_key_pair
from bollard.conformance.reports.mutation import MutationScore
from bollard.conformance.reports.obstacles import claimed_profiles, obstacles
from bollard.core.spi import Conflict, InvalidArgument

Maker = Callable[..., Verdict]
NOW = 1_795_000_000_000
DAY = 24 * 3600 * 1000
CHECK = "vol.new_reads_zero"
KEY = Ed25519PrivateKey.generate()
SCORE = MutationScore(checks=(200, 200), mutants=(66, 66), by_check={})


def _issued(verdict: Verdict, **given: Any) -> tuple[bytes, bytes]:
    result = result_bytes(verdict)
    arguments: dict[str, Any] = {
        "claimed": claimed_profiles(verdict, []),
        "key": KEY,
        "now_ms": NOW,
        "backend": "ACME 5000, firmware 7.2",
        "score": SCORE,
    }
    return issue(stored_result(result), result, **(arguments | given)), result


def _problems(data: bytes, **given: Any) -> list[str]:
    certificate, signed = read_certificate(data)
    return mismatches(certificate, **({"signed": signed, "now_ms": NOW + DAY} | given))


def test_what_it_is_bound_to(make_verdict: Maker) -> None:
    """It names driver, artefact, versions, seed, tier, capabilities, profiles, counts, score and dates."""
    verdict = make_verdict()
    certificate, signed = read_certificate(_issued(verdict)[0])

    assert signed
    assert (certificate.driver, certificate.distribution, certificate.backend) == (
        "acme",
        "acme-bollard 1.2",
        "ACME 5000, firmware 7.2",
    )
    assert (certificate.artefact, certificate.seed, certificate.tier) == ("ab" * 32, 4711, "standard")
    assert certificate.capabilities == ["access_control", "capacity", "changed_blocks", "qos", "snapshots"]
    assert {"name": "core", "version": "1.0"} in certificate.profiles
    assert certificate.counts["pass"] == len(verdict.outcomes)
    assert certificate.mutation == {"checks": [200, 200], "mutants": [66, 66]}
    assert (certificate.issued, certificate.expires) == (
        "2026-11-18T11:06:40.000Z",
        "2027-11-18T11:06:40.000Z",
    )
    assert len(fingerprint(certificate)) == 16


def test_valid(make_verdict: Maker) -> None:
    """What was just issued holds against its result, its artefact and its key."""
    data, result = _issued(make_verdict())

    assert _problems(data, result=result, installed="ab" * 32, trusted=KEY.public_key()) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"now_ms": NOW + 365 * DAY}, "it expired at 2027-11-18"),
        ({"now_ms": NOW - DAY}, "in the future"),
        ({"result": b"{}"}, "another result.json"),
        ({"installed": "cd" * 32}, "what is installed here is cdcd"),
        ({"installed": ""}, "nothing of it is installed here"),
        ({"trusted": Ed25519PrivateKey.generate().public_key()}, "signed by another key"),
    ],
)
def test_what_does_not_match(make_verdict: Maker, given: dict[str, Any], words: str) -> None:
    """Each mismatch is one sentence of its own."""
    problems = _problems(_issued(make_verdict())[0], **given)

    assert len(problems) == 1
    assert words in problems[0]


def test_no_field_can_be_changed(make_verdict: Maker) -> None:
    """Whichever field is changed, the signature is wrong or the file is refused."""
    data, _ = _issued(make_verdict())
    body = json.loads(data)
    others = {
        "format": 2,
        "counts": {"pass": 1},
        "mutation": {},
        "capabilities": [],
        "profiles": [],
        "seed": 1,
    }
    for name, value in body.items():
        other = others.get(name, value.replace(value[:2], "00", 1) if isinstance(value, str) else None)
        changed = json.dumps(body | {name: other}).encode()
        try:
            problems = _problems(changed)
        except InvalidArgument:
            continue
        assert any("signature" in p for p in problems), name


def test_white_space_is_free(make_verdict: Maker) -> None:
    """Signed is the meaning: another layout or order of the same JSON holds as well."""
    body = json.loads(_issued(make_verdict())[0])
    other = json.dumps(dict(reversed(body.items())), ensure_ascii=True).encode()

    assert _problems(other) == []


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"format": 2}', b"\xff", b"[" * 100_000],
)
def test_no_certificate(data: bytes) -> None:
    """Whatever is no certificate of this format is bad input, and never a crash."""
    with pytest.raises(InvalidArgument, match="certificate"):
        read_certificate(data)


@pytest.mark.parametrize("name", ["signature", "public_key"])
def test_bad_encodings(make_verdict: Maker, name: str) -> None:
    """A signature or key of another length or alphabet is bad input."""
    body = json.loads(_issued(make_verdict())[0])
    for value in ("", "!!", base64.b64encode(b"short").decode(), "A", 7):
        with pytest.raises(InvalidArgument, match=name):
            read_certificate(json.dumps(body | {name: value}).encode())


@pytest.mark.parametrize("value", [1.5, True, None, {"a": [0.1]}, {1: "a", None: 2}])
def test_only_what_has_one_text_is_signed(value: object) -> None:
    """Floats, booleans and null have no text that all languages agree on, so they are refused."""
    with pytest.raises(InvalidArgument, match="strings and integers only"):
        canonical_bytes(value)


def test_canonical_text() -> None:
    """The canonical text has sorted keys, no white space and UTF-8; text that is no Unicode is refused."""
    assert canonical_bytes({"b": [1, "é"], "a": {}}) == '{"a":{},"b":[1,"é"]}'.encode()
    with pytest.raises(InvalidArgument, match="no Unicode"):
        canonical_bytes("\ud800")


@pytest.mark.parametrize("result", [Result.FAIL, Result.KNOWN_FAIL, Result.ERROR, Result.NOT_RUN])
def test_an_open_must_stands_in_the_way(make_verdict: Maker, result: Result) -> None:
    """Any MUST of a claimed profile that is open is named with its sentence and message."""
    verdict = make_verdict(change={CHECK: {"result": result, "message": "block 0 holds old data"}})
    found = obstacles(verdict, claimed_profiles(verdict, []), all_checks())

    assert [(o.check, o.result, o.message) for o in found] == [(CHECK, result, "block 0 holds old data")]
    assert found[0].sentence


def test_nothing_in_the_way(make_verdict: Maker) -> None:
    """A whole run of tier standard stands in its own way with nothing."""
    verdict = make_verdict()

    assert obstacles(verdict, claimed_profiles(verdict, []), all_checks()) == []


def test_a_should_is_not_in_the_way(make_verdict: Maker) -> None:
    """A recommendation decides nothing."""
    should = next(o.check.id for o in make_verdict().outcomes if o.check.level is Level.SHOULD)
    verdict = make_verdict(change={should: {"result": Result.FAIL}})

    assert obstacles(verdict, claimed_profiles(verdict, []), all_checks()) == []


def test_other_profiles_are_not_in_the_way(make_verdict: Maker) -> None:
    """Who claims core only is not kept from it by a snapshot that fails."""
    snap = next(
        o.check.id for o in make_verdict().outcomes if o.check.group == "snap" and o.check.level is Level.MUST
    )
    verdict = make_verdict(change={snap: {"result": Result.FAIL}})

    assert [o.check for o in obstacles(verdict, claimed_profiles(verdict, []), all_checks())] == [snap]
    assert obstacles(verdict, claimed_profiles(verdict, ["core"]), all_checks()) == []


def test_a_refused_profile_cannot_be_claimed(make_verdict: Maker) -> None:
    """Refusing QoS cleanly is fine, and no QoS."""
    verdict = make_verdict(broken=True, change={"vol.list_complete": {"result": Result.PASS}})
    found = obstacles(verdict, claimed_profiles(verdict, ["qos"]), all_checks())

    assert obstacles(verdict, claimed_profiles(verdict, []), all_checks()) == []
    assert [o.message for o in found] == [
        "profile QoS: the driver declares none of its capabilities, or the run left it out"
    ]


def test_a_lost_check_stands_in_the_way(make_verdict: Maker) -> None:
    """A check that was cut out of the result is missed."""
    whole = make_verdict()
    verdict = make_verdict(outcomes=tuple(o for o in whole.outcomes if o.check.id != CHECK))
    found = obstacles(verdict, claimed_profiles(verdict, []), all_checks())

    assert [(o.check, o.result) for o in found] == [(CHECK, "missing")]


def test_runs_that_decide_nothing(make_verdict: Maker) -> None:
    """A lower tier, or a driver of no distribution, cannot be certified."""
    verdict = make_verdict(tier=Tier.SMOKE, artefact="")
    found = [o.message for o in obstacles(verdict, claimed_profiles(verdict, []), all_checks())]

    assert found == [
        "a run of tier smoke decides nothing: run tier standard or more",
        "nothing to bind it to: the driver belongs to no installed distribution",
    ]


def test_unknown_profile(make_verdict: Maker) -> None:
    """A misspelt profile is bad input."""
    with pytest.raises(InvalidArgument, match="did you mean 'snapshots'"):
        claimed_profiles(make_verdict(), ["snapshot"])


def test_keys(tmp_path: Path) -> None:
    """The private key is its owner's alone from the first moment, and both files read back as one pair."""
    path = tmp_path / "vendor.key"
    public = write_key_pair(path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert read_private_key(path).public_key() == read_public_key(public)


@pytest.mark.parametrize("taken", ["vendor.key", "vendor.key.pub"])
def test_a_key_is_never_overwritten(tmp_path: Path, taken: str) -> None:
    """Neither file of an old pair is touched."""
    (tmp_path / taken).write_text("precious")

    with pytest.raises(Conflict, match="choose another name"):
        write_key_pair(tmp_path / "vendor.key")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["precious"]


def test_a_key_that_others_may_read(tmp_path: Path) -> None:
    """A private key that others may have read signs nothing."""
    write_key_pair(tmp_path / "k")
    (tmp_path / "k").chmod(0o640)

    with pytest.raises(InvalidArgument, match="chmod 600"):
        read_private_key(tmp_path / "k")


def test_other_keys(tmp_path: Path) -> None:
    """Files that hold no key, or a key of another kind, say so."""
    rsa = generate_private_key(65537, 2048)
    pem = rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = rsa.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for data, words in ((b"no key", "no p"), (pem, "no Ed25519 key")):
        path = tmp_path / "private"
        path.write_bytes(data)
        path.chmod(0o600)
        with pytest.raises(InvalidArgument, match=words):
            read_private_key(path)
    for data, words in ((b"no key", "no public key"), (public, "no Ed25519 key")):
        (tmp_path / "public").write_bytes(data)
        with pytest.raises(InvalidArgument, match=words):
            read_public_key(tmp_path / "public")


def test_no_mutation_score(tmp_path: Path) -> None:
    """A suite without the file has no score."""
    assert mutation_score(tmp_path / "mutation_score.json") is None


def test_this_release_has_a_score() -> None:
    """Reports show the score that `make mutants` has written last."""
    score = mutation_score()
    assert score is not None
    assert score.mutants[1] >= 60
