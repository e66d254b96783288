"""junit.xml, the badges and the bundle say what the verdict says, and no file ever holds a secret."""

from __future__ import annotations

import base64
import io
import json
import re
import urllib.parse
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bollard.conformance.model import CallRecord, Result, Tier, Verdict
from bollard.conformance.reports import junit_xml, write_reports
from bollard.core.redact import Redactor
from bollard.core.spi import Internal
from bollard.transfer_objects.secret import Secret

Maker = Callable[..., Verdict]
CHECK = "vol.new_reads_zero"
FILES = {"result.json", "junit.xml", "report.html", "badge.svg", "badge.json", "evidence.zip"}


def _contrast_with_white(colour: str) -> float:
    def linear(value: int) -> float:
        part = value / 255
        return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(int(colour[i : i + 2], 16)) for i in (1, 3, 5))
    return 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05)


def _child(case: ET.Element, tag: str) -> ET.Element:
    found = case.find(tag)
    assert found is not None
    return found


def _properties(case: ET.Element) -> dict[str | None, str | None]:
    return {p.get("name"): p.get("value") for p in case.iter("property")}


def test_junit_counts_and_words(make_verdict: Maker) -> None:
    """Each result becomes what CI systems call it, with its message, rule and level."""
    change = {
        CHECK: {"result": Result.ERROR, "message": "no space left"},
        "vol.size_seen": {"result": Result.KNOWN_FAIL, "message": "too small", "ticket": "ACME-1"},
    }
    root = ET.fromstring(junit_xml(make_verdict(broken=True, change=change)))  # noqa: S314 - written a line above
    suite = root[0]
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    failed = cases["vol.list_complete"]
    known = cases["vol.size_seen"]

    assert (suite.get("failures"), suite.get("errors"), suite.get("tests")) == ("1", "1", str(len(cases)))
    assert _child(failed, "failure").get("message", "").startswith("100 volumes are listed")
    assert _child(cases[CHECK], "error").text == "no space left"
    assert _child(known, "skipped").get("message") == "known-fail: too small"
    assert _properties(known)["ticket"] == "ACME-1"
    assert _properties(failed) == {"rule": "vol.list-complete", "level": "must", "tier": "standard"}


def test_junit_survives_hostile_text(make_verdict: Maker) -> None:
    """Characters that XML forbids are told by name, so that every parser reads the file."""
    hostile = "a\x00b\x1b[31m\ud800\uffff ]]> <failure> & \u202e"
    change = {CHECK: {"result": Result.FAIL, "message": hostile}}
    root = ET.fromstring(junit_xml(make_verdict(change=change, driver=hostile)))  # noqa: S314 - written here

    assert _child(root, ".//failure").get("message") == (
        "a[U+0000]b[U+001B][31m[U+D800][U+FFFF] ]]> <failure> & \u202e"
    )


@pytest.mark.parametrize(
    ("fields", "word"),
    [({}, "conformant"), ({"broken": True}, "not conformant"), ({"tier": Tier.SMOKE}, "incomplete")],
)
def test_badges(make_verdict: Maker, tmp_path: Path, fields: dict[str, object], word: str) -> None:
    """Both badges say the verdict in words, for screen readers, too, in a colour that can be read."""
    write_reports(make_verdict(**fields), tmp_path)
    badge = json.loads((tmp_path / "badge.json").read_bytes())
    svg = ET.parse(tmp_path / "badge.svg").getroot()  # noqa: S314 - written a line above
    texts = [t.text for t in svg.iter("{http://www.w3.org/2000/svg}text")]

    assert (badge["schemaVersion"], badge["label"], badge["message"]) == (1, "Bollard", word)
    assert (svg.get("role"), svg.get("aria-label")) == ("img", f"Bollard: {word}")
    assert texts == ["Bollard", word]
    assert _contrast_with_white(badge["color"]) > 4.5


def test_bundle(make_verdict: Maker, tmp_path: Path) -> None:
    """The bundle holds reports, calls, scripts, logs and environment, and the same bytes each time."""
    log = tmp_path / "host-1.log"
    log.write_text("driver host started\n")
    for name in ("one", "two"):
        write_reports(make_verdict(broken=True), tmp_path / name, logs=[log, tmp_path / "gone.log"])
    with zipfile.ZipFile(tmp_path / "one" / "evidence.zip") as bundle:
        names = set(bundle.namelist())
        calls = bundle.read("evidence/vol.list_complete.jsonl").splitlines()
        script = bundle.read("reproducers/vol.list_complete.py").decode()
        assert bundle.read("result.json") == (tmp_path / "one" / "result.json").read_bytes()
        assert bundle.read("logs/02-host-1.log") == b"driver host started\n"
        assert b"could not be read: No such file" in bundle.read("logs/01-gone.log")

    assert {p.name for p in (tmp_path / "one").iterdir()} == FILES
    assert names >= {"result.json", "report.html", "junit.xml", "environment.json"}
    assert json.loads(calls[-1])["failed"] is True
    assert "from bollard import open_pool" in script
    assert (tmp_path / "one" / "evidence.zip").read_bytes() == (
        tmp_path / "two" / "evidence.zip"
    ).read_bytes()


