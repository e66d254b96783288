"""`bollard demo`: the whole story on this machine, with real bytes and nothing to set up.

    qcow2 pool ──snapshot──> archive on S3 ──restore──> LUN on the array ──compare──> equal
    array LUN ──snapshot──> archive on Swift ──restore──> qcow2 pool ──compare──> equal

The array, S3 and Swift are Bollard's simulators, as processes of their own on loopback; the pool, the
file system in the volume and every byte are real. Everything lives in one temporary directory.
"""

from __future__ import annotations

import hashlib
import json as jsonlib
import os
import random
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.panel import Panel
from rich.table import Table

from ..core.access import Mover
from ..core.archive import Archive, Manifest
from ..core.dataplane import BlockSource, copy, open_source
from ..core.journal import Journal
from ..core.mover import mover_host
from ..core.pool import Pool, open_pool
from ..core.snapshots import VolumeSnapshots
from ..core.spi import Call, FileLocation, InvalidArgument, Unsupported, VolumeSpec
from ..core.store import Store, open_store
from ..simulators.process import SimulatorProcess
from ..transfer_objects.enums import SnapshotLocation
from ..transfer_objects.ids import SnapshotId, VolumeId
from .output import err, out, print_json, size_text, transfer
from .sizes import Size

MIB = 2**20
_WEB, _DB = VolumeId("web-1"), VolumeId("db-1")


@dataclass(slots=True, kw_only=True)
class _Stage:
    """Everything that the story plays on."""

    directory: Path
    files: Pool
    array: Pool
    s3: Store
    swift: Store
    mover: Mover
    quiet: bool
    lines: list[dict[str, object]] = field(default_factory=list)

    @contextmanager
    def act(self, title: str, moved: int = 0) -> Iterator[Call]:
        """Tell and time one act; `moved` bytes give it a rate."""
        began = time.monotonic()
        with transfer(title, quiet=self.quiet) as progress:
            yield Call.within(600, progress=progress)
        seconds = time.monotonic() - began
        self.lines.append({"act": title, "seconds": round(seconds, 2), "bytes": moved})
        if not self.quiet:
            err.print(f"[green]✓[/green] {title} [dim]{seconds:.1f} s[/dim]")


