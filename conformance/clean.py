"""Removing what a run made: after each check, and by `bollard conformance clean` when the run is dead.

    newest first:  grant -> snapshot -> clone -> volume -> prefix      removed, then looked for, then "done"

One path for both, so that each run of the suite tests what a vendor needs after kill -9.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace

from ..core.paging import all_pages
from ..core.plugins import kind_of, load_driver
from ..core.pool import Pool, open_pool
from ..core.spi import Call, Conflict, NotFound, StorageError, VmRef
from ..core.store import Store, open_store
from ..transfer_objects.ids import HostId, SnapshotId, TemplateId, VmId, VmSnapshotId, VolumeId
from .ledger import Contents, Intent, Kind, Ledger
from .recording import ARCHIVE, UNDER_TEST
from .settings import SuiteSettings

# Cleaning must end although the backend is gone; what did not work stays in the ledger.
SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a run's objects are: its pool, and its stores by their name in the ledger."""

    pool: Pool | None = None
    stores: Mapping[str, Store] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What became of one object; `problem` is empty if it is gone."""

    intent: Intent
    problem: str = ""


def remove(intent: Intent, place: Place) -> str:
    """Remove an object and look whether it is gone; returns what is wrong, or "". Repeatable."""
    try:
        return _REMOVERS[intent.kind](intent, place)
    except (StorageError, OSError) as error:
        return f"{intent} could not be removed: {type(error).__name__}: {error}"


def clean(ledger: Ledger, place: Place) -> list[Removal]:
    """Remove everything that the ledger names, and close it; one failure does not stop the others.

    Raises:
        Conflict: the ledger is of another pool.
    """
    if place.pool is not None:
        ledger.bind(place.pool.info.identity)
    removals = []
    for intent in ledger.open_intents():
        removal = Removal(intent=intent, problem=remove(intent, place))
        if not removal.problem:
            ledger.done(intent)
        removals.append(removal)
    ledger.finish()
    return removals


def settings_for(contents: Contents, given: SuiteSettings) -> SuiteSettings:
    """Return the settings with which a ledger may be cleaned.

    Raises:
        Conflict: the configuration is of another driver.
        InvalidArgument: it is not marked for tests.
    """
    if given.driver != contents.driver:
        raise Conflict(f"the ledger is of driver {contents.driver!r}, the configuration of {given.driver!r}")
    given.require_test_pool()
    return given


def open_place(settings: SuiteSettings, stack: ExitStack) -> Place:
    """Open the pool or store of a configuration, and its archive store.

    Raises:
        PluginError: a driver cannot be loaded.
        StorageError: the backend cannot be opened.
    """
    place = Place()
    if settings.store_driver:
        archive = open_store(ARCHIVE, settings.store_driver, settings.store_options)
        place = Place(stores={ARCHIVE: stack.enter_context(closing(archive))})
    if kind_of(load_driver(settings.driver)) == "image-store":
        store = stack.enter_context(closing(open_store(UNDER_TEST, settings.driver, settings.options)))
        return replace(place, stores={**place.stores, UNDER_TEST: store})
    return replace(place, pool=stack.enter_context(open_pool(UNDER_TEST, settings.driver, settings.options)))


def _call() -> Call:
    return Call.within(SECONDS)


def _pool(place: Place) -> Pool:
    if place.pool is None:
        raise Conflict("the configuration names no pool")
    return place.pool


def _store(intent: Intent, place: Place) -> Store:
    try:
        return place.stores[intent.scope]
    except KeyError as error:
        raise Conflict("the configuration has no [store], and the run had one") from error


def _volume(intent: Intent, place: Place) -> str:
    volumes, volume = _pool(place).volumes, VolumeId(intent.id)
    with suppress(NotFound):  # whether a second delete may say so is a check's business
        volumes.delete(volume, _call())
    with suppress(NotFound):
        volumes.get(volume, _call())
        return f"{intent} is still there after a delete that succeeded"
    return ""


def _adopted(intent: Intent, place: Place) -> str:
    with suppress(NotFound):
        _pool(place).volumes.release(VolumeId(intent.id), _call())
    return ""


def _snapshot(intent: Intent, place: Place) -> str:
    snapshots, snapshot = _pool(place).snapshots, SnapshotId(intent.id)
    with suppress(NotFound):
        snapshots.delete(snapshot, _call())
    with suppress(NotFound):
        snapshots.get(snapshot, _call())
        return f"{intent} is still there after a delete that succeeded"
    return ""


def _vm_snapshot(intent: Intent, place: Place) -> str:
    vm, *volumes = intent.scope.split(" ")
    with suppress(NotFound):
        _pool(place).vm_snapshots.delete(
            [VolumeId(volume) for volume in volumes],
            VmRef(vm=VmId(vm), snapshot=VmSnapshotId(intent.id)),
            _call(),
        )
    return ""


def _grant(intent: Intent, place: Place) -> str:
    volumes, volume, host = _pool(place).volumes, VolumeId(intent.id), HostId(intent.scope)
    with suppress(NotFound):
        volumes.revoke(volume, host, _call())
    with suppress(NotFound):
        if host in {grant.host for grant in volumes.grants(volume, _call())}:
            return f"{intent} is still listed after a revoke that succeeded"
    return ""


def _template(intent: Intent, place: Place) -> str:
    with suppress(NotFound):
        _pool(place).volumes.evict_template(TemplateId(intent.id), _call())
    return ""


def _prefix(intent: Intent, place: Place) -> str:
    store, call = _store(intent, place), _call()
    for stored in _keys(store, intent.id, call):
        store.delete(stored, call)
    store.abort_uploads(intent.id, call, older_than=0)
    # A listing may lag: what it still shows is asked for by name.
    left = [key for key in _keys(store, intent.id, call) if _exists(store, key, call)]
    return f"{intent}: {len(left)} keys are left, {left[0]!r} first" if left else ""


def _key(intent: Intent, place: Place) -> str:
    store, call = _store(intent, place), _call()
    store.delete(intent.id, call)
    return f"{intent} is still there after a delete that succeeded" * _exists(store, intent.id, call)


def _keys(store: Store, prefix: str, call: Call) -> list[str]:
    return [stored.key for stored in all_pages(lambda after: store.list(prefix, call, after=after))]


def _exists(store: Store, key: str, call: Call) -> bool:
    try:
        store.head(key, call)
    except NotFound:
        return False
    return True


_REMOVERS: Mapping[Kind, Callable[[Intent, Place], str]] = {
    Kind.VOLUME: _volume,
    Kind.ADOPTED: _adopted,
    Kind.SNAPSHOT: _snapshot,
    Kind.VM_SNAPSHOT: _vm_snapshot,
    Kind.GRANT: _grant,
    Kind.TEMPLATE: _template,
    Kind.PREFIX: _prefix,
    Kind.KEY: _key,
}