def test_long_log_is_cut_at_a_line(make_verdict: Maker, tmp_path: Path) -> None:
    """Of a huge log the end is kept, and no half line, which may be half a secret."""
    log = tmp_path / "host.log"
    log.write_bytes(b"".join(b"%07d 8ace5ecret\n" % i for i in range(300_000)))
    write_reports(make_verdict(), tmp_path / "out", logs=[log])
    with zipfile.ZipFile(tmp_path / "out" / "evidence.zip") as bundle:
        lines = bundle.read("logs/01-host.log").splitlines()

    assert lines[-1].startswith(b"0299999 ")
    assert re.fullmatch(rb"\d{7} 8ace5ecret", lines[0])


SECRET = Secret("h0rse/st&ple=")
ENCODED = [
    SECRET.reveal(),
    urllib.parse.quote(SECRET.reveal(), safe=""),
    base64.b64encode(b"admin:" + SECRET.reveal().encode()).decode(),
    SECRET.reveal().encode().hex(),
]


def _talkative(make_verdict: Maker, said: str) -> Verdict:
    """A verdict whose driver says something in each place where a driver has a hand in."""
    call = CallRecord(at=0.0, call=f"open({said})", seconds=0.1, answer=f"got {said}", failed=True)
    change = {
        "result": Result.FAIL,
        "message": f"login failed: {said}",
        "reproducer": f"open_pool('p', password={said!r})",
        "evidence": (call,),
    }
    return make_verdict(change={CHECK: change})


def _everything(directory: Path) -> bytes:
    with zipfile.ZipFile(io.BytesIO((directory / "evidence.zip").read_bytes())) as bundle:
        inside = b"".join(bundle.read(name) for name in bundle.namelist())
    return inside + b"".join(p.read_bytes() for p in directory.iterdir())


@pytest.mark.parametrize("said", ENCODED)
def test_secrets_are_taken_out(make_verdict: Maker, tmp_path: Path, said: str) -> None:
    """A redacted report holds the secret nowhere, in no encoding, and says *** instead."""
    log = tmp_path / "host.log"
    log.write_text(f"POST /login {said}\n")
    redactor = Redactor([SECRET])
    write_reports(
        _talkative(make_verdict, said), tmp_path / "out", redact=redactor, secrets=[SECRET], logs=[log]
    )
    written = _everything(tmp_path / "out")

    assert said.encode() not in written
    # In base64 the user's name before it stays: it is no secret.
    assert re.search(rb"login failed: \w*\*\*\*", written)
    assert re.search(rb"POST /login \w*\*\*\*", written)


def test_a_number_as_password(make_verdict: Maker, tmp_path: Path) -> None:
    """A password of four digits, which dates and hashes hold by chance, costs no report; in a log it does."""
    year = Secret("2026")
    log = tmp_path / "host.log"
    log.write_text("login with 2026\n")
    write_reports(make_verdict(), tmp_path / "out", secrets=[year])

    assert (tmp_path / "out" / "report.html").exists()
    with pytest.raises(Internal, match="logs/"):
        write_reports(make_verdict(), tmp_path / "more", secrets=[year], logs=[log])


@pytest.mark.parametrize("said", ENCODED)
def test_a_secret_that_got_through_stops_the_report(make_verdict: Maker, tmp_path: Path, said: str) -> None:
    """When the redactor misses one, nothing at all is written, and the error does not say the secret."""
    with pytest.raises(Internal, match=CHECK) as caught:
        write_reports(_talkative(make_verdict, said), tmp_path / "out", secrets=[SECRET])

    assert not (tmp_path / "out").exists()
    assert SECRET.reveal() not in str(caught.value)


def test_a_secret_in_a_log_stops_the_report(make_verdict: Maker, tmp_path: Path) -> None:
    """What the redactor missed in a log is found in the bundle, before it is compressed."""
    log = tmp_path / "host.log"
    log.write_text(ENCODED[2])

    with pytest.raises(Internal, match=r"logs/01-host\.log"):
        write_reports(make_verdict(), tmp_path / "out", secrets=[SECRET], logs=[log])


def test_an_ordinary_word_as_password(make_verdict: Maker, tmp_path: Path) -> None:
    """A password that the suite's own words hold, too, is taken out of the driver's words only."""
    word = Secret("volume")
    write_reports(_talkative(make_verdict, "my volume"), tmp_path, redact=Redactor([word]), secrets=[word])
    told = json.loads((tmp_path / "result.json").read_bytes())
    check = next(c for c in told["checks"] if c["id"] == CHECK)

    assert check["message"] == "login failed: my ***"
    assert "volume" in check["contract"]
