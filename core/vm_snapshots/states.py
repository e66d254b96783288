"""The states and events of VM snapshots, by the names that this package has for them.

Their table of moves is the catalog's, as those of all records: see `core.catalog.vm_snapshot_states`.
"""

from __future__ import annotations

from ..catalog.vm_snapshot_states import ACTIVE, UNFINISHED, VM_SNAPSHOTS
from ..catalog.vm_snapshot_states import VmSnapshotEvent as Event
from ..catalog.vm_snapshot_states import VmSnapshotState as State

__all__ = ["ACTIVE", "UNFINISHED", "VM_SNAPSHOTS", "Event", "State", "after"]


def after(state: State, event: Event) -> State:
    """Return the state that follows.

    Raises:
        IllegalTransition: there is none.
    """
    return VM_SNAPSHOTS.after(state, event)
