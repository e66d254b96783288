"""The archive in tests/archive/golden was written by the first version; it must be readable for ever.

python tests/archive/test_archive_golden.py     writes it anew (only for a new format version)
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

GOLDEN = Path(__file__).parent / "golden"
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


@pytest.fixture
def golden(tmp_path: Path) -> Iterator[Archive]:
    """A copy of the archive in the repository (opening a store writes to it)."""
    shutil.copytree(GOLDEN, tmp_path / "golden")
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
def test_golden_is_rescued(kit, tmp_path, script):
    """Today's emergency scripts restore it, too."""
    path = GOLDEN.parents[2] / "core" / "archive" / script
    run = [sys.executable] if script.endswith(".py") else ["sh"]
    arguments = [path, GOLDEN, "vol-golden", "second-increment", tmp_path / "disk.img"]
    subprocess.run([*run, *arguments], check=True, timeout=60, capture_output=True)
    assert (tmp_path / "disk.img").read_bytes() == contents(kit)["second-increment"]


def test_todays_writer_makes_the_same_bytes(kit, tmp_path):
    """The same input gives the same archive: file by file, byte by byte."""
    write(kit, tmp_path)

    def files(root: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted((root / "v1").rglob("*"))
            if path.is_file()
        }

    assert files(tmp_path) == files(GOLDEN)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    import inline  # type: ignore[import-not-found]  # only here on the path
    import ram  # type: ignore[import-not-found]  # idem

    write(SimpleNamespace(**vars(inline), Ram=ram.Ram), GOLDEN)
