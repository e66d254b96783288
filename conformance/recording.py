"""The driver's door: nothing goes through it without the ledger, the call log and the claims.

    check, Mover, snapshot service ──> core's clients ──> recorded driver ── intend ──> the driver itself
                                                              └─ call log, and what an error claimed

At the door and not in the lab: so a temporary clone that core makes, and a create that a check expects to
be refused, are in the ledger as well.
"""

from __future__ import annotations

import functools
import inspect
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from ..core.checks import check_key
from ..core.plugins import AnyDriver, load_driver, registered
from ..core.pool import Pool, open_pool
from ..core.redact import secrets_of
from ..core.spi import (
    AccessControl,
    Adopts,
    Backups,
    Busy,
    ClonesVolume,
    Conflict,
    Driver,
    FenceDriver,
    HypervisorDriver,
    ImageStoreDriver,
    InvalidArgument,
    MigratesVms,
    NotFound,
    Overlays,
    PowersVms,
    PrimaryDriver,
    QuiescedSnapshots,
    Snapshots,
    StorageError,
    TemplateCache,
    VmSnapshots,
    VmState,
    VolumeFromSnapshot,
    parse_options,
)
from ..core.spi import Outcome as SpiOutcome
from ..core.store import Store, open_store
from ..transfer_objects.ids import new_id
from .calls import CallLog, secrets_in
from .host_lab import HostSettings
from .hosting.client import hosted_class
from .hosting.process import DriverHost
from .lab import ContractBroken
from .ledger import Intent, Kind, Ledger
from .settings import SuiteSettings

UNDER_TEST = "under-test"
ARCHIVE = "archive"

Arguments = Mapping[str, Any]
# Drivers are registered under one name for the moment of loading them.
_one_at_a_time = threading.Lock()
_IntentOf = Callable[[Any, Arguments], Intent | None]


def _volume(_: object, given: Arguments) -> Intent:
    return Intent(kind=Kind.VOLUME, id=given["spec"].id)


def _adopted(natives: Mapping[str, str], given: Arguments) -> Intent:
    # Deleted only if we have released it: everything else was there before.
    return Intent(kind=Kind.ADOPTED, id=given["spec"].id, scope=natives.get(given["native_name"], ""))


def _released(driver: PrimaryDriver[Any], given: Arguments) -> Intent | None:
    try:
        found = driver.get_volume(given["volume"], given["call"])
    except NotFound:
        return None
    return Intent(kind=Kind.RELEASED, id=found.id, scope=str(found.size))


def _snapshot(_: object, given: Arguments) -> Intent:
    return Intent(kind=Kind.SNAPSHOT, id=given["snapshot"])


def _vm_snapshot(_: object, given: Arguments) -> Intent:
    vm = given["vm"]
    return Intent(kind=Kind.VM_SNAPSHOT, id=vm.snapshot, scope=" ".join([vm.vm, *given["volumes"]]))


def _grant(_: object, given: Arguments) -> Intent:
    return Intent(kind=Kind.GRANT, id=given["volume"], scope=given["host"].id)


def _template(_: object, given: Arguments) -> Intent:
    return Intent(kind=Kind.TEMPLATE, id=given["template"].id)


def _introduced(_: object, given: Arguments) -> Intent:
    what = given["what"]
    return Intent(kind=Kind.INTRODUCED, id=what.object_id, scope=f"{what.kind.value} {what.host}")


def _attached(_: object, given: Arguments) -> Intent:
    disk = given["disk"]
    return Intent(kind=Kind.ATTACHED, id=disk.object_id, scope=f"{given['vm']} {disk.host} {disk.path}")


def _host_snapshot(_: object, given: Arguments) -> Intent:
    return Intent(kind=Kind.HOST_SNAPSHOT, id=given["snapshot"], scope=given["vm"])


def _frozen(_: object, given: Arguments) -> Intent:
    return Intent(kind=Kind.FROZEN, id=given["vm"])