def demo(
    size: Annotated[int, typer.Option(parser=Size, help="Virtual size of the volume.")] = 2**31,
    data: Annotated[int, typer.Option(parser=Size, help="Data in it.")] = 2**28,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Snapshot, archive, wipe, restore and compare, on simulated backends with real bytes."""
    for tool in ("qemu-img", "qemu-nbd", "mke2fs"):
        if _which(tool) is None:
            raise Unsupported(f"the demo needs {tool}: apt-get install qemu-utils e2fsprogs")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bollard-demo-") as name, ExitStack() as undo:
        stage = _set_up(Path(name), undo, quiet=json)
        _file_story(stage, size, data)
        _array_story(stage, size // 4)
    _summary(stage, time.monotonic() - began, as_json=json)


def _which(tool: str) -> str | None:
    """Find a tool; Debian keeps mke2fs where an ordinary user's PATH does not look."""
    return shutil.which(tool, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def _set_up(directory: Path, undo: ExitStack, *, quiet: bool) -> _Stage:
    """Start the simulators and open the pools and stores."""
    for part in ("array", "s3", "swift", "pool"):
        (directory / part).mkdir()
    password, key = secrets.token_hex(16), secrets.token_hex(16)

    def start(name: str, *arguments: str, **env: str) -> SimulatorProcess:
        state = ("--state", str(directory / name))
        return undo.enter_context(SimulatorProcess.start(name, *state, *arguments, env=env))

    array = start("array", "--pool", "gold=64G", BOLLARD_ARRAY_PASSWORD=password)
    s3 = start("s3", "--bucket", "archive")
    swift = start("swift", BOLLARD_SWIFT_USERS=jsonlib.dumps({"demo:demo": key}))
    _make_container(swift.url, key)
    stage = _Stage(
        directory=directory,
        files=open_pool("files", "qcow2", {"path": str(directory / "pool")}),
        array=open_pool("array", "array", _array_options(array, password)),
        s3=open_store("s3", "s3", _s3_options(s3.url)),
        swift=open_store("swift", "swift", _swift_options(swift.url, key)),
        mover=Mover(host=mover_host(directory), journal=Journal(directory / "journal")),
        quiet=quiet,
    )
    for opened in (stage.files, stage.array, stage.s3, stage.swift):
        undo.callback(opened.close)
    return stage


def _file_story(stage: _Stage, size: int, data: int) -> None:
    """A qcow2 volume with a real file system goes to S3 and comes back on a LUN."""
    archive = Archive(stage.s3)
    service = VolumeSnapshots(pool=stage.files, archive=archive, mover=stage.mover)
    with stage.act(f"make a {size_text(size)} qcow2 volume with an ext4 of {size_text(data)} of files", data):
        stage.files.volumes.create(VolumeSpec(id=_WEB, size=size, name="web"))
        _fill_with_files(stage, _WEB, size, data)
    with stage.act("snapshot it and archive it to S3, as a full", data) as call:
        full = service.take_both(_WEB, SnapshotId("monday"), call).archived
    with stage.act("change 8 MiB, snapshot again, archive the increment") as call:
        _scribble(stage, _WEB, size)
        later = service.take_both(_WEB, SnapshotId("tuesday"), call, parent=SnapshotId("monday")).archived
    before = _fingerprint(stage, stage.files, _WEB)
    with stage.act("lose the volume and its snapshots"):
        for snapshot in list(stage.files.snapshots.list(_WEB)):
            stage.files.snapshots.delete(snapshot.id)
        stage.files.volumes.delete(_WEB)
    with stage.act("restore Tuesday to a LUN of the array", data) as call:
        onto = VolumeSnapshots(pool=stage.array, archive=archive, mover=stage.mover)
        onto.restore(_WEB, SnapshotId("tuesday"), _WEB, call)
    with stage.act("compare block by block", data):
        _must_equal(before, _fingerprint(stage, stage.array, _WEB))
    stage.lines.append({"full": _stored(full), "increment": _stored(later)})


def _array_story(stage: _Stage, size: int) -> None:
    """A LUN's snapshot with location Archive goes to Swift and comes back as qcow2."""
    archive = Archive(stage.swift)
    service = VolumeSnapshots(pool=stage.array, archive=archive, mover=stage.mover)
    with stage.act(f"make a {size_text(size)} LUN and write to it as a host"):
        stage.array.volumes.create(VolumeSpec(id=_DB, size=size, name="db"))
        _scribble(stage, _DB, size, pool=stage.array)
    before = _fingerprint(stage, stage.array, _DB)
    with stage.act("snapshot it with location Archive, to Swift, through a temporary clone") as call:
        service.take(_DB, SnapshotId("nightly"), call, location=SnapshotLocation.ARCHIVE)
    with stage.act("restore it into the qcow2 pool") as call:
        onto = VolumeSnapshots(pool=stage.files, archive=archive, mover=stage.mover)
        onto.restore(_DB, SnapshotId("nightly"), _DB, call)
    with stage.act("compare block by block"):
        _must_equal(before, _fingerprint(stage, stage.files, _DB))
    with stage.act("look for anything left on the array"):
        left: list[str] = [v.id for v in stage.array.volumes.list() if v.id not in (_WEB, _DB)]
        left += [s.id for s in stage.array.snapshots.list(_DB)]
        _must_equal("", ", ".join(left))


def _fill_with_files(stage: _Stage, volume: VolumeId, size: int, data: int) -> None:
    """Put an ext4 with real files into the volume, without mounting anything."""
    tree, image = stage.directory / "tree", stage.directory / "ext4.raw"
    tree.mkdir()
    chooser = random.Random(2026)  # noqa: S311 - test data, the same in every demo
    for offset in range(0, data, 8 * MIB):
        content = chooser.randbytes(min(8 * MIB, data - offset))
        (tree / f"file-{offset // MIB:06}").write_bytes(content)
    with image.open("xb") as file:
        file.truncate(size)
    command = ["-q", "-F", "-t", "ext4", "-E", "nodiscard", "-d", str(tree), str(image)]
    made = subprocess.run(
        [_which("mke2fs") or "mke2fs", *command], capture_output=True, text=True, timeout=300, check=False
    )
    if made.returncode != 0:
        raise InvalidArgument(f"mke2fs failed, is --data too much for --size? {made.stderr.strip()}")
    filled = open_source(FileLocation(path=image, format="raw"))
    with filled as source, stage.mover.writing_volume(stage.files, volume) as sink:
        copy(source, sink)
        sink.flush()
    shutil.rmtree(tree)
    image.unlink()


def _scribble(stage: _Stage, volume: VolumeId, size: int, pool: Pool | None = None) -> None:
    """Write eight times 1 MiB of random data, spread over the volume."""
    with stage.mover.writing_volume(pool or stage.files, volume) as sink:
        for number in range(8):
            sink.write(number * (size // 8) // MIB * MIB, os.urandom(MIB))
        sink.flush()


def _fingerprint(stage: _Stage, pool: Pool, volume: VolumeId) -> str:
    with stage.mover.reading_volume(pool, volume) as source:
        return _content_digest(source)


def _content_digest(source: BlockSource) -> str:
    """Return a digest of the size and of every MiB that is not all zero, with its place."""
    digest = hashlib.sha256(str(source.size).encode())
    zeros = bytes(MIB)
    for extent in source.extents(0, source.size):
        if extent.kind != "data":
            continue
        for offset in range(extent.offset // MIB * MIB, extent.end, MIB):
            block = bytearray(min(MIB, source.size - offset))
            source.read_into(offset, memoryview(block))
            if block != zeros[: len(block)]:
                digest.update(offset.to_bytes(8, "big") + hashlib.sha256(block).digest())
    return digest.hexdigest()


def _must_equal(before: str, after: str) -> None:
    if before != after:
        raise RuntimeError(f"the demo found a difference: {before!r} is not {after!r}")


def _stored(manifest: Manifest | None) -> int:
    parts = manifest.parts() if manifest else ()
    return sum(p.size for _, p in parts if manifest and p.layer.startswith(f"{manifest.snapshot}/"))


def _array_options(array: SimulatorProcess, password: str) -> dict[str, str]:
    ready = array.ready
    return {
        "url": array.url,
        "username": ready["username"],
        "password": password,
        "ca": ready["ca"],
        "pool": ready["pools"][0],
    }


def _s3_options(url: str) -> dict[str, str]:
    return {
        "endpoint_url": url,
        "bucket": "archive",
        "access_key": "demo",
        "secret_key": secrets.token_hex(16),
    }


def _swift_options(url: str, key: str) -> dict[str, str]:
    auth = f"{url}/auth/v1.0"
    return {"url": auth, "account": "demo", "user_name": "demo", "key": key, "container": "archive"}


def _make_container(url: str, key: str) -> None:
    import swiftclient

    with closing(swiftclient.Connection(f"{url}/auth/v1.0", "demo:demo", key, retries=0)) as connection:
        connection.put_container("archive")


def _summary(stage: _Stage, seconds: float, *, as_json: bool) -> None:
    if as_json:
        print_json({"seconds": round(seconds, 1), "acts": stage.lines})
        return
    table = Table(show_header=True, box=None, padding=(0, 2))
    for heading in ("act", "seconds", "rate"):
        table.add_column(heading, justify="left" if heading == "act" else "right")
    stored: dict[str, object] = {}
    for line in stage.lines:
        if "act" not in line:
            stored = line
            continue
        took, moved = float(str(line["seconds"])), int(str(line["bytes"]))
        rate = f"{size_text(int(moved / took / MIB) * MIB)}/s" if moved and took else ""
        table.add_row(str(line["act"]), f"{took:.1f}", rate)
    full, increment = int(str(stored["full"])), int(str(stored["increment"]))
    out.print(Panel(table, title="what happened", title_align="left"))
    out.print(
        f"The full took [bold]{size_text(full)}[/bold] on S3, the increment"
        f" [bold]{size_text(increment)}[/bold]. Every restored block is equal,"
        f" nothing was left behind. [bold]{seconds:.0f} s[/bold] in all."
    )
    out.print("Next: [bold]bollard doctor[/bold], [bold]bollard drivers[/bold], docs/index.md")
