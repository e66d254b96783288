"""How fast a snapshot is archived and restored, beside plain tools on the same image.

    python bench/bench_archive.py [MiB of data]

The image is raw and sparse, the store a directory; both lie on the same disk and in the page cache.
Each job runs three times in turn with the others; medians are printed, with the ratio to the limit or
peer named in the line (above 1: ours is faster).
"""

from __future__ import annotations

import hashlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from bollard.core.archive import Archive
from bollard.core.dataplane import open_sink, open_source
from bollard.core.spi import Call, FileLocation
from bollard.core.store import open_store

MIB = 1024 * 1024
ROUNDS = 3


def make_image(path: Path, data: int) -> FileLocation:
    """Write a sparse file of eight times `data` MiB with as much random data in eight places."""
    with path.open("wb") as file:
        for number in range(data):
            file.seek((number % 8) * data * MIB + number // 8 * MIB)
            file.write(os.urandom(MIB))
        file.truncate(8 * data * MIB)
    return FileLocation(path=path, format="raw")


def scribble(path: Path, data: int) -> None:
    """Change 4 KiB in each of 256 places of the data."""
    with path.open("r+b") as file:
        for number in range(256):
            file.seek((number % 8) * data * MIB + number // 8 * 4 * MIB)
            file.write(os.urandom(4096))


class Bench:
    """The image, a store and the archive on it."""

    def __init__(self, directory: Path, data: int) -> None:
        self.directory, self.data, self.round = directory, data, 0
        (directory / "store").mkdir()
        self.image = make_image(directory / "image.raw", data)
        self.store = open_store("bench", "nfs", {"path": str(directory / "store")})
        self.archive = Archive(self.store)

    def hash_all(self) -> None:
        """SHA-256 of the data on one core: the slowest step that nothing can leave out."""
        digest, buffer = hashlib.sha256(), memoryview(bytearray(4 * MIB))
        with open_source(self.image) as source:
            for extent in source.extents(0, source.size):
                for offset in range(extent.offset, extent.end, 4 * MIB) if extent.kind == "data" else ():
                    part = buffer[: min(4 * MIB, extent.end - offset)]
                    source.read_into(offset, part)
                    digest.update(part)

    def copy_sparse(self) -> None:
        """`cp --sparse=always`, flushed: writing the data once."""
        target = self.directory / "copy.raw"
        subprocess.run(["cp", "--sparse=always", str(self.image.path), str(target)], check=True)
        _flush(target)

    def convert(self) -> None:
        """`qemu-img convert` to qcow2, flushed: the usual way to take a copy away."""
        target = self.directory / "copy.qcow2"
        command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(self.image.path), str(target)]
        subprocess.run(command, check=True)
        _flush(target)

    def full(self) -> None:
        """Archive a full."""
        self.round += 1
        with open_source(self.image) as source:
            self.archive.create(source, Call.within(600), volume="bench", snapshot=f"full-{self.round}")

    def increment(self) -> None:
        """Archive an increment that is found by hashes: everything is read, little is stored."""
        scribble(self.image.path, self.data)
        with open_source(self.image) as source:
            name, parent = f"inc-{self.round}", f"full-{self.round}"
            self.archive.create(source, Call.within(600), volume="bench", snapshot=name, parent=parent)

    def restore(self) -> None:
        """Restore a full into a new sparse file, flushed."""
        target = self.directory / "restored.raw"
        target.unlink(missing_ok=True)
        with target.open("xb") as file:
            file.truncate(8 * self.data * MIB)
        with open_sink(FileLocation(path=target, format="raw")) as sink:
            name = f"full-{self.round}"
            self.archive.restore(sink, Call.within(600), volume="bench", snapshot=name, sink_is_zero=True)
            sink.flush()


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def measure(job: Callable[[], None]) -> float:
    """Return the seconds that a job takes."""
    started = time.monotonic()
    job()
    return time.monotonic() - started


def main() -> None:
    """Run all jobs in turn and print the table."""
    data = int(sys.argv[1]) if len(sys.argv) > 1 else 512
    with tempfile.TemporaryDirectory(prefix="bollard-bench-") as name:
        bench = Bench(Path(name), data)
        jobs = [bench.hash_all, bench.copy_sparse, bench.convert, bench.full, bench.increment, bench.restore]
        with closing(bench.store):
            runs = [[measure(job) for job in jobs] for _ in range(ROUNDS)]
    medians = [statistics.median(column) for column in zip(*runs, strict=True)]
    hashing, copying, converting, full, increment, restored = (data / seconds for seconds in medians)
    print(f"{data} MiB of random data in an image of {8 * data} MiB, medians of {ROUNDS}")
    print(f"limit: SHA-256, one core   {hashing:7.0f} MiB/s")
    print(f"limit: cp --sparse, fsync  {copying:7.0f} MiB/s")
    print(f"peer:  qemu-img convert    {converting:7.0f} MiB/s")
    print(f"full                       {full:7.0f} MiB/s   x{full / converting:.2f} of qemu-img convert")
    print(f"increment by hashes        {increment:7.0f} MiB/s   x{increment / full:.2f} of the full")
    print(f"restore                    {restored:7.0f} MiB/s   x{restored / copying:.2f} of cp")
    print(f"peak memory                {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:7.0f} MiB")


if __name__ == "__main__":
    main()
