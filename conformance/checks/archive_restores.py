"""Ways out of the archive: without Bollard, into other volumes, in part; and what archiving costs."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...core.archive import Archive
from ...core.snapshots import VolumeSnapshots
from ...core.spi import Snapshots
from .. import pattern
from ..lab import MIB, Lab, must, not_applicable
from ..model import Level, Tier
from ..registry import check
from ._archives import SIZE, archive_snapshot, archived, cut, dense, read_object, stored_keys

_RESCUE = ("RESTORE.sh", "RESTORE.py", "README.txt")
_TOOLS = ("sh", "awk", "sed", "unzip", "sha256sum", "dd")


@check("arc.restore_with_standard_tools", rule="snap.point-in-time", needs=(Snapshots,), tier=Tier.STANDARD)
def check_restore_with_standard_tools(lab: Lab) -> None:
    """The script that lies in the archive restores the snapshot with sh, awk, unzip, sha256sum and dd alone.

    For the day on which there is neither Bollard nor the storage that wrote it.
    """
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        not_applicable(f"this machine has no {', '.join(missing)}")
    of = archived(lab)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for key in (*_RESCUE, *stored_keys(lab, of.volume.id)):
            target = directory / key
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(read_object(lab, key))
        image = directory / "image.raw"
        script = directory / "RESTORE.sh"
        command = ["sh", str(script), str(directory), of.volume.id, of.snapshot, str(image)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        must(done.returncode == 0, f"the script failed: {done.stderr.strip()}")
        wanted = pattern.blocks(of.volume.id, 0, SIZE, 1)
        must(image.read_bytes() == wanted, "the script restored other bytes than were archived")


@check("arc.restore_to_larger", rule="snap.point-in-time", needs=(Snapshots,), tier=Tier.STANDARD)
def check_restore_to_larger(lab: Lab) -> None:
    """A snapshot restores into a larger volume: its bytes, and what the volume had behind them."""
    of = archived(lab)
    target = lab.volume(2 * SIZE)
    with lab.mover.writing_volume(lab.pool, target.id) as sink:
        sink.write(SIZE, pattern.block(target.id, SIZE, 7))
        of.archive.restore(sink, lab.call(), volume=of.volume.id, snapshot=of.snapshot)
    lab.verify(target.id, dense(), owner=of.volume.id)
    lab.verify(target.id, {SIZE: 7, SIZE + MIB: None})


@check("arc.restore_window_range_only", rule="vol.data", needs=(Snapshots,), tier=Tier.STANDARD)
def check_restore_window_range_only(lab: Lab) -> None:
    """Restoring a range writes that range, at its own place, and nothing beside it."""
    of = archived(lab)
    lab.write(of.volume, 2)
    with lab.mover.writing_volume(lab.pool, of.volume.id) as sink:
        of.archive.restore(
            sink,
            lab.call(),
            volume=of.volume.id,
            snapshot=of.snapshot,
            offset=2 * MIB,
            length=2 * MIB,
        )
    overwritten: dict[int, int | None] = dict.fromkeys(range(0, SIZE, 2 * MIB), 2)
    between: dict[int, int | None] = dict.fromkeys(range(MIB, SIZE, 2 * MIB), 1)
    inside: dict[int, int | None] = dict.fromkeys(range(2 * MIB, 4 * MIB, 256 * 1024), 1)
    lab.verify(of.volume.id, overwritten | between | inside)


@contextmanager
def _timed() -> Iterator[list[float]]:
    """Yield a list that holds the seconds afterwards."""
    began, taken = time.monotonic(), list[float]()
    yield taken
    taken.append(time.monotonic() - began)


@check(
    "arc.throughput",
    rule="snap.point-in-time",
    needs=(Snapshots,),
    level=Level.MEASURE,
    tier=Tier.STANDARD,
)
def check_throughput(lab: Lab) -> None:
    """How fast a dense volume is archived and restored, through the driver and the store as configured.

    One small volume: the figure has the set-up of the temporary clone and of the connections in it.
    """
    (volume, snapshot), archive = cut(lab), Archive(lab.archive_store)
    with _timed() as to_archive:
        archive_snapshot(lab, archive, volume.id, snapshot, lab.call())
    service = VolumeSnapshots(pool=lab.pool, archive=archive, mover=lab.mover)
    with _timed() as to_restore:
        service.restore(volume.id, snapshot, lab.new_id(), lab.call())
    lab.notes.measure("archive", SIZE / MIB / to_archive[0], "MiB/s")
    lab.notes.measure("restore", SIZE / MIB / to_restore[0], "MiB/s")


@check(
    "arc.memory_high_water",
    rule="snap.point-in-time",
    needs=(Snapshots,),
    level=Level.MEASURE,
    tier=Tier.DEEP,
)
def check_memory_high_water(lab: Lab) -> None:
    """How much memory archiving takes at most, in this process; it must not grow with the volume."""
    series = []
    for size in (16 * MIB, 64 * MIB, 256 * MIB):
        volume = lab.volume(size)
        lab.write(volume, 1)
        snapshot = lab.snapshot(volume.id)
        _forget_peak()
        archive_snapshot(lab, Archive(lab.archive_store), volume.id, snapshot.id, lab.call(300))
        series.append((size / MIB, _peak_memory()))
    lab.notes.measure("peak memory", series[-1][1], "MiB", series=tuple(series))


def _forget_peak() -> None:
    """Let the kernel begin its high-water mark anew (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_memory() -> float:
    """Return this process's high-water mark of resident memory, in MiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
