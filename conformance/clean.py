"""Removing what a run made: after each check, and by `bollard conformance clean` when the run is dead.

    newest first:  grant -> snapshot -> clone -> volume -> prefix      removed, then looked for, then "done"
                   released: adopted again -> volume
                   backup and checkpoint -> thaw -> moved home -> on or off as it was
                   -> detach -> forget -> files of the objects
                   fenced -> on

One path for both, so that each run of the suite tests what a vendor needs after kill -9.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..core.fence import fence_driver
from ..core.paging import all_pages
from ..core.plugins import kind_of, load_driver
from ..core.pool import Pool, open_pool
from ..core.spi import (
    Backups,
    Call,
    Conflict,
    FenceDriver,
    GuestState,
    HypervisorDriver,
    ImageStoreDriver,
    Introduced,
    InvalidArgument,
    MigratesVms,
    NotFound,
    ObjectKind,
    PowerState,
    PowersVms,
    StorageError,
    Unsupported,
    VmRef,
    VmState,
    VolumeSpec,
)
from ..core.store import Store, open_store
from ..transfer_objects.ids import HostId, SnapshotId, TemplateId, VmId, VmSnapshotId, VolumeId
from .host_lab import open_hypervisor
from .ledger import Contents, Intent, Kind, Ledger
from .recording import ARCHIVE, UNDER_TEST
from .settings import SuiteSettings

# Cleaning must end although the backend is gone; what did not work stays in the ledger.
SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a run's objects are: its pool, hypervisor or BMC, and its stores by their name in the ledger."""

    pool: Pool | None = None
    hypervisor: HypervisorDriver[Any] | None = None
    fence: FenceDriver[Any] | None = None
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


def exists(intent: Intent, place: Place) -> bool:
    """Return whether a volume, snapshot or grant is on the backend; others are not looked for.

    Raises:
        StorageError: the backend cannot be asked.
    """
    looked = _FINDERS.get(intent.kind)
    return looked is not None and _is_there(looked, intent, place)


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
    """Open what a configuration names: pool, store, hypervisor or BMC, and the archive store.

    Raises:
        PluginError: a driver cannot be loaded.
        StorageError: the backend cannot be opened.
    """
    place = Place()
    if settings.store_driver:
        archive = open_store(ARCHIVE, settings.store_driver, settings.store_options)
        place = Place(stores={ARCHIVE: stack.enter_context(closing(archive))})
    kind = kind_of(load_driver(settings.driver))
    if kind == "image-store":
        store = stack.enter_context(closing(open_store(UNDER_TEST, settings.driver, settings.options)))
        return replace(place, stores={**place.stores, UNDER_TEST: store})
    if kind == "hypervisor":
        driver = open_hypervisor(settings.driver, settings.options)
        return replace(place, hypervisor=stack.enter_context(closing(driver)))
    if kind == "fence":
        fence = fence_driver(settings.driver, settings.options)
        return replace(place, fence=stack.enter_context(closing(fence)))
    return replace(place, pool=stack.enter_context(open_pool(UNDER_TEST, settings.driver, settings.options)))


def _is_there(looked: Callable[[Intent, Place], bool], intent: Intent, place: Place) -> bool:
    try:
        return looked(intent, place)
    except NotFound:
        return False


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
    with suppress(NotFound):  # whether a second delete may say so is a check's business
        _pool(place).volumes.delete(VolumeId(intent.id), _call())
    return f"{intent} is still there after a delete that succeeded" * exists(intent, place)


def _has_volume(intent: Intent, place: Place) -> bool:
    return bool(_pool(place).volumes.get(VolumeId(intent.id), _call()))


def _adopted(intent: Intent, place: Place) -> str:
    if intent.scope:  # it was one of our own that we had released
        return _volume(replace(intent, kind=Kind.VOLUME), place)
    with suppress(NotFound):
        _pool(place).volumes.release(VolumeId(intent.id), _call())
    return ""


