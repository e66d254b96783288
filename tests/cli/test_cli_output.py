"""How commands speak: JSON for programs, plain text for people, exit codes for both, secrets for nobody."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typer import BadParameter

from bollard.cli.output import EXIT_CODES, err, report, show, size_text, transfer
from bollard.cli.sizes import Size
from bollard.core.archive import Archive
from bollard.core.plugins import UnknownDriver
from bollard.core.spi import TAXONOMY, Call, StorageError
from bollard.core.store import open_store
from bollard.simulators.array import ArraySimulator
from bollard.transfer_objects.secret import Secret

ROOT = Path(__file__).parents[2]
PASSWORD = "canary-4711-p4ssw0rd"
UNITS = ["", "B", *(f"{unit}{tail}" for unit in "KMGT" for tail in ("", "B", "iB"))]


# -- JSON and exit codes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("pool", "create", "Not An Id", "1MiB"), 2, "invalid_argument"),
        (("pool", "resize", "vol-9", "1GiB"), 4, "not_found"),
        (("pool", "create", "vol-1", "128MiB"), 5, "conflict"),
        (("pool", "create", "vol-2", "1MiB", "--max-iops", "1"), 9, "unsupported"),
        (("pool", "volumes", "--pool", "nope"), 4, "not_found"),
        (("archive", "show", "vol-1", "nope"), 4, "not_found"),
        (("archive", "create", "vol-1", "a", "--parent", "nope"), 4, "not_found"),
        (("archive", "create", "vol-1", "a", "--parent", "a"), 2, "invalid_argument"),
        (("archive", "list", "--store", "nope"), 4, "not_found"),
        (("drivers", "--options", "nope"), 2, "plugin"),
        (("conformance", "run", "--driver", "nope"), 2, "plugin"),
        (("conformance", "run"), 2, "invalid_argument"),
    ],
)
def test_error_is_one_json_document(bollard, vol_1, arguments, code, error):
    """With --json an error is on standard output, with its class and outcome, and nothing else is."""
    done = bollard(*arguments, "--json")

    assert done.code == code
    assert set(done.json) == {"error"}
    assert done.json["error"]["code"] == error
    assert done.json["error"]["message"]
    if error != "plugin":
        assert done.json["error"]["outcome"] == "not_applied"
        assert done.json["error"]["retryable"] is False
    assert done.err == ""
    assert bollard("pool", "snapshots", "vol-1", "--json").json == []


def test_every_class_of_error_has_an_exit_code():
    """The table covers the taxonomy, and a vendor's own class is a failure inside, not a crash."""

    class Strange(StorageError):
        code = "acme_strange"

    assert set(EXIT_CODES) == {cls.code for cls in TAXONOMY}
    assert report(Strange("odd"), as_json=False) == 1
    assert report(UnknownDriver("acme", "", "unknown"), as_json=False) == 2


def test_exit_codes_are_documented():
    """docs/cli.md has exactly the codes that can be given."""
    page = (ROOT / "docs" / "cli.md").read_text()
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}

    assert documented == {0, *EXIT_CODES.values(), 10, 11, 12, 130}


def test_busy_is_exit_code_6(bollard, vol_1, home):
    """Somebody else is archiving the same snapshot: 6, and the command may be repeated."""
    store = open_store("nightly", "nfs", {"path": str(home / "store")})

    class Died(BaseException):
        pass

    def die(*_: object) -> None:
        raise Died

    bollard("pool", "snapshot", "vol-1", "monday")
    source = type("Source", (), {"size": 64 * 2**20, "extents": die, "clone": die})()
    with pytest.raises(Died):
        Archive(store, writer="somebody").create(source, Call.within(30), volume="vol-1", snapshot="monday")
    done = bollard("archive", "create", "vol-1", "monday", "--json")

    assert done.code == 6
    assert done.json["error"]["code"] == "busy"
    assert done.json["error"]["retryable"] is True


def test_unreachable_array_is_exit_code_6(bollard, home, monkeypatch):
    """Nothing listens there: 6 after the retries, with a hint."""
    monkeypatch.setattr("bollard.core.invoke.FIRST_WAIT", 0.0)
    config = home / "array.toml"
    config.write_text(_array_config("http://127.0.0.1:9", "gold"))
    config.chmod(0o600)
    done = bollard("--config", config, "pool", "volumes")

    assert done.code == 6
    assert "bollard doctor" in done.err
    assert PASSWORD not in done.out + done.err


def test_error_of_the_operating_system_is_no_traceback(bollard, vol_1, home, monkeypatch):
    """A state directory that is a file: an error with its path, not a stack of frames."""
    (home / "file").write_text("")
    monkeypatch.setenv("BOLLARD_STATE", str(home / "file"))
    done = bollard("archive", "create", "vol-1", "monday", "--json")

    assert done.code in (2, 5, 6)
    assert str(home / "file") in done.json["error"]["message"]
    assert "Traceback" not in done.err


# -- secrets ------------------------------------------------------------------------------------------


def _array_config(url: str, pool: str) -> str:
    return f"""
        [pools.gold]
        driver = "array"
        [pools.gold.options]
        url = "{url}"
        allow_http = true
        username = "admin"
        password = "{PASSWORD}"
        pool = "{pool}"
        """


