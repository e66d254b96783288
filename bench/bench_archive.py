"""How fast a snapshot is archived, verified and restored, as a share of what limits it in the same run.

    python bench/bench_archive.py [MiB of data] [runs]

The images are raw, the store a directory; all lie on one disk and are read from the page cache. Every job
runs in a process of its own, which tells its peak memory, in turn with the limits; medians are printed:

    read    the source's data, one connection          sha256   of all data, on all cores
    upload  parts of 64 MiB, written and fsynced, four at a time: what the store takes without us
    target  the data, written sparsely and fsynced: what a restore cannot beat

`of limit` is the slowest limit's time over ours: 1.00 would be the limit itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from bollard.core.archive import Archive, CreateOptions, Level
from bollard.core.archive.packing import Compression
from bollard.core.dataplane import open_sink, open_source, split
from bollard.core.spi import Call, Extent, ExtentKind, FileLocation
from bollard.core.store import open_store

MIB = 1024 * 1024
WINDOW = 64 * MIB
PLACES = 8
SCATTERED = 256


class Result(NamedTuple):
    """What one run took: seconds, and the peak of its process in MiB."""

    seconds: float
    peak: float


class Job:
    """One job in a process of its own, on an image and a store."""

    def __init__(self, directory: Path, image: str) -> None:
        self.directory = directory
        self.image = FileLocation(path=directory / image, format="raw")
        self.volume = image.partition(".")[0]
        self.size = self.image.path.stat().st_size

    def read(self) -> None:
        """Read what is data, on one connection."""
        buffer = memoryview(bytearray(4 * MIB))
        for offset, length in self._pieces(4 * MIB):
            with open_source(self.image) as source:
                source.read_into(offset, buffer[:length])

    def sha256(self) -> None:
        """Hash what is data once, on all cores."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda piece: hashlib.sha256(self._bytes(*piece)).digest(), self._pieces(4 * MIB)))

    def upload(self) -> None:
        """Write the data as files of a window's size, each flushed."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self._put, self._pieces(WINDOW)))

    def _put(self, piece: tuple[int, int]) -> None:
        offset, length = piece
        path = self.directory / f"upload.{offset:x}"
        with self.image.path.open("rb") as source, path.open("wb", buffering=0) as file:
            os.sendfile(file.fileno(), source.fileno(), offset, length)
            os.fsync(file.fileno())
        path.unlink()

    def target(self) -> None:
        """Write the data to a sparse file and flush it."""
        with self._new_target().open("r+b", buffering=0) as file:
            for offset, length in self._pieces(4 * MIB):
                os.pwrite(file.fileno(), self._bytes(offset, length), offset)
            os.fsync(file.fileno())

    def full(self, compression: Compression = "stored") -> None:
        """Archive a full."""
        self._archive(lambda archive: self._create(archive, "full", compression=compression))

    def zstd(self) -> None:
        """Archive a full, compressed where a sample shrinks."""
        self.full("auto")

    def increment(self) -> None:
        """Archive an increment of which the changed blocks are known."""
        changed = [Extent(offset, 4096) for offset in self._scattered()]
        self._archive(lambda archive: self._create(archive, "inc", parent="full", changed=changed))

    def by_hash(self) -> None:
        """Archive an increment that is found by reading and hashing everything."""
        self._archive(lambda archive: self._create(archive, "hash", parent="full"))

    def verify(self) -> None:
        """Verify a full, each part's digest and all members."""
        self._archive(
            lambda archive: archive.verify(Call(), volume=self.volume, snapshot="full", level=Level.DIGEST)
        )

    def restore(self) -> None:
        """Restore a full to a new sparse file, flushed."""
        with open_sink(FileLocation(path=self._new_target(), format="raw")) as sink:
            self._archive(
                lambda archive: archive.restore(
                    sink, Call(), volume=self.volume, snapshot="full", sink_is_zero=True
                )
            )

    def scribble(self) -> None:
        """Change 4 KiB in each of so many places (no measurement)."""
        with self.image.path.open("r+b") as file:
            for offset in self._scattered():
                os.pwrite(file.fileno(), os.urandom(4096), offset)

    def _scattered(self) -> list[int]:
        pieces = self._pieces(MIB)
        return [offset for offset, _ in pieces[:: max(1, len(pieces) // SCATTERED)]]

    def _pieces(self, step: int) -> list[tuple[int, int]]:
        with open_source(self.image) as source:
            extents = [e for e in source.extents(0, source.size) if e.kind is ExtentKind.DATA]
        return [(e.offset, e.length) for e in split(extents, step)]

    def _bytes(self, offset: int, length: int) -> bytes:
        with self.image.path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), length, offset)

    def _new_target(self) -> Path:
        path = self.directory / "target.raw"
        path.unlink(missing_ok=True)
        path.touch()
        os.truncate(path, self.size)
        return path

    def _archive(self, work: Callable[[Archive], object]) -> None:
        store = open_store("bench", "nfs", {"path": str(self.directory / "store")})
        with closing(store):
            work(Archive(store))

    def _create(
        self,
        archive: Archive,
        snapshot: str,
        *,
        parent: str | None = None,
        changed: list[Extent] | None = None,
        compression: Compression = "stored",
    ) -> None:
        with closing(open_source(self.image)) as source:
            options = CreateOptions(compression=compression)
            archive.create(
                source,
                Call(),
                volume=self.volume,
                snapshot=snapshot,
                parent=parent,
                changed=changed,
                options=options,
            )


def make_image(path: Path, data: int, size: int, *, text: bool = False) -> None:
    """Write `data` MiB in eight places of an image of so many MiB: random bytes, or text-like ones."""
    line = "".join(
        f"2026-11-22T01:{n % 60:02} host{n % 7} service[{n * 7919 % 9973}]: done\n" for n in range(20_000)
    )
    with path.open("wb") as file:
        for number in range(data):
            place, row = number % PLACES, number // PLACES
            file.seek((place * (size // PLACES) + row) * MIB)
            file.write(
                line.encode()[number * 997 % 4096 :][:MIB].ljust(MIB, b".") if text else os.urandom(MIB)
            )
        file.truncate(size * MIB)
        os.fsync(file.fileno())


class Bench:
    """All jobs on all images, in turn."""

    def __init__(self, directory: Path, data: int, runs: int) -> None:
        self._directory, self._runs = directory, runs
        self._results: dict[tuple[str, str], list[Result]] = {}
        images = {
            "random": (data, 8 * data),
            "text": (data, data),
            "tib": (data, 1024**2),
            "dense": (data, 2 * data),
        }
        for name, (mib, size) in images.items():
            make_image(directory / f"{name}.raw", mib, size, text=name == "text")

    def run(self) -> None:
        """Run every job so many times."""
        for _ in range(self._runs):
            (self._directory / "store").mkdir()
            for image, job in JOBS:
                self._one(image, job.__name__)
            subprocess.run(["rm", "-r", str(self._directory / "store")], check=True)

    def _one(self, image: str, job: str) -> None:
        command = [sys.executable, __file__, "--job", str(self._directory), f"{image}.raw", job]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=3600)
        self._results.setdefault((image, job), []).append(Result(*json.loads(done.stdout)))

    def seconds(self, image: str, job: str) -> float:
        """Return the median."""
        return statistics.median(result.seconds for result in self._results[image, job])

    def show(self, data: int) -> None:
        """Print the table."""
        print(f"{'image':8}{'job':12}{'seconds':>9}{'MiB/s':>8}{'of limit':>10}{'by':>9}{'peak MiB':>10}")
        for image, job in ((image, work.__name__) for image, work in JOBS):
            seconds = self.seconds(image, job)
            peak = max(result.peak for result in self._results[image, job])
            slowest = max(LIMITS.get(job, ()), key=lambda limit: self.seconds("random", limit), default="")
            share = (
                f"{self.seconds('random', slowest) / seconds:10.2f}{slowest:>9}" if slowest else f"{'':19}"
            )
            if job != "scribble":
                print(f"{image:8}{job:12}{seconds:9.2f}{data / seconds:8.0f}{share}{peak:10.0f}")
        ratio = self.seconds("tib", "full") / self.seconds("dense", "full")
        print(f"1 TiB sparse takes {ratio:.2f} of the time of {2 * data} MiB, both with {data} MiB of data")
        share_of_full = self.seconds("random", "increment") / self.seconds("random", "full")
        print(f"an increment by changed blocks takes {share_of_full:.2f} of the time of a full")


LIMITS = {
    "full": ("read", "sha256", "upload"),
    "verify": ("read", "sha256"),
    "restore": ("read", "sha256", "target"),
}
JOBS: list[tuple[str, Callable[..., None]]] = [
    ("random", Job.read), ("random", Job.sha256), ("random", Job.upload), ("random", Job.target),
    ("random", Job.full), ("random", Job.verify), ("random", Job.restore),
    ("random", Job.scribble), ("random", Job.increment), ("random", Job.by_hash),
    ("text", Job.zstd), ("text", Job.restore), ("dense", Job.full), ("tib", Job.full), ("tib", Job.restore),
]  # fmt: skip


def child(directory: str, image: str, name: str) -> None:
    """Run one job and print seconds and peak."""
    job = Job(Path(directory), image)
    started = time.monotonic()
    getattr(job, name)()
    seconds = time.monotonic() - started
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--job"]:
        child(*sys.argv[2:])
        return
    data = int(sys.argv[1]) if len(sys.argv) > 1 else 512
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory(prefix="bollard-bench-") as name:
        bench = Bench(Path(name), data, runs)
        bench.run()
        bench.show(data)


if __name__ == "__main__":
    main()
