"""Archives that were written by each version of the format; they must be readable for ever.

    golden      version 1: parts with SHA256SUMS
    golden-2    version 2

python tests/archive/test_archive_golden.py     writes the newest anew (only for a new format version)
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bollard.core.archive import Archive, CreateOptions, Level, Timing
from bollard.core.spi import Call
from bollard.drivers.secondary.nfs import NfsDriver, NfsOptions

HERE = Path(__file__).parent
OLD, NEWEST = HERE / "golden", HERE / "golden-2"
SIZE = 3 * 65536 + 1000
SNAPSHOTS = ("full", "first-increment", "second-increment")


def contents(kit: Any) -> dict[str, bytes]:
    """What the three snapshots hold: data, text, holes, a short last granule."""
    volume, states = bytearray(SIZE), {}
    volume[4096:20000] = kit.noise(1, 15904)
    volume[65536:98304] = b"Bollard " * 4096
    volume[-500:] = kit.noise(2, 500)
    states["full"] = bytes(volume)
    volume[8192:8200] = b"changed!"
    volume[65536 + 8192 : 65536 + 16384] = bytes(8192)
    states["first-increment"] = bytes(volume)
    volume[140_000:141_000] = kit.noise(3, 1000)
    volume[-500:] = bytes(500)
    states["second-increment"] = bytes(volume)
    return states


def write(kit: Any, root: Path) -> None:
    """Write the golden archive with today's code; every id and time is fixed."""
    store = NfsDriver(NfsOptions(path=root))
    store.open(Call())
    attempts = iter(("a1", "a2", "a3"))
    archive = Archive(
        store, writer="golden", clock=lambda: 1e9, new_attempt=lambda: next(attempts), timing=Timing(lease=60)
    )
    parent = None
    for name, data in contents(kit).items():
        options = CreateOptions(
            window_size=65536, granule=4096, created=datetime(2026, 1, 2, tzinfo=UTC), origin="golden"
        )
        archive.create(
            kit.Ram(data), Call(), volume="vol-golden", snapshot=name, parent=parent, options=options
        )
        parent = name
    store.close()


@pytest.fixture(params=[OLD, NEWEST], ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archive]:
    """A copy of an archive in the repository (opening a store writes to it)."""
    shutil.copytree(request.param, tmp_path / "golden")
    store = NfsDriver(NfsOptions(path=tmp_path / "golden"))
    store.open(Call())
    yield Archive(store)
    store.close()


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_golden_restores(kit, golden, name):
    """Each snapshot verifies at every level and restores to the bytes that it was made of."""
    for level in Level:
        assert golden.verify(Call(), volume="vol-golden", snapshot=name, level=level).ok
    sink = kit.Ram(SIZE)
    golden.restore(sink, Call(), volume="vol-golden", snapshot=name)
    assert sink.data == contents(kit)[name]


@pytest.mark.parametrize("script", ["emergency.sh", "emergency.py"])
@pytest.mark.parametrize("version", [OLD, NEWEST], ids=lambda path: path.name)
def test_golden_is_rescued(kit, tmp_path, script, version):
    """Today's emergency scripts restore it, too."""
    path = HERE.parents[1] / "core" / "archive" / script
    run = [sys.executable] if script.endswith(".py") else ["sh"]
    arguments = [path, version, "vol-golden", "second-increment", tmp_path / "disk.img"]
    subprocess.run([*run, *arguments], check=True, timeout=60, capture_output=True)
    assert (tmp_path / "disk.img").read_bytes() == contents(kit)["second-increment"]


def test_an_old_chain_goes_on(kit, golden):
    """An increment to a snapshot of either version takes over its parts, and restores."""
    data = bytearray(contents(kit)["second-increment"])
    data[150_000:150_010] = b"new bytes!"
    made = golden.create(
        kit.Ram(bytes(data)), Call(), volume="vol-golden", snapshot="third", parent="second-increment"
    )
    assert len({part.layer for _, part in made.parts()}) > 1
    assert golden.verify(Call(), volume="vol-golden", snapshot="third", level=Level.IMAGE).ok
    sink = kit.Ram(SIZE)
    golden.restore(sink, Call(), volume="vol-golden", snapshot="third")
    assert sink.data == data


def test_todays_writer_makes_the_same_bytes(kit, tmp_path):
    """The same input gives the same archive: file by file, byte by byte."""
    write(kit, tmp_path)

    def files(root: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted((root / "v1").rglob("*"))
            if path.is_file()
        }

    assert files(tmp_path) == files(NEWEST)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    import inline  # type: ignore[import-not-found]  # only here on the path
    import ram  # type: ignore[import-not-found]  # idem

    write(SimpleNamespace(**vars(inline), Ram=ram.Ram), NEWEST)
