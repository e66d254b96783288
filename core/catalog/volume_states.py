"""The life of a volume.

CloudStack's, and what is missing there: RESUMED lets a sync take up each transient state, LOST says that
the pool no longer has it, and a failed creation ends in Error instead of Allocated: something may lie on
the pool, so only Allocated may be forgotten without asking it.
"""

from __future__ import annotations

from enum import StrEnum

from .machine import StateMachine


class VolumeState(StrEnum):
    """Where a volume is; DESTROY: deleted by its user, who can have it back until it is expunged."""

    ALLOCATED = "Allocated"
    CREATING = "Creating"
    READY = "Ready"
    ATTACHING = "Attaching"
    DETACHING = "Detaching"
    SNAPSHOTTING = "Snapshotting"
    REVERTING = "RevertSnapshotting"
    RESIZING = "Resizing"
    COPYING = "Copying"
    MIGRATING = "Migrating"
    DESTROY = "Destroy"
    EXPUNGING = "Expunging"
    EXPUNGED = "Expunged"
    ERROR = "Error"


class VolumeEvent(StrEnum):
    """What happens to a volume."""

    CREATE_REQUESTED = "CreateRequested"
    ATTACH_REQUESTED = "AttachRequested"
    DETACH_REQUESTED = "DetachRequested"
    SNAPSHOT_REQUESTED = "SnapshotRequested"
    REVERT_REQUESTED = "RevertSnapshotRequested"
    RESIZE_REQUESTED = "ResizeRequested"
    COPY_REQUESTED = "CopyRequested"
    MIGRATE_REQUESTED = "MigrationRequested"
    DESTROY_REQUESTED = "DestroyRequested"
    RECOVER_REQUESTED = "RecoverRequested"
    EXPUNGE_REQUESTED = "ExpungeRequested"
    SUCCEEDED = "OperationSucceeded"
    FAILED = "OperationFailed"
    RESUMED = "Resumed"
    LOST = "Lost"


_S, _E = VolumeState, VolumeEvent

# What is done to a whole volume, which is whole again when that has ended, well or not.
_TASKS = {
    _E.ATTACH_REQUESTED: _S.ATTACHING,
    _E.DETACH_REQUESTED: _S.DETACHING,
    _E.SNAPSHOT_REQUESTED: _S.SNAPSHOTTING,
    _E.REVERT_REQUESTED: _S.REVERTING,
    _E.RESIZE_REQUESTED: _S.RESIZING,
    _E.COPY_REQUESTED: _S.COPYING,
    _E.MIGRATE_REQUESTED: _S.MIGRATING,
}
_TRANSIENT = frozenset({_S.CREATING, _S.EXPUNGING, *_TASKS.values()})

VOLUMES = StateMachine(
    "volume",
    _S.ALLOCATED,
    {
        (_S.ALLOCATED, _E.CREATE_REQUESTED): _S.CREATING,
        (_S.ALLOCATED, _E.SUCCEEDED): _S.READY,  # it existed, and was introduced
        (_S.ALLOCATED, _E.EXPUNGE_REQUESTED): _S.EXPUNGED,  # no backend has heard of it
        (_S.CREATING, _E.SUCCEEDED): _S.READY,
        (_S.CREATING, _E.FAILED): _S.ERROR,
        **{(_S.READY, event): task for event, task in _TASKS.items()},
        **{(task, event): _S.READY for task in _TASKS.values() for event in (_E.SUCCEEDED, _E.FAILED)},
        **{(state, _E.LOST): _S.ERROR for state in (_S.READY, _S.DESTROY, *_TASKS.values())},
        (_S.READY, _E.DESTROY_REQUESTED): _S.DESTROY,
        (_S.READY, _E.EXPUNGE_REQUESTED): _S.EXPUNGING,
        (_S.DESTROY, _E.RECOVER_REQUESTED): _S.READY,
        (_S.DESTROY, _E.EXPUNGE_REQUESTED): _S.EXPUNGING,
        (_S.ERROR, _E.CREATE_REQUESTED): _S.CREATING,
        (_S.ERROR, _E.EXPUNGE_REQUESTED): _S.EXPUNGING,
        (_S.EXPUNGING, _E.EXPUNGE_REQUESTED): _S.EXPUNGING,
        (_S.EXPUNGING, _E.FAILED): _S.EXPUNGING,
        (_S.EXPUNGING, _E.SUCCEEDED): _S.EXPUNGED,
        **{(state, _E.RESUMED): state for state in _TRANSIENT},
    },
    _TRANSIENT,
)
