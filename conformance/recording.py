"""A driver that writes the ledger before it makes anything.

    check, Mover, snapshot service ──> core's clients ──> recorded driver ── intend ──> the driver itself

At the driver's door and not in the lab: so a temporary clone that core makes, and a create that a check
expects to be refused, are in the ledger as well.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, cast

from ..core.plugins import AnyDriver, load_driver, registered
from ..core.pool import Pool, open_pool
from ..core.spi import (
    AccessControl,
    Adopts,
    ClonesVolume,
    ImageStoreDriver,
    NotFound,
    PrimaryDriver,
    QuiescedSnapshots,
    Snapshots,
    TemplateCache,
    VmSnapshots,
    VolumeFromSnapshot,
)
from ..core.store import Store, open_store
from .ledger import Intent, Kind, Ledger
from .settings import SuiteSettings

UNDER_TEST = "under-test"
ARCHIVE = "archive"

Arguments = Mapping[str, Any]
_IntentOf = Callable[[Any, Arguments], Intent | None]


def _volume(_: object, given: Arguments) -> Intent:
    return Intent(kind=Kind.VOLUME, id=given["spec"].id)


def _adopted(_: object, given: Arguments) -> Intent:
    # Never deleted by us: what was adopted was there before.
    return Intent(kind=Kind.ADOPTED, id=given["spec"].id)


def _snapshot(_: object, given: Arguments) -> Intent:
    return Intent(kind=Kind.SNAPSHOT, id=given["snapshot"])


def _vm_snapshot(_: object, given: Arguments) -> Intent:
    vm = given["vm"]
    return Intent(kind=Kind.VM_SNAPSHOT, id=vm.snapshot, scope=" ".join([vm.vm, *given["volumes"]]))


def _grant(_: object, given: Arguments) -> Intent:
    return Intent(kind=Kind.GRANT, id=given["volume"], scope=given["host"].id)


def _template(_: object, given: Arguments) -> Intent:
    return Intent(kind=Kind.TEMPLATE, id=given["template"].id)


# Which method makes what; the signature is the SPI's, whatever a driver calls its parameters.
_CREATES: Mapping[str, tuple[Callable[..., Any], _IntentOf]] = {
    "create_volume": (PrimaryDriver.create_volume, _volume),
    "clone_volume": (ClonesVolume.clone_volume, _volume),
    "create_volume_from_snapshot": (VolumeFromSnapshot.create_volume_from_snapshot, _volume),
    "create_volume_from_template": (TemplateCache.create_volume_from_template, _volume),
    "adopt_volume": (Adopts.adopt_volume, _adopted),
    "create_snapshot": (Snapshots.create_snapshot, _snapshot),
    "create_quiesced_snapshot": (QuiescedSnapshots.create_quiesced_snapshot, _snapshot),
    "take_vm_snapshot": (VmSnapshots.take_vm_snapshot, _vm_snapshot),
    "grant": (AccessControl.grant, _grant),
    "prepare_template": (TemplateCache.prepare_template, _template),
}


def open_recorded_pool(name: str, settings: SuiteSettings, ledger: Ledger) -> Pool:
    """Open the pool under test behind a recorded driver.

    Raises:
        StorageError: it is not marked for tests, or cannot be opened.
    """
    settings.require_test_pool()
    recorded = _subclass(load_driver(settings.driver), ledger, _CREATES)
    alias = f"{settings.driver} (recorded)"
    with registered(alias, recorded):
        pool = open_pool(name, alias, settings.options)
    try:
        ledger.bind(pool.info.identity)
    except BaseException:
        pool.close()
        raise
    return pool


def open_recorded_store(
    name: str, driver: str, options: Mapping[str, Any], settings: SuiteSettings, ledger: Ledger
) -> Store:
    """Open a store behind a recorded driver; `name` (UNDER_TEST, ARCHIVE) goes into the ledger.

    Raises:
        StorageError: it is not marked for tests, or cannot be opened.
    """
    settings.require_test_pool()

    def put(self: ImageStoreDriver[Any], given: Arguments) -> Intent | None:
        return _stored(self, given, ledger.prefix, name)

    recorded = _subclass(load_driver(driver), ledger, {"put": (ImageStoreDriver.put, put)})
    alias = f"{driver} (recorded)"
    with registered(alias, recorded):
        return open_store(name, alias, options)


def _stored(driver: ImageStoreDriver[Any], given: Arguments, prefix: str, store: str) -> Intent | None:
    """Return the shortest prefix of a key that is this run's, else the key itself if it is new.

    The archive also writes a README at the root of the store: one that was there before is not ours.
    """
    key, walked = given["key"], ""
    for part in key.split("/")[:-1]:
        walked += f"{part}/"
        if part.startswith(prefix):
            return Intent(kind=Kind.PREFIX, id=walked, scope=store)
    with suppress(NotFound):
        driver.head(key, given["call"])
        return None
    return Intent(kind=Kind.KEY, id=key, scope=store)


def _subclass(
    cls: type[AnyDriver], ledger: Ledger, creates: Mapping[str, tuple[Callable[..., Any], _IntentOf]]
) -> type[AnyDriver]:
    methods = {
        name: _recording(getattr(cls, name), spi, intent_of, ledger)
        for name, (spi, intent_of) in creates.items()
        if hasattr(cls, name)
    }
    namespace = methods | {"__module__": cls.__module__, "__doc__": cls.__doc__}
    return cast("type[AnyDriver]", type(cls.__name__, (cls,), namespace))


def _recording(
    original: Callable[..., Any], spi: Callable[..., Any], intent_of: _IntentOf, ledger: Ledger
) -> Callable[..., Any]:
    signature = inspect.signature(spi)

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        intent = intent_of(self, signature.bind(self, *args, **kwargs).arguments)
        if intent is not None:
            ledger.intend(intent)
        return original(self, *args, **kwargs)

    return method
