"""What a run is about: tiers, profiles, ids, shards, known failures, and the words of its verdict."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from bollard.conformance import calls
from bollard.conformance.judge import with_known
from bollard.conformance.leaks import RUN_CHECKS
from bollard.conformance.model import Check, Level, Outcome, Result, Tier, Verdict
from bollard.conformance.pages import pages, sentences
from bollard.conformance.plain import dump_outcome, joined, load_outcome
from bollard.conformance.profiles import PROFILES, by_profile, profile_of
from bollard.conformance.registry import all_checks
from bollard.conformance.run import RunOptions, run_suite
from bollard.conformance.selection import Selection, parse_select, parse_shard
from bollard.conformance.settings import KnownFailure, load_settings
from bollard.core.plugins import KINDS
from bollard.core.spi import Host, InvalidArgument, NotFound
from bollard.transfer_objects.ids import HostId
from bollard.transfer_objects.secret import Secret

KNOWN = KnownFailure(id="vol.size_seen", reason="rounds", ticket="ACME-7", expires=date(2027, 1, 31))


def _check(name: str = "vol.size_seen", level: Level = Level.MUST) -> Check:
    return Check(id=name, level=level, rule="vol.size", kinds=("host",), what="It is so.\n\nBecause.")


def _verdict(*results: Result, tier: Tier = Tier.STANDARD, level: Level = Level.MUST) -> Verdict:
    outcomes = [Outcome(check=_check(level=level), result=r, seconds=0.0) for r in results]
    return Verdict(driver="acme", distribution="acme 1", tier=tier, outcomes=tuple(outcomes))


# -- selection -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_shards_sum_to_the_whole(kind: str) -> None:
    """Each check of a run is in exactly one of its shards."""
    whole = [c.id for c in Selection(kind=kind, tier=Tier.DISRUPTIVE).chosen()]
    parts = [
        c.id for i in range(1, 6) for c in Selection(kind=kind, tier=Tier.DISRUPTIVE, shard=(i, 5)).chosen()
    ]

    assert sorted(parts) == whole


def test_select_takes_ids_and_patterns() -> None:
    """Ids and patterns choose; each option may hold several."""
    chosen = Selection(kind="host", select=parse_select(["snap.idempotent, vol.resize*", "vol.overwrite"]))

    ids = {c.id for c in chosen.chosen()}
    assert {"snap.idempotent", "vol.overwrite", "vol.resize_grow"} <= ids
    assert all(i.startswith(("snap.idempotent", "vol.overwrite", "vol.resize")) for i in ids)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("snap.idempotnt", "did you mean 'snap.idempotent'"),
        ("nonsense", "`bollard conformance checks` lists them"),
        ("store.range_reads", "does not apply to this run: it is of tier smoke, for image-store drivers"),
    ],
)
def test_select_that_matches_nothing_is_an_error(pattern: str, words: str) -> None:
    """A selection that would prove nothing is refused with what was perhaps meant."""
    with pytest.raises(InvalidArgument, match=words):
        Selection(kind="host", select=(pattern,)).chosen()


@pytest.mark.parametrize("text", ["0/1", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_bad_shard_is_refused(text: str) -> None:
    """A shard is i/n with i from 1 to n."""
    assert parse_shard("2/4") == (2, 4)
    with pytest.raises(InvalidArgument, match="must be i/n"):
        parse_shard(text)


def test_profile_brings_core_along() -> None:
    """A profile is run with core, and with nothing else; its name is checked."""
    chosen = Selection(kind="managed", profiles=("archive",)).chosen()

    assert {profile_of(c).name for c in chosen} == {"core", "archive"}
    with pytest.raises(InvalidArgument, match="did you mean 'archive'"):
        Selection(kind="managed", profiles=("archiv",)).chosen()


def test_each_check_belongs_to_one_profile() -> None:
    """No group is claimed by two profiles."""
    groups = [group for profile in PROFILES for group in profile.groups]
    assert len(groups) == len(set(groups))


# -- known failures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "day", "becomes", "words"),
    [
        (Result.FAIL, date(2027, 1, 31), Result.KNOWN_FAIL, "known: rounds, ACME-7"),
        (Result.FAIL, date(2027, 2, 1), Result.FAIL, "which has passed"),
        (Result.PASS, date(2027, 1, 1), Result.FAIL, "remove the entry"),
        (Result.ERROR, date(2027, 1, 1), Result.ERROR, "it broke"),
        (Result.REFUSED, date(2027, 1, 1), Result.REFUSED, "it broke"),
    ],
)
def test_known_failure(result: Result, day: date, becomes: Result, words: str) -> None:
    """A known failure is one until its last day; an unexpected pass is a failure; errors stay errors."""
    judged = with_known((result, "it broke"), KNOWN, today=day)

    assert judged[0] is becomes
    assert words in judged[1]
    assert with_known((Result.FAIL, "x"), None) == (Result.FAIL, "x")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ('id = "vol.size_seen"\nticket = "T"\nexpires = 2027-01-01', "needs reason"),
        ('id = "vol.size_seen"\nreason = "r"\nticket = "T"', "needs expires"),
        (
            'id = "vol.size_seen"\nreason = "r"\nticket = "T"\nexpires = "2027-01-01"',
            "expires must be a date",
        ),
        (
            'id = "vol.size_seen"\nreason = "r"\nticket = "T"\nexpires = 2027-01-01\nwhen = 1',
            "key 'when' is unknown",
        ),
    ],
)
def test_known_failure_needs_reason_ticket_and_expiry(tmp_path: Path, entry: str, words: str) -> None:
    """What is not explained and does not end is not accepted as known."""
    config = tmp_path / "c.toml"
    config.write_text(f'driver = "qcow2"\n[[known_fail]]\n{entry}\n')

    with pytest.raises(InvalidArgument, match=words):
        load_settings("", config)


def test_known_failure_of_nothing_is_an_error(tmp_path: Path) -> None:
    """An id that matches no check is an error: a check that was renamed must not stay excused."""
    config = tmp_path / "c.toml"
    entry = 'id = "vol.size_sen"\nreason = "r"\nticket = "T"\nexpires = 2027-01-01'
    config.write_text(f'driver = "qcow2"\n[[known_fail]]\n{entry}\n')

    with pytest.raises(InvalidArgument, match=r"did you mean 'vol\.size_seen'"):
        run_suite("", config, RunOptions(tier=Tier.STATIC, quiet=True))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('test_pool = "yes"', "test_pool must be true or false"),
        ("options = 3", "options must be a table"),
        ('[backend]\nadress = "url"', "did you mean 'address'"),
        ("test_pol = true", "did you mean 'test_pool'"),
    ],
)
def test_configuration_errors_name_key_and_rule(tmp_path: Path, text: str, words: str) -> None:
    """A mistyped key or value is refused by its name."""
    config = tmp_path / "c.toml"
    config.write_text(f'driver = "qcow2"\n{text}\n')

    with pytest.raises(InvalidArgument, match=words):
        load_settings("", config)


def test_disruptive_needs_consent(tmp_path: Path) -> None:
    """The tier that restarts and fills the backend needs a word in the configuration."""
    config = tmp_path / "c.toml"
    config.write_text('driver = "qcow2"\ntest_pool = true\n')

    with pytest.raises(InvalidArgument, match="disruptive = true"):
        run_suite("", config, RunOptions(tier=Tier.DISRUPTIVE))


# -- the verdict -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("results", "tier", "word"),
    [
        ((Result.PASS, Result.REFUSED, Result.NOT_APPLICABLE), Tier.STANDARD, "CONFORMANT"),
        ((Result.PASS, Result.FAIL), Tier.STANDARD, "NOT CONFORMANT"),
        ((Result.PASS, Result.ERROR), Tier.DEEP, "NOT CONFORMANT"),
        ((Result.PASS, Result.KNOWN_FAIL), Tier.STANDARD, "INCOMPLETE (tier standard)"),
        ((Result.PASS, Result.NOT_RUN), Tier.STANDARD, "INCOMPLETE (tier standard)"),
        ((Result.PASS,), Tier.SMOKE, "INCOMPLETE (tier smoke)"),
        ((Result.REFUSED,), Tier.STANDARD, "NOT CONFORMANT"),
    ],
)
def test_verdict_in_words(results: tuple[Result, ...], tier: Tier, word: str) -> None:
    """Only a run in which every MUST held, none is excused and none was left out is conformant."""
    verdict = _verdict(*results, tier=tier)

    assert verdict.word() == word
    assert verdict.conformant is (word == "CONFORMANT")


def test_should_and_measure_decide_nothing() -> None:
    """What is no MUST may fail without a word in the verdict."""
    must = Outcome(check=_check(), result=Result.PASS, seconds=0.0)
    others = [
        Outcome(check=_check(f"vol.x{n}", level), result=Result.FAIL, seconds=0.0)
        for n, level in enumerate((Level.SHOULD, Level.MEASURE))
    ]
    assert replace(_verdict(), outcomes=(must, *others)).conformant


def test_profiles_have_words_of_their_own() -> None:
    """A profile whose checks were all refused, or whose capability is not declared, is refused.

    One failure spoils its own profile only.
    """
    outcomes = (
        Outcome(check=_check("vol.a"), result=Result.PASS, seconds=0.0),
        Outcome(check=_check("snap.a"), result=Result.FAIL, seconds=0.0),
        Outcome(check=_check("qos.a"), result=Result.REFUSED, seconds=0.0),
        Outcome(check=_check("inc.a"), result=Result.NOT_RUN, seconds=0.0),
        Outcome(check=_check("cap.a"), result=Result.PASS, seconds=0.0),
    )
    verdict = replace(_verdict(), outcomes=outcomes, capabilities=("snapshots", "changed_blocks", "qos"))
    said = {p.profile.name: p.word for p in by_profile(verdict)}

    assert said == {
        "core": "conformant",
        "snapshots": "not conformant",
        "qos": "refused",
        "incremental": "incomplete",
        "capacity": "refused",
    }


def test_outcome_travels_as_text() -> None:
    """What a worker of xdist tells is what its controller reads."""
    one = Outcome(check=all_checks()[0], result=Result.FAIL, seconds=1.5, message="ü\0", reproducer="x")

    assert load_outcome(dump_outcome(one)) == one


def test_workers_results_are_joined() -> None:
    """One worker's leak is the run's leak, whoever tells first."""
    found, other = RUN_CHECKS[0], RUN_CHECKS[1]
    good = Outcome(check=found, result=Result.PASS, seconds=0.0)
    bad = [replace(good, result=Result.FAIL, message=m) for m in ("a", "b")]

    for order in ([good, *bad], [*bad, good]):
        [joint, _] = joined([*order, replace(good, check=other)])
        assert (joint.result, joint.message) == (Result.FAIL, "a; b")


# -- evidence ----------------------------------------------------------------------------------------------


def test_evidence_shows_no_secret() -> None:
    """A call's record names what was asked and answered; secrets that passed the door are taken out."""
    log = calls.CallLog()
    host = Host(id=HostId("kvm-1"), chap_secret=Secret("hunter2-hunter2"))
    given = {"self": None, "volume": "web", "host": host}
    log.know(calls.secrets_in(given))
    log.add("grant", given, 0.0, NotFound("no volume web for hunter2-hunter2"))

    [record] = log.taken()
    assert record.call == "grant(volume=web, host=Host(kvm-1))"
    assert record.failed
    assert record.answer == "NotFound [not_applied]: no volume web for ***"


