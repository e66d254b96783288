"""Snapshots as qcow2 files in a directory: a pool's own, or an NFS export that is mounted.

    <root>/snapshots/<snapshot>          qcow2; a delta names its parent as backing file
    <root>/snapshots/<snapshot>.part     being written; never read, removed by the next run
    <root>/checkpoints/<checkpoint>      the hypervisor's text

    .part ── written ── flushed ── read back ── fsync ── rename ── fsync of the directory

A backing file is named without its directory, so that a chain can be moved as a whole; only the name of
one on another store is absolute.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ....transfer_objects.enums import DataStoreRole
from ...catalog.snapshots import Ref
from ...dataplane import (
    BlockSink,
    BlockSource,
    FileSink,
    FileSource,
    copy,
    open_chain_sink,
    open_chain_source,
    probe,
    qemu_img,
)
from ...dataplane.durable import sync
from ...dataplane.os_errors import os_errors
from ...spi.call import Call
from ...spi.errors import Internal, Outcome, Unavailable, Unsupported
from ...spi.model import Extent
from . import delta
from .stores import ChainStore, Link, Stored

_SNAPSHOTS = "snapshots"
_CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, slots=True)
class ChainDirectory:
    """A directory that this host has mounted; see `ChainStore`.

    Attributes:
        verify: read back what was written, before it gets its name.
        must_exist: it is not made; one below a mount point is not there while nothing is mounted, and else
            a snapshot would be looked for, or written, in the directory beneath.
    """

    id: str
    root: Path
    role: DataStoreRole = DataStoreRole.PRIMARY
    verify: bool = True
    must_exist: bool = False

    def reaches(self, other: ChainStore) -> bool:
        """Any other directory: QEMU opens backing files wherever they are mounted."""
        return isinstance(other, ChainDirectory)

    def file(self, ref: Ref) -> Path:
        """Return the path of a snapshot here.

        Raises:
            Unavailable: the directory must exist, and does not.
        """
        return self._there() / _SNAPSHOTS / ref.snapshot

    def _there(self) -> Path:
        if self.must_exist and not self.root.is_dir():
            said = f"directory {self.root} of {self.id} is not there: is it mounted?"
            raise Unavailable(said, outcome=Outcome.NOT_APPLIED)
        return self.root

    def write(
        self, chain: Sequence[Link], source: BlockSource, changed: Iterable[Extent] | None, call: Call
    ) -> Stored:
        """See `ChainStore.write`."""
        target, *below = _files(chain)
        part = _new_part(target)
        qemu_img.create_image(part, source.size, call, backing=_backing(target, below))
        with open_chain_sink([part, *below]) as sink:
            delta.transfer(source, changed, sink, call)
        if self.verify:
            with open_chain_source([part, *below]) as written:
                delta.check(source, changed, written, call)
        _publish(part, target)
        return _stored(target)

    def take_over(self, chain: Sequence[Link], old_chain: Sequence[Link], call: Call) -> None:
        """See `ChainStore.take_over`: the file is copied as it is, holes and all."""
        if not isinstance(old_chain[0].store, ChainDirectory):
            raise Unsupported(f"snapshots in an archive cannot become files of {self.id}")
        target, *below = _files(chain)
        part = _new_part(target)
        with os_errors(f"cannot make {part}"), part.open("xb") as file:
            old = FileSource.open(_files(old_chain)[0])
            file.truncate(old.size)
        with old, FileSink.open(part) as sink:
            copy(old, sink, sink_is_zero=True, progress=call.progress, cancelled=delta.over(call))
        if below:
            qemu_img.set_backing(part, _backing(target, below), call)
        _publish(part, target)

    def relink(self, chain: Sequence[Link], call: Call) -> None:
        """See `ChainStore.relink`: in a copy, which takes its place: no header is half written."""
        target, *below = _files(chain)
        if probe(target, "qcow2").backing != _backing(target, below):
            self.take_over(chain, chain, call)

    def look(self, ref: Ref, call: Call) -> Stored | None:  # noqa: ARG002 - asked of archives, too
        """See `ChainStore.look`: the name is given last."""
        return _stored(self.file(ref)) if self.file(ref).exists() else None

    def restore(self, chain: Sequence[Link], sink: BlockSink, call: Call) -> None:
        """See `ChainStore.restore`."""
        with self.open(chain, call) as source:
            copy(source, sink, sink_is_zero=True, progress=call.progress, cancelled=delta.over(call))

    def open(self, chain: Sequence[Link], call: Call) -> BlockSource:  # noqa: ARG002 - as `look`
        """See `ChainStore.open`."""
        return open_chain_source(_files(chain))

    def put_checkpoint(self, ref: Ref, text: str, call: Call) -> str:  # noqa: ARG002 - as `look`
        """See `ChainStore.put_checkpoint`."""
        path = self._text(ref)
        part = path.with_name(f"{path.name}.part")
        with os_errors(f"cannot write {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(text)
        _publish(part, path)
        return f"{_CHECKPOINTS}/{path.name}"

    def checkpoint(self, ref: Ref, call: Call) -> str:  # noqa: ARG002 - as `look`
        """See `ChainStore.checkpoint`."""
        with os_errors(f"cannot read {self._text(ref)}"):
            return self._text(ref).read_text()

    def _text(self, ref: Ref) -> Path:
        return self._there() / _CHECKPOINTS / (ref.checkpoint or ref.snapshot)

    def free(self, volume: str, call: Call, *, known: Collection[str]) -> None:
        """See `ChainStore.free`: `remove` has freed everything, also what a killed run left."""

    def remove(self, ref: Ref, call: Call) -> None:  # noqa: ARG002 - as `look`
        """See `ChainStore.remove`."""
        for path in (self.file(ref), self._text(ref)):
            with os_errors(f"cannot remove {path}", outcome=Outcome.UNKNOWN):
                path.unlink(missing_ok=True)
                path.with_name(f"{path.name}.part").unlink(missing_ok=True)


def _files(chain: Sequence[Link]) -> list[Path]:
    files = []
    for ref, store in chain:
        if not isinstance(store, ChainDirectory):
            raise Internal(f"store {store.id} has no files", outcome=Outcome.NOT_APPLIED)
        files.append(store.file(ref))
    return files


def _backing(target: Path, below: Sequence[Path]) -> str:
    """Return the name of the backing file as the header has it, "" for none."""
    if not below:
        return ""
    return below[0].name if below[0].parent == target.parent else str(below[0].absolute())


def _new_part(target: Path) -> Path:
    part = target.with_name(f"{target.name}.part")
    with os_errors(f"cannot make {part}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)  # a killed run's, which its qemu-nbd may still hold open
    return part


def _publish(part: Path, path: Path) -> None:
    """Make a file durable and give it its name."""
    with os_errors(f"cannot give {part} its name", outcome=Outcome.UNKNOWN):
        sync(part)
        part.rename(path)
        sync(path.parent)


def _stored(path: Path) -> Stored:
    with os_errors(f"cannot look at {path}"):
        return Stored(probe(path, "qcow2").virtual_size, path.stat().st_blocks * 512)
