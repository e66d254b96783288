"""The tutorial's driver stays true: examples/zenith passes tier smoke against the array simulator.

It is installed with pip into a directory of its own (no network), and judged in a child process.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bollard.conformance.scaffold.write import Kind, write_package
from bollard.simulators.array import ArraySimulator, Defect

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "zenith"
PACKAGE = EXAMPLE / "src" / "zenith_bollard"
PAGE = ROOT / "docs" / "conformance-tutorial.md"
PUBLIC = ("bollard.core.spi", "bollard.transfer_objects")
WRITTEN = {"README.md", "zenith.toml", "src/zenith_bollard/driver.py", "src/zenith_bollard/options.py"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where zenith-bollard is installed."""
    home = tmp_path_factory.mktemp("zenith")
    source, target = home / "source", home / "site"  # a copy: setuptools builds beside the source
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    command += ["--no-deps", "--no-build-isolation", "--target", str(target), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return target


@pytest.fixture
def array(tmp_path: Path) -> Iterator[ArraySimulator]:
    """An array with one empty pool."""
    with ArraySimulator(tmp_path / "array", pools={"pool-a": 64 << 30}, tls=False) as running:
        yield running


def _config(array: ArraySimulator, home: Path) -> Path:
    """Write the example's configuration with this array's address and password."""
    (home / "password").write_text(array.admin_password, encoding="utf-8")
    text = (EXAMPLE / "zenith.toml").read_text(encoding="utf-8")
    text = text.replace("http://127.0.0.1:8480", array.url)
    text = text.replace("../array/admin-password", str(home / "password"))
    path = home / "zenith.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _judged(site: Path, config: Path, *words: str) -> dict[str, Any]:
    """Run the suite as a vendor does, and return the content of its result.json."""
    output = config.with_suffix(".json")
    command = [sys.executable, "-c", "from bollard.cli import main; main()", "conformance", "run"]
    command += [f"--config={config}", f"--output={output}", f"--ledger={config.parent / 'ledger'}", *words]
    done = subprocess.run(
        command,
        cwd=config.parent,
        env=os.environ | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert output.exists(), done.stdout + done.stderr
    result: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return result | {"exit": done.returncode}


def _failures(result: dict[str, Any]) -> dict[str, str]:
    return {c["id"]: c["message"] for c in result["checks"] if c["result"] in ("fail", "error")}


@pytest.mark.slow
@pytest.mark.timeout(300)  # tier smoke runs in it
def test_it_passes_smoke(site: Path, array: ArraySimulator, tmp_path: Path) -> None:
    """Tier smoke fails nowhere, ends with code 0, and refuses only what the driver does not declare."""
    result = _judged(site, _config(array, tmp_path), "--tier", "smoke")

    assert _failures(result) == {}
    assert result["exit"] == 0
    assert result["verdict"].startswith("INCOMPLETE (tier smoke): zenith (zenith-bollard 0.1.0): ")
    assert result["counts"]["pass"] >= 60


@pytest.mark.slow
def test_page_shows_the_failure_of_a_broken_array(site: Path, array: ArraySimulator, tmp_path: Path) -> None:
    """The defect that the page switches on fails the check that it names, with the words that it shows."""
    array.defects.set(Defect.SNAPSHOT_NOT_POINT_IN_TIME)

    result = _judged(site, _config(array, tmp_path), "--select", "snap.point_in_time")

    message = _failures(result)["snap.point_in_time"]
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert result["exit"] == 10
    assert "holds generation 2, newer than the expected 1" in message
    assert message.partition("holds")[2].splitlines()[0] in page


def test_it_is_what_the_scaffold_writes(tmp_path: Path) -> None:
    """What the vendor had no reason to touch is as `bollard new-driver` writes it today."""
    files = write_package("zenith", Kind.MANAGED, tmp_path / "fresh")

    assert {str(f) for f in files if not (EXAMPLE / f).is_file()} == set()
    changed = {str(f) for f in files if (EXAMPLE / f).read_text() != (tmp_path / "fresh" / f).read_text()}
    assert changed <= WRITTEN


def test_driver_is_small_and_uses_public_imports_only() -> None:
    """The driver has fewer than 250 lines; of Bollard it imports the interface and the transfer objects."""
    used = {
        f"{node.module}.{name.name}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bollard")
        for name in node.names
    }

    assert len((PACKAGE / "driver.py").read_text(encoding="utf-8").splitlines()) < 250
    assert {name for name in used if not name.startswith(PUBLIC)} - {"bollard.core.spi"} == set()