def test_evidence_is_bounded() -> None:
    """A check of thousands of calls keeps the last ones, each cut to a readable length."""
    log = calls.CallLog()
    for number in range(calls.KEPT + 50):
        log.add("get", {"key": "x" * 10_000}, 0.0, number)

    kept = log.taken()
    assert [r.answer for r in kept] == [str(n) for n in range(50, calls.KEPT + 50)]
    assert max(len(r.call) for r in kept) <= 300


# -- pages -------------------------------------------------------------------------------------------------


def test_each_check_has_a_page() -> None:
    """There is one page per check, with its contract, its rule's sentence and how to run it alone."""
    found = dict(pages())

    assert found.keys() == {f"checks/{c.id}.md" for c in (*all_checks(), *RUN_CHECKS)} | {"checks/index.md"}
    page = found["checks/snap.idempotent.md"]
    assert "returns the first cut" in page
    assert sentences()["snap.same-id"] in page
    assert "--select snap.idempotent" in page
    assert "None" not in page


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Path]:
    """The configuration of an empty qcow2 pool."""
    (tmp_path / "pool").mkdir()
    config = tmp_path / "c.toml"
    config.write_text(f'driver = "qcow2"\ntest_pool = true\n[options]\npath = "{tmp_path}/pool"\n')
    yield config
    assert [p.name for p in (tmp_path / "pool").iterdir() if p.is_file()] in ([], ["pool.json"])


