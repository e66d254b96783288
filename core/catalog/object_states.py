"""The life of an object on one store: the bytes of a volume, a snapshot or a template in one place.

CloudStack's states and events, and what is missing there:

    RESUMED            a sync takes up what a dead process began; the state stays
    Creating → Destroying     what was half made can go, without the detour over Allocated
    Ready → Hidden → Ready    gone for its user, kept because others are based on it; shown again
    Ready → Failed            LOST: the store no longer has it

Left out is Ready → Ready by OperationSucceeded: a second success is a bug of its caller, not a move.
"""

from __future__ import annotations

from enum import StrEnum

from .machine import StateMachine


class ObjectState(StrEnum):
    """What a store has; HIDDEN: kept only because others are based on it."""

    ALLOCATED = "Allocated"
    CREATING = "Creating"
    READY = "Ready"
    COPYING = "Copying"
    MIGRATING = "Migrating"
    HIDDEN = "Hidden"
    DESTROYING = "Destroying"
    DESTROYED = "Destroyed"
    FAILED = "Failed"


class ObjectEvent(StrEnum):
    """What happens to it."""

    CREATE_REQUESTED = "CreateOnlyRequested"
    SUCCEEDED = "OperationSucceeded"
    FAILED = "OperationFailed"
    COPY_REQUESTED = "CopyingRequested"
    MIGRATE_REQUESTED = "MigrateDataRequested"
    MIGRATION_SUCCEEDED = "MigrationSucceeded"
    MIGRATION_FAILED = "MigrationFailed"
    HIDE_REQUESTED = "HideRequested"
    REVIVE_REQUESTED = "ReviveRequested"
    DESTROY_REQUESTED = "DestroyRequested"
    RESUMED = "Resumed"
    LOST = "Lost"


_S, _E = ObjectState, ObjectEvent
_TRANSIENT = frozenset({_S.CREATING, _S.COPYING, _S.MIGRATING, _S.DESTROYING})

OBJECTS = StateMachine(
    "object",
    _S.ALLOCATED,
    {
        (_S.ALLOCATED, _E.CREATE_REQUESTED): _S.CREATING,
        (_S.ALLOCATED, _E.SUCCEEDED): _S.READY,  # it existed, and was introduced
        (_S.ALLOCATED, _E.FAILED): _S.FAILED,
        (_S.ALLOCATED, _E.MIGRATE_REQUESTED): _S.MIGRATING,
        (_S.ALLOCATED, _E.DESTROY_REQUESTED): _S.DESTROYING,
        (_S.CREATING, _E.SUCCEEDED): _S.READY,
        (_S.CREATING, _E.FAILED): _S.ALLOCATED,
        (_S.CREATING, _E.DESTROY_REQUESTED): _S.DESTROYING,
        (_S.READY, _E.COPY_REQUESTED): _S.COPYING,
        (_S.READY, _E.MIGRATE_REQUESTED): _S.MIGRATING,
        (_S.READY, _E.HIDE_REQUESTED): _S.HIDDEN,
        (_S.READY, _E.DESTROY_REQUESTED): _S.DESTROYING,
        (_S.READY, _E.LOST): _S.FAILED,
        (_S.COPYING, _E.SUCCEEDED): _S.READY,
        (_S.COPYING, _E.FAILED): _S.READY,
        (_S.COPYING, _E.LOST): _S.FAILED,
        (_S.MIGRATING, _E.SUCCEEDED): _S.READY,
        (_S.MIGRATING, _E.FAILED): _S.READY,
        (_S.MIGRATING, _E.MIGRATION_SUCCEEDED): _S.DESTROYED,  # it lies elsewhere now, with a ref of its own
        (_S.MIGRATING, _E.MIGRATION_FAILED): _S.FAILED,
        (_S.HIDDEN, _E.REVIVE_REQUESTED): _S.READY,
        (_S.HIDDEN, _E.DESTROY_REQUESTED): _S.DESTROYING,
        (_S.FAILED, _E.DESTROY_REQUESTED): _S.DESTROYING,
        (_S.DESTROYING, _E.DESTROY_REQUESTED): _S.DESTROYING,
        (_S.DESTROYING, _E.FAILED): _S.DESTROYING,
        (_S.DESTROYING, _E.SUCCEEDED): _S.DESTROYED,
        **{(state, _E.RESUMED): state for state in _TRANSIENT},
    },
    _TRANSIENT,
)