def _quiesced(driver: Any, given: Arguments) -> Intent | None:
    return _frozen(driver, given) if given.get("quiesce") else None


def _backup(_: object, given: Arguments) -> Intent:
    return Intent(kind=Kind.BACKUP, id=given["checkpoint"], scope=f"{given['vm']} {given['device']}")


# Which method makes what; the signature is the SPI's, whatever a driver calls its parameters.
_CREATES: Mapping[str, tuple[Callable[..., Any], _IntentOf]] = {
    "create_volume": (PrimaryDriver.create_volume, _volume),
    "clone_volume": (ClonesVolume.clone_volume, _volume),
    "create_volume_from_snapshot": (VolumeFromSnapshot.create_volume_from_snapshot, _volume),
    "create_volume_from_template": (TemplateCache.create_volume_from_template, _volume),
    "release_volume": (Adopts.release_volume, _released),
    "create_snapshot": (Snapshots.create_snapshot, _snapshot),
    "create_quiesced_snapshot": (QuiescedSnapshots.create_quiesced_snapshot, _snapshot),
    "take_vm_snapshot": (VmSnapshots.take_vm_snapshot, _vm_snapshot),
    "grant": (AccessControl.grant, _grant),
    "prepare_template": (TemplateCache.prepare_template, _template),
}
_ON_HOSTS: Mapping[str, tuple[Callable[..., Any], _IntentOf]] = {
    "introduce": (HypervisorDriver.introduce, _introduced),
    "attach": (HypervisorDriver.attach, _attached),
    "create_vm_snapshot": (HypervisorDriver.create_vm_snapshot, _host_snapshot),
    "freeze": (HypervisorDriver.freeze, _frozen),
    "add_overlays": (Overlays.add_overlays, _quiesced),
    "begin_backup": (Backups.begin_backup, _backup),
}


def _fenced(_: object, __: Arguments) -> Intent:
    return Intent(kind=Kind.FENCED, id="host")


_FENCES: Mapping[str, tuple[Callable[..., Any], _IntentOf]] = {
    "power_off": (FenceDriver.power_off, _fenced),
}


def _vms_of(place: HostSettings) -> Mapping[str, tuple[Callable[..., Any], _IntentOf]]:
    """Return what changes a VM as a whole: it is put back to what the vendor has prepared."""
    states = {place.vm: VmState.RUNNING, place.stopped_vm: VmState.STOPPED}

    def power(_: object, given: Arguments) -> Intent | None:
        wanted = states.get(given["vm"])
        return Intent(kind=Kind.POWER, id=given["vm"], scope=wanted) if wanted else None

    def moved(_: object, given: Arguments) -> Intent:
        return Intent(kind=Kind.MOVED, id=given["vm"], scope=place.host)

    return {
        "start_vm": (PowersVms.start_vm, power),
        "stop_vm": (PowersVms.stop_vm, power),
        "migrate_vm": (MigratesVms.migrate_vm, moved),
    }


@dataclass(slots=True, kw_only=True)
class Recorder:
    """What one run writes down at the driver's door.

    Attributes:
        claims: intents whose create failed and claimed "not applied"; the audit looks whether that is true.
        made: intents of a create that succeeded; what it made, no later error can have claimed away.
        natives: volume by the native name under which it was released.
        hosts: every driver host of the run, also those that are gone, each with the check that started it.
        check: id of the check that runs now, or "".
    """

    ledger: Ledger
    hosts: list[tuple[str, DriverHost]] = field(default_factory=list)
    check: str = ""
    log: CallLog = field(default_factory=CallLog)
    claims: set[Intent] = field(default_factory=set)
    made: set[Intent] = field(default_factory=set)
    natives: dict[str, str] = field(default_factory=dict)

    def note(self, intent: Intent, *, new: bool, answer: Any) -> None:
        """Note how the create of an object ended; only the first one knows that there was nothing before."""
        if intent.kind is Kind.RELEASED and isinstance(answer, str):
            self.natives[answer] = intent.id
        if not isinstance(answer, BaseException):
            self.made.add(intent)
        elif new and _claims_nothing(answer):
            self.claims.add(intent)

    def start_host(self, target: str, *, fork: bool) -> DriverHost:
        """Start a driver host, with a directory of its own beside the ledger."""
        workdir = self.ledger.work / new_id("host")
        workdir.mkdir(mode=0o700, parents=True)
        host = DriverHost.start(target, workdir, fork=fork)
        self.hosts.append((self.check, host))
        return host

    def open_claims(self) -> set[Intent]:
        """Return what errors said is not there."""
        return self.claims - self.made


