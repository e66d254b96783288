"""`bollard doctor`, `bollard drivers`, `bollard conformance run`: what is here, and is it any good."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest

from bollard.core.plugins import load_driver
from bollard.core.spi import parse_options

OURS = ("array", "nfs", "qcow2", "s3", "swift")
BROKEN = '''
import bollard.core.spi as spi
from bollard.drivers.secondary.nfs import NfsDriver, NfsOptions

class Forgetful(NfsDriver):
    """A store that loses the last byte of everything."""
    Options = NfsOptions
    def get(self, key, call, *, offset=0, length=None):
        data = b"".join(super().get(key, call, offset=offset, length=length))
        yield data[:-1]
'''


def _finding(done, check: str) -> dict[str, str]:
    [found] = [row for row in done.json if row["check"] == check]
    return found


def test_doctor_names_what_a_store_needs(bollard, monkeypatch):
    """Each client of a store has a line with its version, or with what to install."""
    done = bollard("doctor", "--json")
    assert _finding(done, "python-swiftclient")["found"]
    monkeypatch.setattr("bollard.cli.doctor._PACKAGES", (("no-such-client", "far stores", "bollard[far]"),))
    missing = _finding(bollard("doctor", "--json"), "no-such-client")
    assert (missing["state"], missing["advice"]) == ("missing", "for far stores: pip install bollard[far]")


def test_doctor_of_a_good_machine(bollard):
    """Everything that the tests need is found with its version, and the configuration is read."""
    done = bollard("doctor", "--json")

    assert done.code == 0
    assert _finding(done, "qemu-img")["found"][0].isdigit()
    assert _finding(done, "configuration")["found"].endswith("2 pools, 1 stores")
    assert {f"driver {name}" for name in OURS} <= {row["check"] for row in done.json}
    assert bollard("doctor").code == 0


def test_doctor_names_missing_tools_with_their_package(bollard, home, monkeypatch):
    """With an empty PATH each tool is missing, and the advice says what to install."""
    monkeypatch.setenv("PATH", str(home / "pool"))
    done = bollard("doctor", "--json")

    for tool, package in (("qemu-img", "qemu-utils"), ("qemu-nbd", "qemu-utils"), ("unzip", "unzip")):
        found = _finding(done, tool)
        assert found["state"] == "missing"
        assert package in found["advice"]


def test_doctor_survives_a_tool_that_does_not_run(bollard, home, monkeypatch):
    """A broken binary is told as what it is."""
    tools = home / "tools"
    tools.mkdir()
    (tools / "qemu-img").write_text("no program")
    (tools / "qemu-img").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))

    assert "does not run" in _finding(bollard("doctor", "--json"), "qemu-img")["found"]


@pytest.mark.parametrize("text", ["[pools", "[pools.x]\n", "colour = 1\n"])
def test_doctor_of_a_bad_configuration(bollard, home, text):
    """Exit code 1, with the place and the rule."""
    (home / "bad.toml").write_text(text)
    done = bollard("--config", home / "bad.toml", "doctor", "--json")

    assert done.code == 1
    found = _finding(done, "configuration")
    assert found["state"] == "bad"
    assert str(home / "bad.toml") in found["advice"]


def test_doctor_without_a_configuration(bollard, home, monkeypatch):
    """None at all is no illness: it says where to write one. One that was named and is missing is."""
    monkeypatch.setenv("BOLLARD_CONFIG", str(home / "none.toml"))
    done = bollard("doctor", "--json")

    assert done.code == 0
    assert str(home / "none.toml") in _finding(done, "configuration")["advice"]
    assert bollard("--config", home / "none.toml", "doctor").code == 1


def test_drivers_are_listed(bollard):
    """Each with its distribution and capabilities."""
    rows = {row["name"]: row for row in bollard("drivers", "--json").json}

    assert set(OURS) <= set(rows)
    assert rows["array"]["kind"] == "managed"
    assert "changed_blocks" in rows["array"]["capabilities"]
    assert all(rows[name]["error"] == "" for name in OURS)
    assert "changed_blocks" in bollard("drivers").out


@pytest.mark.parametrize("name", OURS)
def test_options_of_a_driver(bollard, name):
    """The template is TOML that fits the schema and the driver; it asks for secrets by reference."""
    template = tomllib.loads(bollard("drivers", "--options", name).out)
    schema = bollard("drivers", "--options", name, "--json").json
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(template, schema)

    assert set(schema["required"]) <= set(template)
    secrets = [key for key, rules in schema["properties"].items() if rules.get("writeOnly")]
    assert all(isinstance(template[key], dict) for key in secrets if key in template)
    cls = load_driver(name)
    assert parse_options(cls.Options, template | dict.fromkeys(secrets, "s3cret"))


# -- conformance --------------------------------------------------------------------------------------


@pytest.fixture
def broken(home) -> Path:
    """A directory with an installed distribution whose driver is broken."""
    site = home / "site"
    info = site / "forgetful-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: forgetful\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bollard.drivers]\nforgetful = forgetful:Forgetful\n")
    (site / "forgetful.py").write_text(BROKEN)
    (home / "forgetful.toml").write_text(
        f'driver = "forgetful"\ntest_pool = true\n[options]\npath = "{home}/store"\n'
    )
    return site


def test_conformance_of_a_broken_driver(home, broken, monkeypatch):
    """Exit code 10, a verdict on standard output, and both reports with the failed check."""
    monkeypatch.setenv("PYTHONPATH", str(broken))
    command = [sys.executable, "-m", "bollard", "conformance", "run", "--config", home / "forgetful.toml"]
    reports = ["--json", "--output", home / "result.json", "--junit", home / "junit.xml"]
    done = subprocess.run(
        [*command, *reports, "--select", "store.put_get_delete"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    result = json.loads(done.stdout)

    assert done.returncode == 10, done.stderr
    assert json.loads((home / "result.json").read_text()) == result
    assert result["conformant"] is False
    assert result["distribution"] == "forgetful 1.0"
    failed = [check["id"] for check in result["checks"] if check["result"] == "fail"]
    assert failed
    assert failed[0] in (home / "junit.xml").read_text()


def test_conformance_of_a_good_driver(bollard, home):
    """Exit code 0 and the verdict in one line, which says that only a part was run."""
    (home / "nfs.toml").write_text(f'driver = "nfs"\ntest_pool = true\n[options]\npath = "{home}/store"\n')
    done = bollard("conformance", "run", "--config", home / "nfs.toml", "--select", "store.range_reads")

    assert done.code == 0
    assert "INCOMPLETE (tier standard): nfs (bollard" in done.out


def test_conformance_without_a_check_is_no_success(bollard, home):
    """A selection that matches nothing proves nothing."""
    (home / "nfs.toml").write_text(f'driver = "nfs"\ntest_pool = true\n[options]\npath = "{home}/store"\n')
    done = bollard("conformance", "run", "--config", home / "nfs.toml", "--select", "nonsense")

    assert done.code == 2
    assert "no check is called 'nonsense'" in done.err
