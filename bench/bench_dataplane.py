"""How fast the data plane moves blocks, beside QEMU's own tools on the same image.

    python bench/bench_dataplane.py [MiB of data]

Prints one line per job: MiB/s of data, and the ratio to the reference above it. The files are written
first, so reads come from the page cache: what is measured is our cost, not the disk's. Both sides of
a copy end with the target flushed to the disk.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bollard.core.dataplane import BlockSource, compare, copy, open_sink, open_source, split
from bollard.core.spi import ExtentKind, FileLocation

MIB = 1024 * 1024
ROUNDS = 3


def make_raw(path: Path, data: int) -> FileLocation:
    """Write a file of three times `data` MiB: data, a hole as large, again as much hole."""
    with path.open("wb") as file:
        for _ in range(data):
            file.write(os.urandom(MIB))
        file.truncate(3 * data * MIB)
        os.fsync(file.fileno())
    return FileLocation(path=path, format="raw")


def make_qcow2(path: Path, data: int) -> FileLocation:
    """Create an empty image, in the place of an older one."""
    path.unlink(missing_ok=True)
    run("qemu-img", "create", "-q", "-f", "qcow2", str(path), f"{3 * data}M")
    return FileLocation(path=path, format="qcow2")


def run(*command: str) -> None:
    """Run a tool to its end."""
    subprocess.run(command, check=True, timeout=600)


def read_all(location: FileLocation) -> None:
    """Read every extent of data once, on one connection."""
    with open_source(location) as source:
        _read(source)


def _read(source: BlockSource) -> None:
    buffer = memoryview(bytearray(16 * MIB))
    for extent in split(source.extents(0, source.size), 16 * MIB):
        if extent.kind is ExtentKind.DATA:
            source.read_into(extent.offset, buffer[: extent.length])


def copy_all(source: FileLocation, sink: FileLocation) -> None:
    """Copy, as restore does it."""
    with open_source(source) as reader, open_sink(sink) as writer:
        copy(reader, writer, sink_is_zero=True)


def compare_all(a: FileLocation, b: FileLocation) -> None:
    """Compare, as verify does it."""
    with open_source(a) as left, open_source(b) as right:
        if compare(left, right) is not None:
            raise SystemExit("the copy differs")


class Table:
    """Runs jobs and prints their lines."""

    def __init__(self, data: int) -> None:
        self._data = data
        self._reference = 0.0
        print(f"{'job':44}{'MiB/s':>8}{'ratio':>8}")

    def job(self, name: str, work: Callable[[], None], before: Callable[[], object] = lambda: None) -> None:
        """Print the best of three rounds; a name without indent is the reference of those below."""
        best = 0.0
        for _ in range(ROUNDS):
            before()
            start = time.perf_counter()
            work()
            best = max(best, self._data / (time.perf_counter() - start))
        if not name.startswith(" "):
            self._reference = best
        print(f"{name:44}{best:8.0f}{best / self._reference:8.2f}", flush=True)


def convert(source: FileLocation, sink: FileLocation) -> None:
    """Let qemu-img do what `copy_all` does, flushed as well."""
    formats = ["-f", source.format, "-O", sink.format]
    run(
        "qemu-img",
        "convert",
        "-t",
        "writeback",
        "-W",
        "-m",
        "8",
        "-n",
        *formats,
        str(source.path),
        str(sink.path),
    )
    run("dd", "if=/dev/null", f"of={sink.path}", "conv=notrunc,fsync", "status=none")


def nbdcopy(source: FileLocation, sink: FileLocation) -> None:
    """Let libnbd do the same through qemu-nbd: the road that we take, in C."""
    server = ["[", "qemu-nbd", "-e", "0", "--discard=unmap", "-f", sink.format, str(sink.path), "]"]
    run("nbdcopy", "--flush", "--destination-is-zero", "--", str(source.path), *server)


def main() -> None:
    """Measure reading, copying and comparing."""
    data = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    with tempfile.TemporaryDirectory(prefix="bollard-bench-") as directory:
        raw = make_raw(Path(directory) / "a.raw", data)
        path = Path(directory) / "b.qcow2"
        qcow2 = make_qcow2(path, data)
        table = Table(data)

        def again() -> FileLocation:
            return make_qcow2(path, data)

        table.job("qemu-img convert raw -> qcow2 (no socket)", lambda: convert(raw, qcow2), again)
        table.job("nbdcopy raw -> qcow2 (libnbd, C)", lambda: nbdcopy(raw, qcow2), again)
        table.job("  copy raw -> qcow2", lambda: copy_all(raw, qcow2), again)
        dd = ["dd", f"if={raw.path}", "of=/dev/null", "bs=1M", f"count={data}", "status=none"]
        table.job("dd raw", lambda: run(*dd))
        table.job("  read raw", lambda: read_all(raw))
        server = ["[", "qemu-nbd", "-r", "-f", "qcow2", str(path), "]"]
        table.job("nbdcopy qcow2 (libnbd, C)", lambda: run("nbdcopy", "--", *server, "null:"))
        table.job("  read qcow2", lambda: read_all(qcow2))
        pair = ["-f", "raw", "-F", "qcow2", str(raw.path), str(path)]
        table.job("qemu-img compare (no socket)", lambda: run("qemu-img", "compare", "-q", *pair))
        table.job("  compare", lambda: compare_all(raw, qcow2))


if __name__ == "__main__":
    main()