def _claims_nothing(error: BaseException) -> bool:
    """Return whether an error says that nothing is there; after Busy somebody else may make it any moment."""
    return (
        isinstance(error, StorageError)
        and not isinstance(error, Busy)
        and error.outcome is SpiOutcome.NOT_APPLIED
    )


def open_recorded_pool(
    name: str,
    settings: SuiteSettings,
    recorder: Recorder,
    *,
    options: Arguments | None = None,
    fork: bool = True,
) -> Pool:
    """Open the pool under test behind a recorded driver.

    Args:
        name: what messages call it.
        settings: the run's.
        recorder: what is written down.
        options: instead of those of the settings.
        fork: whether its host may be forked from one that has imported the driver already. What the
            driver made up at its import (an id, its pid) is then the same in both, as it is not in two
            processes of an orchestrator.

    Raises:
        StorageError: it is not marked for tests, or cannot be opened.
        ContractBroken: opened again, it says that it is another pool.
    """
    settings.require_test_pool()

    def adopt(_: object, given: Arguments) -> Intent:
        return _adopted(recorder.natives, given)

    creates = {**_CREATES, "adopt_volume": (Adopts.adopt_volume, adopt)}
    recorded = recorded_class(_hosted(settings.driver, settings, recorder, fork=fork), recorder, creates)
    alias = f"{settings.driver} (recorded)"
    with _one_at_a_time, registered(alias, recorded):
        pool = open_pool(name, alias, settings.options if options is None else options)
    try:
        recorder.ledger.bind(pool.info.identity)
    except Conflict as error:
        pool.close()
        raise ContractBroken(f"opened again, the pool has another identity: {error.message}") from error
    return pool


def open_recorded_store(
    name: str, driver: str, options: Arguments, settings: SuiteSettings, recorder: Recorder
) -> Store:
    """Open a store behind a recorded driver; `name` (UNDER_TEST, ARCHIVE) goes into the ledger.

    Raises:
        StorageError: it is not marked for tests, or cannot be opened.
    """
    settings.require_test_pool()

    def put(self: ImageStoreDriver[Any], given: Arguments) -> Intent | None:
        return _stored(self, given, recorder.ledger.prefix, name)

    creates = {"put": (ImageStoreDriver.put, put)}
    recorded = recorded_class(_hosted(driver, settings, recorder), recorder, creates)
    alias = f"{driver} (recorded)"
    with _one_at_a_time, registered(alias, recorded):
        return open_store(name, alias, options)


def open_recorded_hypervisor(settings: SuiteSettings, recorder: Recorder) -> HypervisorDriver[Any]:
    """Open the hypervisor driver under test behind the door; close it after use.

    The objects that a check will make for it are in the ledger from now on.

    Raises:
        StorageError: it is not marked for tests, or an option is bad.
    """
    settings.require_test_pool()
    ledger, place = recorder.ledger, HostSettings.of(settings.hypervisor)
    ledger.intend(Intent(kind=Kind.OBJECTS, id=ledger.prefix, scope=str(place.objects)))
    makes = {**_ON_HOSTS, **_vms_of(place)}
    recorded = recorded_class(_hosted(settings.driver, settings, recorder), recorder, makes)
    options = parse_options(recorded.Options, settings.options)
    return cast("HypervisorDriver[Any]", recorded(options))