def _released(intent: Intent, place: Place) -> str:
    """Make it a volume again, whose own, older intent then removes it: nothing else may delete it."""
    if _is_there(_has_volume, intent, place):
        return ""
    volume, volumes = VolumeId(intent.id), _pool(place).volumes
    with suppress(NotFound):
        native = volumes.release(volume, _call())  # a repeat tells the native name again
        volumes.adopt(native, VolumeSpec(id=volume, size=int(intent.scope)), _call())
    return ""


def _snapshot(intent: Intent, place: Place) -> str:
    with suppress(NotFound):
        _pool(place).snapshots.delete(SnapshotId(intent.id), _call())
    return f"{intent} is still there after a delete that succeeded" * exists(intent, place)


def _has_snapshot(intent: Intent, place: Place) -> bool:
    return bool(_pool(place).snapshots.get(SnapshotId(intent.id), _call()))


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
    with suppress(NotFound):
        _pool(place).volumes.revoke(VolumeId(intent.id), HostId(intent.scope), _call())
    return f"{intent} is still listed after a revoke that succeeded" * exists(intent, place)


def _has_grant(intent: Intent, place: Place) -> bool:
    grants = _pool(place).volumes.grants(VolumeId(intent.id), _call())
    return HostId(intent.scope) in {grant.host for grant in grants}


def _template(intent: Intent, place: Place) -> str:
    with suppress(NotFound):
        _pool(place).volumes.evict_template(TemplateId(intent.id), _call())
    return ""


def _prefix(intent: Intent, place: Place) -> str:
    # A deadline for each call: one for 1,001 keys was too short on a busy machine, and they had "leaked".
    store = _store(intent, place)
    for stored in _keys(store, intent.id):
        store.delete(stored, _call())
    store.abort_uploads(intent.id, _call(), older_than=0)
    # A listing may lag: what it still shows is asked for by name.
    left = [key for key in _keys(store, intent.id) if _exists(store, key, _call())]
    return f"{intent}: {len(left)} keys are left, {left[0]!r} first" if left else ""


def _key(intent: Intent, place: Place) -> str:
    driver, call = _store(intent, place).driver, _call()
    with suppress(InvalidArgument):  # asked without core, for it may be a key that core refuses
        driver.delete(intent.id, call)
        # A put that was killed half-way leaves an upload and no key (NFS, README.txt: 1 of 100 kills).
        if intent.id:  # a driver that takes "" for a key would abort everybody's uploads here
            driver.abort_uploads(intent.id, call, older_than=0)
        return f"{intent} is still there after a delete that succeeded" * _exists(driver, intent.id, call)
    return ""  # what the driver refuses to delete by that name, it did not take


def _keys(store: Store, prefix: str) -> list[str]:
    return [stored.key for stored in all_pages(lambda after: store.list(prefix, _call(), after=after))]


def _exists(store: Store | ImageStoreDriver[Any], key: str, call: Call) -> bool:
    try:
        store.head(key, call)
    except NotFound:
        return False
    return True


def _hypervisor(place: Place) -> HypervisorDriver[Any]:
    if place.hypervisor is None:
        raise Conflict("the configuration names no hypervisor")
    return place.hypervisor


def _introduced(intent: Intent, place: Place) -> str:
    kind, _, host = intent.scope.partition(" ")
    with suppress(NotFound):
        _hypervisor(place).forget(ObjectKind(kind), intent.id, HostId(host), _call())
    return ""


def _attached(intent: Intent, place: Place) -> str:
    vm, host, path = intent.scope.split(" ", 2)
    disk = Introduced(object_id=intent.id, host=HostId(host), path=path)
    with suppress(NotFound):
        _hypervisor(place).detach(VmId(vm), disk, _call())
    return ""


def _host_snapshot(intent: Intent, place: Place) -> str:
    with suppress(NotFound):
        _hypervisor(place).delete_vm_snapshot(VmId(intent.scope), VmSnapshotId(intent.id), _call())
    return ""


