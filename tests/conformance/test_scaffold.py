"""`bollard new-driver` writes a package that is right at once, and never touches what is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from backends import started
from bollard.conformance.scaffold.write import LONGEST, Kind, write_package
from bollard.core.spi import Conflict, InvalidArgument
from catalogue import Mutant

ROOT = Path(__file__).parents[2]


def _run(*command: str | Path, cwd: Path, seconds: int = 120, **environment: str) -> str:
    """Run a command that must succeed, and return what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | {"COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _bollard(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bollard", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(Kind))
def test_scaffold_passes_at_once(tmp_path: Path, kind: Kind) -> None:
    """Installed, the package passes its own test, which runs the static tier, and mypy --strict."""
    home, site = tmp_path / "package", tmp_path / "site"
    write_package("acme-2", kind, home)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    _run(*pip, "--no-deps", "--no-build-isolation", "--target", site, home, cwd=tmp_path)

    told = _run(sys.executable, "-m", "pytest", "-q", cwd=home, PYTHONPATH=str(site))
    assert "1 passed" in told
    # Of an installed Bollard mypy reports nothing; here its sources are editable.
    mypy = [
        sys.executable,
        "-m",
        "mypy",
        "--follow-imports=silent",
        f"--cache-dir={tmp_path / 'mypy'}",
        "src",
    ]
    assert "Success" in _run(*mypy, cwd=home, MYPYPATH=str(ROOT / ".typing"))


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.timeout(600)
def test_the_whole_driver_is_a_driver(tmp_path: Path) -> None:
    """What kind `array` writes does what Bollard's own driver does: tier smoke finds nothing."""
    home, site = tmp_path / "package", tmp_path / "site"
    write_package("nimbus", Kind.ARRAY, home)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    _run(*pip, "--no-deps", "--no-build-isolation", "--target", site, home, cwd=tmp_path)
    with started(
        Mutant(id="none", backend="array", killed_by=(), field_bug=""), _made(tmp_path / "b")
    ) as target:
        replace(target, driver="nimbus").write(tmp_path / "n.toml", disruptive=False)
        suite = [sys.executable, "-m", "bollard", "conformance", "run", "--tier", "smoke", "--json"]
        options = ["--config", tmp_path / "n.toml", "--ledger", tmp_path / "ledger"]
        # 20 s on a quiet machine; beside two whole suites it once took more than 120.
        told = _run(*suite, *options, cwd=tmp_path, seconds=500, PYTHONPATH=str(site))
    result = json.loads(told)

    assert result["counts"]["fail"] == result["counts"]["error"] == 0
    assert result["counts"]["pass"] > 60


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("name", ["a", "x" * LONGEST])
def test_scaffold_is_clean(tmp_path: Path, name: str, kind: Kind) -> None:
    """Whatever the length of the name, ruff finds nothing to say and nothing to format."""
    files = write_package(name, kind, tmp_path / "package")

    ruff = [sys.executable, "-m", "ruff"]
    _run(*ruff, "check", "--no-cache", ".", cwd=tmp_path / "package")
    _run(*ruff, "format", "--no-cache", "--check", ".", cwd=tmp_path / "package")
    assert len(files) == (22 if kind is Kind.ARRAY else 9)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["package"]


@pytest.mark.parametrize(
    "name", ["", "Acme", "2nd", "a_b", "a--b", "-a", "a-", "../a", "a/b", "a\n", "x" * (LONGEST + 1)]
)
def test_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    """What cannot be a module, a class and a file name is no name of a driver, and nothing is written."""
    with pytest.raises(InvalidArgument, match="cannot be called"):
        write_package(name, Kind.HOST, tmp_path / "package")

    assert list(tmp_path.iterdir()) == []


def test_installed_name_is_refused(tmp_path: Path) -> None:
    """A name that an installed driver has is taken."""
    with pytest.raises(Conflict, match="installed already"):
        write_package("nfs", Kind.HOST, tmp_path / "package")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A directory with a file in it, a file and a link stay as they are; an empty directory is used."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")

    for taken in ("full", "file", "link"):
        with pytest.raises(Conflict, match="nothing is overwritten"):
            write_package("acme-2", Kind.HOST, tmp_path / taken)
    write_package("acme-2", Kind.IMAGE_STORE, tmp_path / "empty")

    assert (tmp_path / "full" / "notes").read_text() == (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / "empty" / "pyproject.toml").is_file()
    assert not list(tmp_path.glob("*.new"))


def test_command_tells_what_comes_next(tmp_path: Path) -> None:
    """`bollard new-driver` lists its files and the next commands; a second time it refuses with code 5."""
    first = _bollard("new-driver", "acme-2", "--kind", "host", cwd=tmp_path)
    again = _bollard("new-driver", "acme-2", "--json", cwd=tmp_path)
    other = _bollard("new-driver", "acme-3", "--directory", "there", "--json", cwd=tmp_path)

    assert "acme-2-bollard/src/acme_2_bollard/driver.py" in first.stdout
    assert "--driver acme-2 --tier static" in first.stdout
    assert (first.returncode, again.returncode, other.returncode) == (0, 5, 0)
    assert json.loads(other.stdout)["directory"] == "there"


def test_static_tier_opens_nothing(tmp_path: Path) -> None:
    """`--tier static` needs no options, and runs the static checks alone."""
    done = _bollard("conformance", "run", "--driver", "qcow2", "--tier", "static", "--json", cwd=tmp_path)
    result = json.loads(done.stdout)

    assert done.returncode == 0
    assert len(result["checks"]) == 18
    assert all(check["id"].startswith("static.") for check in result["checks"])