def test_wrong_password_is_exit_code_7_and_stays_secret(bollard, home, tmp_path):
    """The array refuses the password; neither stream shows it, nor do the other commands."""
    config = home / "array.toml"
    with ArraySimulator(tmp_path / "array", pools={"gold": 2**30}, tls=False) as array:
        config.write_text(_array_config(array.url, "gold"))
        config.chmod(0o600)
        refused = [bollard("--config", config, "pool", "volumes", *more) for more in ((), ("--json",))]
    others = [
        bollard("--config", config, *command)
        for command in (("pool", "list"), ("doctor",), ("pool", "list", "--pool", "x"), ("archive", "list"))
    ]

    assert [done.code for done in refused] == [7, 7]
    assert "user and password" in refused[0].err
    for done in [*refused, *others]:
        assert PASSWORD not in done.out + done.err


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("password =", "passwort =", 2),
        ('"array"', '"nfs"', 2),
        ('username = "admin"', "username = 3", 2),
        ("url =", "= ", 2),
        ("[pools.gold]", "[pools.gold", 2),
        ("[pools.gold.options]", "[pools.gold.option]", 2),
    ],
)
def test_bad_configuration_does_not_show_its_secret(bollard, home, old, new, code):
    """Whatever is wrong with the file, its password is in no message."""
    config = home / "bad.toml"
    config.write_text(_array_config("http://127.0.0.1:9", "gold").replace(old, new))
    config.chmod(0o600)
    for command in (("pool", "volumes"), ("pool", "volumes", "--json")):
        done = bollard("--config", config, *command)
        assert done.code == code
        assert PASSWORD not in done.out + done.err
    doctor = bollard("--config", config, "doctor", "--json")
    assert PASSWORD not in doctor.out + doctor.err


def test_plain_secret_that_others_may_read_is_refused(bollard, home):
    """Such a file is bad input, and the message says what to do without showing it."""
    config = home / "open.toml"
    config.write_text(_array_config("http://127.0.0.1:9", "gold"))
    config.chmod(0o644)
    done = bollard("--config", config, "pool", "list")

    assert done.code == 2
    assert "chmod 600" in done.err
    assert PASSWORD not in done.err


# -- text ---------------------------------------------------------------------------------------------


def test_brackets_are_no_markup(bollard, home, capfd):
    """Names and paths with brackets appear as they are, in tables and in errors."""
    bollard("pool", "create", "vol-1", "64MiB", "--name", "[bold]web[nope]")
    assert "[bold]web[nope]" in bollard("pool", "volumes").out
    assert "[bold]web[nope]" in bollard("pool", "create", "vol-1", "64MiB", "--name", "[bold]web[nope]").out
    (home / "bad.toml").write_text("[pools.gold]\n")
    assert "[pools.gold]" in bollard("--config", home / "bad.toml", "pool", "list").err
    show({"secret": Secret(PASSWORD), "none": None, "map": {"a": 1}}, as_json=False, title="[red]")
    shown = capfd.readouterr().out
    assert "[red]" in shown
    assert "a: 1" in shown
    assert PASSWORD not in shown


def test_long_values_are_not_cut(bollard, monkeypatch):
    """What does not fit a narrow terminal is folded, so that all of it is there."""
    monkeypatch.setattr("bollard.cli.output.out._width", 40)
    bollard("pool", "create", "vol-1", "64MiB", "--name", "x" * 120)

    assert bollard("pool", "create", "vol-1", "64MiB", "--name", "x" * 120).out.count("x") == 120
    assert "…" not in bollard("pool", "show").out


@pytest.mark.parametrize("steps", [False, True])
def test_bar_shows_title_and_figures(monkeypatch, capfd, steps):
    """Somebody at a terminal sees what is done, of how much; braces in a title are harmless."""
    monkeypatch.setattr(err, "_force_terminal", True)
    monkeypatch.setattr(err, "is_interactive", True)
    monkeypatch.setattr(err, "_width", 120)
    monkeypatch.setenv("TERM", "xterm")
    deadline, seen = time.monotonic() + 20, ""
    with transfer("copying {x} [y]", quiet=False, steps=steps) as progress:
        progress(3, 4)
        while not ("copying {x} [y]" in seen and "3/4" in seen):
            assert time.monotonic() < deadline, seen
            seen += capfd.readouterr().err
    assert ("bytes" in seen) is not steps


@given(st.integers(0, 2**60), st.sampled_from(UNITS), st.booleans(), st.booleans())
def test_size_is_a_number_with_a_unit(number, unit, lower, space):
    """Any number with any of the units means that power of 1024, in either case."""
    text = f"{number}{' ' if space else ''}{unit.lower() if lower else unit}"
    power = "BKMGT".index(unit[:1].upper() or "B")

    assert Size(text) == number * 1024**power


@given(st.text())
@example("1e9")
@example("-1")
@example("1.5GiB")
@example("0x10")
@example("10 XiB")
def test_what_is_no_size_is_refused(text):
    """Any other text is bad usage, never a crash and never a guess."""
    if re.fullmatch(r"\s*\d+\s*([kmgt]?(ib|b)?)\s*", text, re.IGNORECASE):
        return
    with pytest.raises(BadParameter):
        Size(text)


@given(st.integers(0, 2**50))
def test_shown_size_is_near(size):
    """What people are shown is within 5 % of the truth, and exact if it has no decimals."""
    number, unit = size_text(size).split()
    shown = float(number) * 1024 ** ["B", "KiB", "MiB", "GiB", "TiB"].index(unit)

    assert abs(shown - size) <= size * 0.05
    assert "." in number or shown == size