def _frozen(intent: Intent, place: Place) -> str:
    driver, vm = _hypervisor(place), VmId(intent.id)
    with suppress(NotFound, Unsupported):
        if driver.vm_state(vm, _call()) is not VmState.RUNNING:
            return ""  # what is off is not frozen
        driver.thaw(vm, _call())
        if driver.guest_state(vm, _call()) is GuestState.FROZEN:
            return f"the guest of {vm} is still frozen after a thaw that succeeded"
    return ""


def _power(intent: Intent, place: Place) -> str:
    driver, vm = _hypervisor(place), VmId(intent.id)
    if driver.vm_state(vm, _call()) == intent.scope or not isinstance(driver, PowersVms):
        return ""
    if intent.scope == VmState.STOPPED:
        driver.stop_vm(vm, _call(), force=True)
    else:
        driver.start_vm(vm, _call())
    state = driver.vm_state(vm, _call())
    return f"VM {vm} is {state}, and was {intent.scope}" * (state != intent.scope)


def _moved(intent: Intent, place: Place) -> str:
    driver = _hypervisor(place)
    if isinstance(driver, MigratesVms):
        driver.migrate_vm(VmId(intent.id), HostId(intent.scope), _call())
    return ""


def _backup(intent: Intent, place: Place) -> str:
    """End it, if it runs, and take its checkpoint away; the disk was the run's own, so no other's ends."""
    driver = _hypervisor(place)
    vm, _, device = intent.scope.partition(" ")
    if not isinstance(driver, Backups):
        return ""
    with suppress(NotFound, Unsupported):  # where backups are unavailable none was begun
        driver.end_backup(VmId(vm), device, _call(), keep=False)
        driver.delete_checkpoint(VmId(vm), device, intent.id, _call())
        left = {one.name for one in driver.checkpoints(VmId(vm), _call())}
        return f"checkpoint {intent.id} of VM {vm} is still told after a delete" * (intent.id in left)
    return ""


def _fenced(intent: Intent, place: Place) -> str:
    if place.fence is None:
        raise Conflict("the configuration names no fence driver")
    if place.fence.power_state(_call()) is PowerState.ON:
        return ""
    place.fence.power_on(_call())
    state = place.fence.power_state(_call())
    return f"{intent}: the host is {state} after power_on" * (state is not PowerState.ON)


def _objects(intent: Intent, place: Place) -> str:  # noqa: ARG001 - a file, whatever the driver
    directory = Path(intent.scope)
    if not directory.is_dir():
        return f"{intent}: there is no such directory on this machine"
    for path in directory.glob(f"{intent.id}*"):
        path.unlink(missing_ok=True)
    return ""


_REMOVERS: Mapping[Kind, Callable[[Intent, Place], str]] = {
    Kind.VOLUME: _volume,
    Kind.ADOPTED: _adopted,
    Kind.RELEASED: _released,
    Kind.SNAPSHOT: _snapshot,
    Kind.VM_SNAPSHOT: _vm_snapshot,
    Kind.GRANT: _grant,
    Kind.TEMPLATE: _template,
    Kind.PREFIX: _prefix,
    Kind.KEY: _key,
    Kind.INTRODUCED: _introduced,
    Kind.ATTACHED: _attached,
    Kind.HOST_SNAPSHOT: _host_snapshot,
    Kind.FROZEN: _frozen,
    Kind.POWER: _power,
    Kind.MOVED: _moved,
    Kind.BACKUP: _backup,
    Kind.FENCED: _fenced,
    Kind.OBJECTS: _objects,
}

_FINDERS: Mapping[Kind, Callable[[Intent, Place], bool]] = {
    Kind.VOLUME: _has_volume,
    Kind.SNAPSHOT: _has_snapshot,
    Kind.GRANT: _has_grant,
}
