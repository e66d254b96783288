"""Volume snapshots: by `transient.end_volume`, all of a volume's, oldest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from ...transfer_objects.ids import VolumeId
from ..spi import Call
from .snapshots_context import Context
from .sync import Ended, Task
from .transient import end_volume, unfinished

_PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotKind:
    """Ends what is left of volume snapshots.

    Attributes:
        vm_of: returns the VM that has a volume, "" if none has.
        vms_of: returns the VMs of a host.
    """

    context: Context
    vm_of: Callable[[VolumeId], str]
    vms_of: Callable[[str], Sequence[str]]

    def unfinished(self, *, vm: str, host: str) -> Iterator[Task]:
        """See `Kind.unfinished`."""
        wanted = {vm} if vm else set(self.vms_of(host)) if host else None
        after = ""
        while page := unfinished(self.context, after=after, limit=_PAGE):
            for volume in page:
                owner = self.vm_of(volume)
                if wanted is None or owner in wanted:
                    group = f"vm {owner}" if owner else f"volume {volume}"
                    end = partial(self._end, volume)
                    yield Task(kind="snapshots", id=volume, group=group, what="unfinished", end=end)
            after = page[-1]

    def _end(self, volume: VolumeId, call: Call) -> Sequence[Ended]:
        return [
            Ended(kind=one.kind, id=one.id, before=one.before, after=one.after, problem=one.problem)
            for one in end_volume(self.context, volume, call)
        ]
