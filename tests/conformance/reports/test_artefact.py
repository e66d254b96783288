"""The artefact's hash follows the code of a distribution, and nothing else."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bollard.conformance.artefact import artefact_of
from bollard.core.spi import NotFound

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """A function that lays out an installed distribution `umbrella`, as pip does, and returns its root."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def lay_out(*, editable: bool = False, record: bool = True) -> Path:
        package, info = tmp_path / "umbrella_bollard", tmp_path / "umbrella-1.0.dist-info"
        (package / "templates").mkdir(parents=True)
        info.mkdir()
        files = {
            package / "__init__.py": "X = 1\n",
            package / "driver.py": "Y = 2\n",
            package / "templates" / "page.txt": "text\n",
            info / "METADATA": "Metadata-Version: 2.1\nName: umbrella\nVersion: 1.0\n",
            info / "entry_points.txt": "[bollard.drivers]\numbrella = umbrella_bollard.driver:Driver\n",
            info / "direct_url.json": json.dumps({"url": "file:///x", "dir_info": {"editable": editable}}),
        }
        for path, text in files.items():
            path.write_text(text)
        recorded = [info / "METADATA"] if editable else list(files)
        lines = [f"{p.relative_to(tmp_path).as_posix()},," for p in recorded]
        if record:
            (info / "RECORD").write_text(
                "\n".join([*lines, "../../bin/umbrella,,", "umbrella_bollard/x.pyc,,"])
            )
        importlib.invalidate_caches()
        return package

    return lay_out


def test_code_decides(install: Install) -> None:
    """Each change of a file changes the hash; putting it back gives the old one."""
    package = install()
    before = artefact_of("umbrella")
    (package / "templates" / "page.txt").write_text("other\n")
    changed = artefact_of("umbrella")
    (package / "templates" / "page.txt").write_text("text\n")

    assert len(before) == 64
    assert changed != before
    assert artefact_of("umbrella") == before


def test_what_an_installation_adds_does_not_count(install: Install) -> None:
    """Byte code, scripts and pip's own notes differ between two installations, and the hash does not."""
    package = install()
    before = artefact_of("umbrella")
    (package / "x.pyc").write_bytes(b"byte code")
    (package.parent / "umbrella-1.0.dist-info" / "METADATA").write_text(
        "Name: umbrella\nVersion: 1.0\nX: 1\n"
    )

    assert artefact_of("umbrella") == before


def test_editable_installation_of_the_same_files(install: Install) -> None:
    """An editable installation has the hash of a wheel with the same files; caches do not count."""
    package = install(editable=True)
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "driver.cpython-311.pyc").write_bytes(b"x")
    (package / ".hidden").write_text("x")
    editable = artefact_of("umbrella")
    # The same files, as a wheel would have brought them.
    info = package.parent / "umbrella-1.0.dist-info"
    (info / "direct_url.json").unlink()
    names = ["__init__.py", "driver.py", "templates/page.txt"]
    (info / "RECORD").write_text("\n".join(f"umbrella_bollard/{name},," for name in names))
    importlib.invalidate_caches()

    assert artefact_of("umbrella") == editable


def test_a_repository_that_is_its_package(install: Install) -> None:
    """Beside a pyproject.toml only what Python would import counts: reports written there change nothing."""
    package = install(editable=True)
    (package / "pyproject.toml").write_text("[project]\n")
    before = artefact_of("umbrella")
    (package / "report.html").write_text("<html>")
    (package / "templates" / "more.txt").write_text("no package")
    after_reports = artefact_of("umbrella")
    (package / "driver.py").write_text("Y = 3\n")

    assert after_reports == before
    assert artefact_of("umbrella") != before


def test_our_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The drivers of Bollard itself have one hash, the same in every process and directory."""
    code = "from bollard.conformance.artefact import artefact_of; print(artefact_of('qcow2'))"
    command = [sys.executable, "-c", code]
    elsewhere = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, cwd=tmp_path)

    assert elsewhere.stdout.strip() == artefact_of("array")


def test_no_distribution() -> None:
    """A driver that was registered in process belongs to no distribution."""
    assert artefact_of("nobody-offers-this") == ""


def test_no_list_of_files(install: Install) -> None:
    """A distribution without RECORD (egg-info in a source tree) has the hash of its package's files."""
    package = install(record=False)
    without = artefact_of("umbrella")
    names = ["__init__.py", "driver.py", "templates/page.txt"]
    record = package.parent / "umbrella-1.0.dist-info" / "RECORD"
    record.write_text("\n".join(f"umbrella_bollard/{name},," for name in names))
    importlib.invalidate_caches()

    assert len(without) == 64
    assert artefact_of("umbrella") == without


def test_no_files(install: Install) -> None:
    """A distribution whose files are gone cannot be hashed, and says so."""
    shutil.rmtree(install(record=False))
    importlib.invalidate_caches()

    with pytest.raises(NotFound, match="umbrella"):
        artefact_of("umbrella")
