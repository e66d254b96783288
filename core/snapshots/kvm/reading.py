"""Reading back: any snapshot, full or delta, on any store, as an image that stands alone.

restore    into a sink that reads as zeros       a new volume
template   into a new qcow2 file                 a template, an export
opened     as a source of blocks                 whatever else
revert     beside the volume, then renamed over  never in place: a kill leaves the old or the new volume
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ....transfer_objects.ids import SnapshotId, VolumeId
from ...catalog.snapshots import Reason, refs_of_volume
from ...dataplane import BlockSink, BlockSource, image_lock, open_qcow2_sink, qemu_img
from ...dataplane.durable import sync
from ...dataplane.os_errors import os_errors
from ...spi.call import Call
from ...spi.errors import Conflict, InUse, InvalidArgument, Outcome
from ...spi.hypervisor import VmState
from . import rules
from .site import Site
from .stores import Link

REVERT = "kvm.revert"
TEMPLATE = "kvm.template"


def opened(site: Site, snapshot: SnapshotId, call: Call) -> BlockSource:
    """Open a snapshot for reading; close it.

    Raises:
        NotFound: no such snapshot, or its user has deleted it.
        DataLoss: a file of its chain is damaged or is not what the records say.
    """
    links = _links(site, snapshot)
    return links[0].store.open(links, call)


def restore(
    site: Site, snapshot: SnapshotId, sink: BlockSink, call: Call, *, store: str | None = None
) -> None:
    """Write a snapshot into a new volume that reads as zeros; raises as `opened`.

    Args:
        store: which is to be read, where there are copies.
    """
    links = _links(site, snapshot, store)
    links[0].store.restore(links, sink, call)


def size_of(site: Site, snapshot: SnapshotId, *, store: str | None = None) -> int:
    """Return the bytes that a guest saw of a snapshot that can be read; raises as `opened`."""
    return _links(site, snapshot, store)[0].ref.size


def template(site: Site, snapshot: SnapshotId, path: Path, call: Call, *, store: str | None = None) -> None:
    """Write a snapshot into a new qcow2 file that needs no other.

    Args:
        store: which is to be read, where there are copies.

    Raises:
        Conflict: `path` exists.
    """
    if os.path.lexists(path):
        raise Conflict(f"{path} exists: it is not overwritten")
    with _staged(site, TEMPLATE, path) as part:
        _flatten(_links(site, snapshot, store), part, call)
        with os_errors(f"cannot give {part} the name {path.name}", outcome=Outcome.UNKNOWN):
            part.rename(path)
            sync(path.parent)


def revert(site: Site, volume: VolumeId, snapshot: SnapshotId, image: Path, call: Call) -> None:
    """Put a volume back to one of its snapshots; the chain ends, the next snapshot is a full.

    Args:
        image: the volume's qcow2 file; owner and rights are kept, bitmaps are not.

    Raises:
        InUse: the VM is not stopped, or something else has the file open.
        InvalidArgument: it is a snapshot of another volume.
    """
    disk = site.disk_of(volume)
    if disk and site.vm_state(disk.vm, call) is not VmState.STOPPED:
        raise InUse(f"VM {disk.vm} must be stopped: its disk {disk.device} is to be reverted")
    links = _links(site, snapshot)
    if links[0].ref.volume != volume:
        raise InvalidArgument(f"snapshot {snapshot} is not one of volume {volume}")
    with os_errors(f"cannot look at {image}"):
        like = image.stat(follow_symlinks=False)
    with _staged(site, REVERT, image) as part:
        _flatten(links, part, call)
        with os_errors(f"cannot prepare {part}"):
            os.chown(part, like.st_uid, like.st_gid)
            part.chmod(stat.S_IMODE(like.st_mode))
        end_chain(site, volume, Reason.REVERTED)  # before the act: a full too many costs time, not data
        site.untrack(volume, call)
        # Copying takes long, and a VM may have been started meanwhile: what its guest wrote would go to a
        # file without a name.
        with image_lock.alone(image), os_errors(f"cannot replace {image}", outcome=Outcome.UNKNOWN):
            part.rename(image)
            sync(image.parent)


def end_chain(site: Site, volume: VolumeId, reason: Reason) -> None:
    """Let the next snapshot of a volume be a full; repeatable.

    Args:
        reason: such as MIGRATED or SHRUNK, of which nobody but the orchestrator knows.
    """
    with site.catalog.transaction() as session:
        refs = refs_of_volume(session, volume)
        rules.check_idle(refs)
        newest = rules.candidate(refs)
        if newest:
            newest.end_chain(reason)


def _links(site: Site, snapshot: SnapshotId, store: str | None = None) -> Sequence[Link]:
    with site.catalog.transaction() as session:
        refs, ref = site.readable(session, snapshot, store)
    return site.links(refs, ref)


@contextmanager
def _staged(site: Site, kind: str, path: Path) -> Iterator[Path]:
    """Yield a name beside `path` for a file that is gone afterwards, also if we are killed."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with site.intent(kind, part=str(part.absolute())) as intent:
        try:
            yield part
        finally:
            remove_staged(part)
            intent.undone()


def remove_staged(part: Path) -> None:
    """Remove what was not given its name; repeatable."""
    with os_errors(f"cannot remove {part}", outcome=Outcome.UNKNOWN):
        part.unlink(missing_ok=True)


def _flatten(links: Sequence[Link], part: Path, call: Call) -> None:
    qemu_img.create_image(part, links[0].ref.size, call)
    with open_qcow2_sink(part) as sink:
        links[0].store.restore(links, sink, call)
    with os_errors(f"cannot flush {part}", outcome=Outcome.UNKNOWN):
        sync(part)
