"""What one GiB costs on its way into the archive: each step alone, in seconds and in seconds of a core.

    python bench/bench_budget.py [MiB of data]

One window after the other through the engine's own functions, nothing beside. CPU seconds hold on a busy
machine, too; wall-clock seconds only on a quiet one. `limits` are the same bytes through one function of
a library: what the step would cost without us.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import sys
import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bollard.core.archive.part import Region, build
from bollard.core.archive.window import WindowReader
from bollard.core.dataplane import open_source
from bollard.core.spi import Call, FileLocation
from bollard.core.store import open_store

MIB = 1024 * 1024
WINDOW = 64 * MIB
ROUNDS = 3


class Budget:
    """Seconds of the wall clock and of cores, by step and round."""

    def __init__(self) -> None:
        self.rounds: list[dict[str, tuple[float, float]]] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add what happens inside to a step of this round."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        old = self.rounds[-1][name]
        self.rounds[-1][name] = (old[0] + time.perf_counter() - wall, old[1] + time.process_time() - cpu)

    def new_round(self) -> None:
        """Begin another round."""
        self.rounds.append(defaultdict(lambda: (0.0, 0.0)))

    def show(self, mib: int) -> None:
        """Print medians, scaled to a GiB."""
        print(f"{'one GiB':36}{'seconds':>9}{'core s':>9}")
        for name in self.rounds[0]:
            walls, cpus = zip(*(one[name] for one in self.rounds), strict=True)
            scale = 1024 / mib
            print(f"{name:36}{statistics.median(walls) * scale:9.2f}{statistics.median(cpus) * scale:9.2f}")


def one_round(budget: Budget, image: FileLocation, directory: Path, mib: int) -> None:
    """Take the image through all steps, one window at a time."""
    budget.new_round()
    buffer = memoryview(bytearray(WINDOW))
    store = open_store("bench", "nfs", {"path": str(directory)})
    with closing(store), open_source(image) as source:
        for offset in range(0, mib * MIB, WINDOW):
            with budget.step("limit: read"):
                source.read_into(offset, buffer)
            with budget.step("limit: SHA-256 once"):
                hashlib.sha256(buffer).digest()
            with budget.step("limit: CRC-32 once"):
                zlib.crc32(buffer)
            region = Region(offset, WINDOW, 64 * 1024)
            reader = WindowReader(source, buffer, region, Call())
            with budget.step("read, zero test, granule hashes"):
                reader.examine(offset, WINDOW)
            members = list(reader.members(range(region.granules), zeros=False))
            with budget.step("part: CRC, digest"):
                part = build(members, bytes(reader.hashes))
            with budget.step("  instead: zstd"):
                build(members, bytes(reader.hashes), "zstd")
            with budget.step("  instead: auto (a sample of each frame)"):
                build(members, bytes(reader.hashes), "auto")
            with budget.step("send to a directory, fsync"):
                store.put("part", part.body(), Call())
            del part, members
            with budget.step("fetch the part"):
                for _ in store.get("part", Call()):
                    pass


def main() -> None:
    """Measure and print."""
    mib = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    with tempfile.TemporaryDirectory(prefix="bollard-bench-") as name:
        path = Path(name) / "image.raw"
        path.write_bytes(b"".join(os.urandom(MIB) for _ in range(mib)))
        (Path(name) / "store").mkdir()
        budget = Budget()
        for _ in range(ROUNDS):
            one_round(budget, FileLocation(path=path, format="raw"), Path(name) / "store", mib)
        budget.show(mib)


if __name__ == "__main__":
    main()
