"""Reverts of disk-only snapshots under way: their intents, and how one ends, whoever began it.

    intents ── switch ── the file from before goes ── intents done
       │ kill -9, or an error: the next task of the VM, or a sync, asks which file the VM has
       ├── the new one, or one above it     the old one goes, unless another image stands on it
       ├── the old one, or one above it     the new one goes, as above
       └── another one, or no VM            both stay, and the intent too: either may be the volume's data

Without an intent a revert that was killed left a file that nobody knew of: each revert has new names.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...transfer_objects.ids import VolumeId
from ..intents import Entry
from ..pool import Pool
from ..service.sync import Ended, Task
from ..service.sync_vm_snapshots import fleet_vm_locks
from ..site import Site
from ..spi import Call, Conflict, FileLocation, HasDependents, StorageError
from .guests import disk_of, hypervisor_of
from .images import image_at, image_below, own_image, remove_overlay
from .names import vm_id

KIND = "disk-only-revert"

_log = logging.getLogger("bollard.commands")


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched:
    """What a revert does to one volume.

    Attributes:
        own: the volume's own file.
        base: the snapshot's image.
        old: the file that the VM has it in before; it goes, unless it is one of the two.
        new: the file that it gets.
    """

    pool: Pool
    volume: VolumeId
    own: FileLocation
    base: FileLocation
    old: FileLocation
    new: FileLocation

    def fields(self, vm_name: str) -> dict[str, str]:
        """Return what the journal says of it."""
        return {
            "vm": vm_name,
            "pool": self.pool.info.identity,
            "store": self.pool.name,
            "volume": self.volume,
            "old": self.old.path.name,
            "needed": "yes" if self.old.path in (self.own.path, self.base.path) else "",
            "new": self.new.path.name,
        }


@contextmanager
def reverting(site: Site, vm_name: str, switched: Sequence[Switched], call: Call) -> Iterator[None]:
    """Hold the intents of what the body switches, and end each, however that went.

    What cannot be ended now is left to the next task of the VM, or to a sync.
    """
    journal, begun = site.mover().journal, []
    with ExitStack() as held:
        for one in switched:
            begun.append(journal.begin(KIND, **one.fields(vm_name)))
            held.callback(begun[-1].release)
        try:
            yield
        finally:
            for entry in begun:
                _try(site, entry, call)


def end_left(site: Site, vm_name: str | None, call: Call) -> None:
    """End what dead processes left of a VM's reverts, before a task of it; the caller holds the VM."""
    for entry in site.mover().journal.abandoned():
        if entry.kind == KIND and entry.fields["vm"] == vm_name:
            _try(site, entry, call)
        else:
            entry.release()


def _try(site: Site, entry: Entry, call: Call) -> str:
    """End a revert; return what keeps it from being ended, "" if nothing does."""
    try:
        _end(site, entry, call)
    except StorageError as error:
        _log.warning("the revert of %s is not ended yet: %s", entry.fields["volume"], error)
        return error.message
    finally:
        entry.release()
    return ""


def _end(site: Site, entry: Entry, call: Call) -> None:
    """Remove the file that the VM has not, and the intent.

    Raises:
        Conflict, NotFound: it has neither, so it cannot be told which of the two is needed. Both stay.
    """
    said, volume = entry.fields, VolumeId(entry.fields["volume"])
    own = own_image(site.pool(said["store"]), volume, call)
    old, new = image_at(own, volume, said["old"]), image_at(own, volume, said["new"])
    there = set(_chain(site, said["vm"], volume, call))
    if new.path in there:
        if not said["needed"] and old.path not in there:
            _remove_unneeded(own, volume, old)
    elif old.path in there:
        _remove_unneeded(own, volume, new)
    else:
        raise Conflict(f"VM {said['vm']} has volume {volume} in neither {old.path.name} nor {new.path.name}")
    entry.done()


def _chain(site: Site, vm_name: str, volume: VolumeId, call: Call) -> Iterator[Path]:
    """Yield the file that a VM has a volume in, and those that it stands on, as far as they say so."""
    location = disk_of(hypervisor_of(site, vm_name, call), vm_id(vm_name), volume, call).location
    image = location if isinstance(location, FileLocation) else None
    while image is not None:
        yield image.path
        image = image_below(image)


def _remove_unneeded(own: FileLocation, volume: VolumeId, image: FileLocation) -> None:
    try:
        remove_overlay(own, volume, image)
    except HasDependents:
        return  # another snapshot stands on it


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertKind:
    """What a sync ends of reverts."""

    site: Site

    def unfinished(self, *, vm: str, host: str) -> Iterator[Task]:
        """See `Kind.unfinished`; which VMs a host has is not known here, so none of them is its alone."""
        del host
        for entry in self.site.mover().journal.abandoned():
            entry.release()
            if entry.kind == KIND and vm in ("", vm_id(entry.fields["vm"])):
                volume, group = entry.fields["volume"], f"vm {vm_id(entry.fields['vm'])}"
                end = partial(self._ended, entry)
                yield Task(kind="reverts", id=volume, group=group, what="reverting", end=end)

    def _ended(self, left: Entry, call: Call) -> Sequence[Ended]:
        mover = self.site.mover()
        with fleet_vm_locks(mover).task(vm_id(left.fields["vm"])):
            entry = mover.journal.claim(left)
            if entry is None:
                return []
            problem = _try(self.site, entry, call)
        after = "reverting" if problem else "reverted or as before"
        volume = left.fields["volume"]
        return [Ended(kind="revert", id=volume, before="reverting", after=after, problem=problem)]
