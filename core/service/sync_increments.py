"""Incremental snapshots: each intent of a dead process, by `settling.settle_entry` of the pool that it is of.

The journal names them, so what is looked at is what is under way. A hypervisor or store that is away keeps
its own intents where they are; they are told, and tried again by the next sync.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...transfer_objects.ids import VolumeId
from ..catalog.snapshots import SnapshotRecord
from ..intents import Entry
from ..site import Site
from ..snapshots import kvm
from ..spi import Call, StorageError
from .increments import IncrementSite, increments_of
from .sync import Ended, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class IncrementKind:
    """Ends what is left of incremental snapshots.

    Attributes:
        vm_of: returns the VM that the catalog says has a volume, "" if none has.
        vms_of: returns the VMs of a host, as the catalog has them.
    """

    site: Site
    vm_of: Callable[[VolumeId], str]
    vms_of: Callable[[str], Sequence[str]]

    def unfinished(self, *, vm: str, host: str) -> Iterator[Task]:
        """See `Kind.unfinished`; an intent of which nobody can say whose VM it is about is told to all."""
        wanted = {vm} if vm else set(self.vms_of(host)) if host else None
        found = [
            entry for entry in self._abandoned() if wanted is None or self._concerns(entry, wanted, host)
        ]
        for entry in found:
            volume = VolumeId(entry.fields.get("volume", ""))
            owner = self.vm_of(volume) if volume else ""
            group = f"vm {owner}" if owner else f"volume {volume or _name(entry)}"
            end = partial(self._end, entry)
            yield Task(kind="increment", id=_name(entry), group=group, what=entry.kind, end=end)

    def _abandoned(self) -> Iterator[Entry]:
        for entry in self.site.mover().journal.abandoned():
            entry.release()
            # Without a name it is one of a site that no configuration has, but somebody's own program.
            if entry.kind.startswith("kvm.") and entry.fields.get("site"):
                yield entry

    def _concerns(self, entry: Entry, vms: set[str], host: str) -> bool:
        volume = VolumeId(entry.fields.get("volume", ""))
        try:
            site = self._site(entry)
            if host and self._reaches(site, host):
                return True
            if not volume:
                return False
            disk = site.volumes.disk_of(volume)
        except StorageError:
            return True
        return disk is not None and disk.vm in vms

    def _reaches(self, site: IncrementSite, host: str) -> bool:
        hypervisor = self.site.hypervisor(site.options.hypervisor)
        return any(str(one.host.id) == host for one in self.site.hosts_of(hypervisor))

    def _site(self, entry: Entry) -> IncrementSite:
        return increments_of(self.site, entry.fields["site"])

    def _end(self, entry: Entry, call: Call) -> Sequence[Ended]:
        site = self._site(entry)
        claimed = site.engine.journal.claim(entry)
        if claimed is None:  # another sync has ended it, or does just now
            return []
        kvm.settle_entry(site.engine, claimed, call)
        after = self._state(entry)
        return [Ended(kind="increment", id=_name(entry), before=entry.kind, after=after)]

    def _state(self, entry: Entry) -> str:
        with self.site.catalog().reading() as session:
            record = session.get(SnapshotRecord, entry.fields.get("snapshot", ""))
        return "at rest" if record is None else record.state.value


def _name(entry: Entry) -> str:
    """Return what an intent is about, for people: the snapshot, else the volume, else the file."""
    fields = entry.fields
    return fields.get("snapshot") or fields.get("volume") or Path(fields.get("part", "")).name