@pytest.mark.real
def test_run_in_parts_and_side_by_side(pool: Path, tmp_path: Path) -> None:
    """Two processes side by side give the outcomes of one; what is left out is told."""
    options = RunOptions(
        select=("snap.idempotent,vol.overwrite,pool.same_identity",),
        jobs=2,
        seed=7,
        quiet=True,
        ledger=tmp_path / "ledger",
    )
    verdict = run_suite("", pool, options)

    results = {o.check.id: o.result for o in verdict.outcomes if o.result is not Result.NOT_RUN}
    assert {results[c] for c in ("snap.idempotent", "vol.overwrite", "pool.same_identity")} == {Result.PASS}
    assert "leak.volumes" in results
    assert verdict.count(Result.NOT_RUN) > 50
    assert verdict.seed == 7
    assert 1 <= len(verdict.run.split(",")) <= 2
    assert not list((tmp_path / "ledger").iterdir())


@pytest.mark.real
def test_driver_in_the_suites_process(pool: Path, tmp_path: Path) -> None:
    """For a debugger the driver runs in process; what needs to kill it says that it does not apply."""
    options = RunOptions(
        select=("vol.overwrite,crash.delete_volume",),
        in_process=True,
        quiet=True,
        ledger=tmp_path / "ledger",
    )
    found = {o.check.id: o for o in run_suite("", pool, options).outcomes}

    assert found["vol.overwrite"].result is Result.PASS
    assert found["crash.delete_volume"].result is Result.NOT_APPLICABLE
    assert "--in-process" in found["crash.delete_volume"].message


def test_mutation_score_is_shipped() -> None:
    """The score that reports print names checks that exist."""
    import bollard.conformance as package

    score = json.loads((Path(package.__file__).parent / "mutation_score.json").read_text())
    known = {c.id for c in (*all_checks(), *RUN_CHECKS)}
    assert set(score["by_check"]) <= known
