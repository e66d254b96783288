"""How fast a LUN is archived, beside reading it raw: the same LUN, in turn, in one run.

    sudo python bench/bench_lun_archive.py [MiB of data]

A real iSCSI array on loopback (tgtd, XFS, SSH), a store in a directory; both lie on one disk. Archiving is
cut, clone, grant, read, hash, compress, store, revoke, delete. Each job runs three times in turn with the
others; medians are printed, with the ratio to reading raw.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "lib"))  # where the array is
if os.geteuid():
    sys.exit(print("left out: it needs root"))

from bollard.core.access import Mover
from bollard.core.archive import Archive
from bollard.core.dataplane import BlockSource, copy, open_sink
from bollard.core.journal import Journal
from bollard.core.mover import mover_host
from bollard.core.pool import Pool
from bollard.core.snapshots import VolumeSnapshots
from bollard.core.spi import Call, FileLocation, VolumeSpec
from bollard.core.store import open_store
from bollard.drivers.primary.iscsi_ssh import IscsiSshDriver
from bollard.transfer_objects.ids import SnapshotId, VolumeId
from iscsi_rig import prepared_array, typed_options

MIB = 1024 * 1024
ROUNDS = 3
LUN = VolumeId("lun-1")


def call() -> Call:
    """Ten minutes."""
    return Call.within(600)


class Bench:
    """A LUN of four times `data` MiB with as much random data in it, and an archive."""

    def __init__(self, home: Path, data: int, stack: ExitStack) -> None:
        self.home, self.data, self.round = home, data, 0
        array = stack.enter_context(prepared_array(home, size=(16 * data + 1024) * MIB))
        self.pool = Pool("bench", IscsiSshDriver(typed_options(array)))
        stack.callback(self.pool.close)
        self.mover = Mover(host=mover_host(home), journal=Journal(home / "journal"))
        (home / "store").mkdir()
        store = open_store("bench", "nfs", {"path": str(home / "store")})
        stack.callback(store.close)
        self.archive = Archive(store)
        self.service = VolumeSnapshots(pool=self.pool, archive=self.archive, mover=self.mover)
        self.pool.volumes.create(VolumeSpec(id=LUN, size=4 * data * MIB))
        self._write([(number * MIB, MIB) for number in range(data)])

    def read_raw(self) -> None:
        """Read the data of the LUN, as a host."""
        with self.mover.reading_volume(self.pool, LUN) as source:
            read_all(source)

    def copy_raw(self) -> None:
        """Copy it to a file beside the store, flushed: what an archive costs at the least."""
        target = self.home / "copy.raw"
        target.unlink(missing_ok=True)
        with target.open("xb") as file:
            file.truncate(4 * self.data * MIB)
        with (
            self.mover.reading_volume(self.pool, LUN) as source,
            open_sink(FileLocation(path=target, format="raw")) as sink,
        ):
            copy(source, sink)
            sink.flush()

    def full(self) -> None:
        """Cut, and archive all of it."""
        self.round += 1
        self.service.take_both(LUN, self._name("full"), call())

    def change(self) -> None:
        """Change 4 KiB in each of 256 places."""
        self._write([(number * self.data * MIB // 256, 4096) for number in range(256)])

    def increment(self) -> None:
        """Cut, and archive the changes that the array tells."""
        self.service.take_both(LUN, self._name("inc"), call(), parent=self._name("full"))

    def release(self) -> None:
        """Read the full back from the store, digest by digest, and take it from the array."""
        self.service.release(LUN, self._name("full"), call())

    def _name(self, kind: str) -> SnapshotId:
        return SnapshotId(f"{kind}-{self.round}")

    def free(self) -> None:
        """Remove what a round has left."""
        for one in list(self.pool.snapshots.list(LUN)):
            self.pool.snapshots.delete(one.id)
        for entry in list(self.archive.list(call(), volume=LUN)):
            self.archive.delete(call(), volume=LUN, snapshot=entry.snapshot)
        self.archive.collect(call(), volume=LUN)

    def _write(self, places: list[tuple[int, int]]) -> None:
        with self.mover.writing_volume(self.pool, LUN) as sink:
            for offset, length in places:
                sink.write(offset, os.urandom(length))
            sink.flush()


def read_all(source: BlockSource) -> None:
    """Read every byte that is data, 4 MiB at a time."""
    buffer = memoryview(bytearray(4 * MIB))
    for extent in source.extents(0, source.size):
        for offset in range(extent.offset, extent.end, 4 * MIB) if extent.kind == "data" else ():
            source.read_into(offset, buffer[: min(4 * MIB, extent.end - offset)])


def measure(job: Callable[[], None]) -> float:
    """Return the seconds that a job takes."""
    began = time.monotonic()
    job()
    return time.monotonic() - began


def main() -> None:
    """Run all jobs in turn and print the table."""
    data = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    load = os.getloadavg()[0]
    runs = []
    with tempfile.TemporaryDirectory(prefix="bollard-bench-") as name, ExitStack() as stack:
        bench = Bench(Path(name), data, stack)
        jobs = [bench.read_raw, bench.copy_raw, bench.full, bench.change, bench.increment, bench.release]
        for _ in range(ROUNDS):
            runs.append([measure(job) for job in jobs])
            bench.free()
    raw, copied, full, _, increment, back = (statistics.median(column) for column in zip(*runs, strict=True))
    print(f"{data} MiB of random data on a LUN of {4 * data} MiB, medians of {ROUNDS}, load {load:.1f}")
    print(f"read raw                  {data / raw:6.0f} MiB/s")
    print(f"copy to a file, flushed   {data / copied:6.0f} MiB/s   x{raw / copied:.2f} of reading raw")
    print(
        f"archive                   {data / full:6.0f} MiB/s   x{raw / full:.2f}, copy x{copied / full:.2f}"
    )
    print(f"read back and released    {data / back:6.0f} MiB/s   x{raw / back:.2f}")
    print(f"increment, 256 x 4 KiB    {increment:6.2f} s       x{increment / full:.2f} of the full's time")


if __name__ == "__main__":
    main()
