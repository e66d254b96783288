"""An archive as each version of the format wrote it; all of them must restore for ever.

archive-v1.zip and -v2.zip hold the keys of the volume "vol-golden" and are never written again: `write` is
here for the tests, which compare what today's writer makes with the newest, byte for byte.

    moment      block 0       64 KiB        200 KiB      the rest of 256 KiB
    full        generation 1  generation 1  generation 1 zeros
    increment   generation 1  generation 2  zeros        zeros
"""

from __future__ import annotations

import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...core.archive import Archive, CreateOptions, Timing
from ...core.dataplane import FileSource
from ...core.spi import Call, ImageStoreDriver
from .. import pattern

ARCHIVES = {version: Path(__file__).with_name(f"archive-v{version}.zip") for version in (1, 2)}
VOLUME = "vol-golden"
SIZE = 256 * 1024
_KIB = 1024
# Where a block of which generation lies, moment by moment.
MOMENTS: dict[str, dict[int, int]] = {
    "full": {0: 1, 64 * _KIB: 1, 200 * _KIB: 1},
    "increment": {0: 1, 64 * _KIB: 2},
}


def disk(moment: str) -> bytes:
    """Return what the disk holds at a moment."""
    data = bytearray(SIZE)
    for at, generation in MOMENTS[moment].items():
        data[at : at + pattern.BLOCK] = pattern.block(VOLUME, at, generation)
    return bytes(data)


def objects(version: int) -> dict[str, bytes]:
    """Return the objects of the golden archive of a version by key."""
    with zipfile.ZipFile(ARCHIVES[version]) as archive:
        return {name: archive.read(name) for name in sorted(archive.namelist())}


def write(store: ImageStoreDriver[Any], work: Path, call: Call) -> None:
    """Write the same snapshots with today's code; every id and time is fixed."""
    attempts = iter(("a1", "a2"))
    archive = Archive(
        store, writer="golden", clock=lambda: 1e9, new_attempt=lambda: next(attempts), timing=Timing(lease=60)
    )
    options = CreateOptions(
        window_size=64 * _KIB,
        granule=4 * _KIB,
        created=datetime(2026, 1, 2, tzinfo=UTC),
        origin="golden",
    )
    parent = None
    for moment in MOMENTS:
        path = work / moment
        path.write_bytes(disk(moment))
        with FileSource.open(path) as source:
            archive.create(source, call, volume=VOLUME, snapshot=moment, parent=parent, options=options)
        parent = moment
