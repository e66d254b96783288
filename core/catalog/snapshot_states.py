"""The life of a volume snapshot, as its user sees it.

BACKED_UP rests on secondary storage and CREATED_ON_PRIMARY on the pool alone; CloudStack calls both
BackedUp (cloudstack#8946). What else is missing there:

    RESUMED                   a sync takes up what a dead process began; the state stays
    BackingUp → CreatedOnPrimary      a backup that failed leaves the snapshot where it was
    Error → Creating, Destroying      neither a second try nor a deletion needs an editor of databases
    Destroying → Destroying           a deletion that failed goes on; half of it may be gone
    Hidden                    deleted by its user, kept because others are based on it
"""

from __future__ import annotations

from enum import StrEnum

from .machine import StateMachine


class SnapshotState(StrEnum):
    """What a user sees."""

    ALLOCATED = "Allocated"
    CREATING = "Creating"
    CREATED_ON_PRIMARY = "CreatedOnPrimary"
    BACKING_UP = "BackingUp"
    BACKED_UP = "BackedUp"
    COPYING = "Copying"
    HIDDEN = "Hidden"
    DESTROYING = "Destroying"
    DESTROYED = "Destroyed"
    ERROR = "Error"


class SnapshotEvent(StrEnum):
    """What happens to a snapshot."""

    CREATE_REQUESTED = "CreateRequested"
    ON_PRIMARY = "RestsOnPrimary"
    ON_SECONDARY = "RestsOnSecondary"
    FAILED = "OperationFailed"
    BACKUP_REQUESTED = "BackupToSecondary"
    COPY_REQUESTED = "CopyingRequested"
    HIDE_REQUESTED = "HideRequested"
    DESTROY_REQUESTED = "DestroyRequested"
    DESTROYED = "OperationSucceeded"
    RESUMED = "Resumed"
    LOST = "Lost"


_S, _E = SnapshotState, SnapshotEvent
_RESTING = (_S.CREATED_ON_PRIMARY, _S.BACKED_UP)
_TRANSIENT = frozenset({_S.CREATING, _S.BACKING_UP, _S.COPYING, _S.DESTROYING})

SNAPSHOTS = StateMachine(
    "snapshot",
    _S.ALLOCATED,
    {
        (_S.ALLOCATED, _E.CREATE_REQUESTED): _S.CREATING,
        (_S.ALLOCATED, _E.FAILED): _S.ERROR,
        (_S.ALLOCATED, _E.DESTROY_REQUESTED): _S.DESTROYED,  # no backend has heard of it
        (_S.CREATING, _E.FAILED): _S.ERROR,
        (_S.BACKING_UP, _E.BACKUP_REQUESTED): _S.BACKING_UP,
        (_S.BACKING_UP, _E.FAILED): _S.ERROR,
        (_S.ERROR, _E.CREATE_REQUESTED): _S.CREATING,
        (_S.ERROR, _E.DESTROY_REQUESTED): _S.DESTROYING,
        (_S.HIDDEN, _E.DESTROY_REQUESTED): _S.DESTROYING,
        (_S.DESTROYING, _E.DESTROY_REQUESTED): _S.DESTROYING,
        (_S.DESTROYING, _E.FAILED): _S.DESTROYING,
        (_S.DESTROYING, _E.DESTROYED): _S.DESTROYED,
        (_S.DESTROYING, _E.HIDE_REQUESTED): _S.HIDDEN,
        **{(state, _E.BACKUP_REQUESTED): _S.BACKING_UP for state in _RESTING},
        **{(state, _E.COPY_REQUESTED): _S.COPYING for state in _RESTING},
        **{(state, _E.HIDE_REQUESTED): _S.HIDDEN for state in _RESTING},
        **{(state, _E.DESTROY_REQUESTED): _S.DESTROYING for state in _RESTING},
        **{(state, _E.LOST): _S.ERROR for state in (*_RESTING, _S.BACKING_UP, _S.COPYING)},
        **{(state, _E.RESUMED): state for state in _TRANSIENT},
        **{
            (state, event): rests
            for state in (*_TRANSIENT, _S.HIDDEN, *_RESTING)
            for event, rests in zip((_E.ON_PRIMARY, _E.ON_SECONDARY), _RESTING, strict=True)
        },
    },
    _TRANSIENT,
)