def open_recorded_fence(
    settings: SuiteSettings, recorder: Recorder, options: Arguments | None = None
) -> FenceDriver[Any]:
    """Open the fence driver under test behind the door; close it after use.

    Args:
        settings: the run's.
        recorder: what is written down.
        options: instead of those of the settings.

    Raises:
        StorageError: it is not marked for tests, or an option is bad.
    """
    settings.require_test_pool()
    recorded = recorded_class(_hosted(settings.driver, settings, recorder), recorder, _FENCES)
    given = parse_options(recorded.Options, settings.options if options is None else options)
    return cast("FenceDriver[Any]", recorded(given))


def _hosted(
    driver: str, settings: SuiteSettings, recorder: Recorder, *, fork: bool = True
) -> type[AnyDriver]:
    """Return the driver's class as it is used in this run: in a process of its own, unless told otherwise."""
    cls = load_driver(driver)
    return cls if settings.in_process else hosted_class(cls, partial(recorder.start_host, fork=fork))


def _stored(driver: ImageStoreDriver[Any], given: Arguments, prefix: str, store: str) -> Intent | None:
    """Return the shortest prefix of a key that is this run's, else the key itself if it is new.

    The archive also writes a README at the root of the store: one that was there before is not ours.
    A key that no driver may take ("../bct-1/x") stands for itself: nobody lists what it would be below.
    """
    key, walked = given["key"], ""
    try:
        check_key(key)
    except InvalidArgument:
        return Intent(kind=Kind.KEY, id=key, scope=store)
    for part in key.split("/")[:-1]:
        walked += f"{part}/"
        if part.startswith(prefix):
            return Intent(kind=Kind.PREFIX, id=walked, scope=store)
    with suppress(NotFound):
        driver.head(key, given["call"])
        return None
    return Intent(kind=Kind.KEY, id=key, scope=store)


def recorded_class(
    cls: type[AnyDriver], recorder: Recorder, creates: Mapping[str, tuple[Callable[..., Any], _IntentOf]]
) -> type[AnyDriver]:
    """Return a subclass of a driver whose methods are written down."""
    methods = {
        name: _recording(getattr(cls, name), spi, creates.get(name, (spi, _nothing))[1], recorder)
        for name, spi in spi_methods(cls).items()
    }
    namespace = methods | {
        "__module__": cls.__module__,
        "__doc__": cls.__doc__,
        "__init__": _knowing(cls, recorder),
    }
    return cast("type[AnyDriver]", type(cls.__name__, (cls,), namespace))


def spi_methods(cls: type[AnyDriver]) -> dict[str, Callable[..., Any]]:
    """Return the methods of the interface that a driver has, by name, as the interface declares them."""
    found: dict[str, Callable[..., Any]] = {}
    for base in cls.__mro__:
        if base.__module__.startswith(Driver.__module__.rpartition(".")[0]):
            found |= {
                name: value
                for name, value in vars(base).items()
                if inspect.isfunction(value) and not name.startswith("_") and name not in found
            }
    return found


def _nothing(_: object, __: Arguments) -> None:
    return None


def _knowing(cls: type[AnyDriver], recorder: Recorder) -> Callable[..., None]:
    def construct(self: Any, options: Any) -> None:
        recorder.log.know(secrets_of(options))
        cls.__init__(self, options)

    return construct


def _recording(
    original: Callable[..., Any], spi: Callable[..., Any], intent_of: _IntentOf, recorder: Recorder
) -> Callable[..., Any]:
    signature = inspect.signature(spi)

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = signature.bind(self, *args, **kwargs).arguments
        recorder.log.know(secrets_in(given))
        intent = intent_of(self, given)
        new = intent is not None and recorder.ledger.intend(intent)
        started = time.monotonic()
        answer: Any = None
        try:
            answer = original(self, *args, **kwargs)
        except BaseException as error:
            answer = error
            raise
        finally:
            if intent is not None:
                recorder.note(intent, new=new, answer=answer)
            recorder.log.add(original.__name__, given, started, answer)
        return answer

    return method
