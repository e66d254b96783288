"""The driver as a class: how it is found, imported, constructed and declared. Nothing is opened."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

from ...core.plugins import KINDS, PluginError, load_driver
from ...core.spi import MIXINS, Driver
from ..lab import ContractBroken, must
from ..model import Level, Tier
from ..probe import Phase, Probed
from ..registry import check
from ..signatures import differences
from ..subject import Subject

static = partial(check, kinds=tuple(KINDS), tier=Tier.STATIC)

FAST = 0.3  # seconds
METADATA = ("Version", "Summary", "Requires-Python")


@static("static.entry_point_resolves", rule="drv.entry")
def check_entry_point_resolves(subject: Subject) -> None:
    """The name leads to one complete driver class, offered by one distribution."""
    try:
        again = load_driver(subject.name)
    except PluginError as error:
        raise ContractBroken(str(error)) from error
    must(again is subject.cls, f"{subject.target} is another class each time that it is loaded")


@static("static.import_has_no_side_effects", rule="drv.import")
def check_import_has_no_side_effects(subject: Subject, probed: Probed) -> None:
    """Importing the module, in a fresh process, changes nothing outside of it."""
    _quiet(f"importing {subject.target}", probed.imported)


@static("static.import_is_cheap", rule="drv.import-fast", level=Level.SHOULD)
def check_import_is_cheap(subject: Subject, probed: Probed) -> None:
    """Importing the module, in a fresh process, takes less than 300 ms."""
    took = probed.imported.seconds
    must(
        took < FAST, f"importing {subject.target} takes {took * 1000:.0f} ms: import late what is rarely used"
    )


@static("static.construct_opens_nothing", rule="drv.cheap")
def check_construct_opens_nothing(subject: Subject, probed: Probed) -> None:
    """An instance is made of the options' examples: at once, and without opening or starting anything."""
    must(not probed.imported.error, "not reached: the import failed")
    _quiet(f"constructing {subject.cls.__name__}", probed.constructed)
    took = probed.constructed.seconds
    must(took < FAST, f"constructing {subject.cls.__name__} takes {took * 1000:.0f} ms")


@static("static.close_unopened", rule="drv.close-twice")
def check_close_unopened(subject: Subject, probed: Probed) -> None:
    """An instance that was never opened can be closed, twice."""
    must(not (probed.imported.error or probed.constructed.error), "not reached: there is no instance")
    must(not probed.closed.error, f"{subject.cls.__name__}.close() raised {probed.closed.error}")


def _quiet(what: str, phase: Phase) -> None:
    must(not phase.error, f"{what} failed: {phase.error}")
    must(not phase.deeds, f"{what} {', '.join(phase.deeds[:3])}")


@static("static.spi_version_stated", rule="drv.spi", level=Level.SHOULD)
def check_spi_version_stated(subject: Subject) -> None:
    """The driver itself states the version of the SPI that it was written for."""
    home = subject.cls.__module__.partition(".")[0]
    stated = any("spi" in base.__dict__ for base in _own_bases(subject.cls, home))
    must(stated, f"{subject.cls.__name__} does not state spi = {subject.cls.spi}, it inherits Bollard's")


def _own_bases(cls: type[Any], home: str) -> Iterator[type[Any]]:
    spi = inspect.getmodule(Driver)
    package = spi.__name__.rpartition(".")[0] if spi else ""
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] == home and not base.__module__.startswith(package):
            yield base


@static("static.signatures_match", rule="drv.signatures")
def check_signatures_match(subject: Subject) -> None:
    """Each method can be called as the SPI's can: same names, places, keywords and defaults."""
    cls = subject.cls
    wrong = [
        f"{cls.__name__}.{name} {difference}"
        for name, contract in sorted(_contracts(cls).items())
        for difference in differences(contract, inspect.getattr_static(cls, name))
    ]
    must(not wrong, "; ".join(wrong))


def _contracts(cls: type[Any]) -> dict[str, Any]:
    """Return the SPI's own functions that a driver class implements, by name."""
    spi: tuple[type[Any], ...] = (*KINDS.values(), *MIXINS)
    bases = {b for base in spi if issubclass(cls, base) for b in base.__mro__}
    names = {name for base in bases for name in getattr(base, "__abstractmethods__", ())}
    return {n: b.__dict__[n] for b in bases for n in names if n in b.__dict__ and _abstract(b, n)} | {
        "unavailable": Driver.unavailable
    }


def _abstract(base: type[Any], name: str) -> bool:
    return bool(getattr(base.__dict__[name], "__isabstractmethod__", False))


@static("static.capabilities_are_mixins", rule="drv.mixins")
def check_capabilities_are_mixins(subject: Subject) -> None:
    """What the class declares is what it inherits."""
    inherited = {m.provides for m in MIXINS if issubclass(subject.cls, m)}  # type: ignore[attr-defined]  # each has it
    declared = set(subject.cls.declared())
    more, less = sorted(declared - inherited), sorted(inherited - declared)
    must(not more, f"declared without the mix-in: {', '.join(more)}")
    must(not less, f"inherited and not declared: {', '.join(less)}")


@static("static.methods_are_declared", rule="drv.mixins", level=Level.SHOULD)
def check_methods_are_declared(subject: Subject) -> None:
    """No mix-in is implemented without being inherited: nobody would ever call it."""
    forgotten = [m for m in MIXINS if not issubclass(subject.cls, m) and _implements(subject.cls, m)]
    names = ", ".join(m.__name__ for m in forgotten)
    must(not forgotten, f"{subject.cls.__name__} has all methods of {names}, and does not inherit it")


def _implements(cls: type[Any], mixin: type[Any]) -> bool:
    return all(callable(getattr(cls, n, None)) for n in getattr(mixin, "__abstractmethods__", ("",)))


@static("static.metadata_complete", rule="drv.metadata", level=Level.SHOULD)
def check_metadata_complete(subject: Subject) -> None:
    """The distribution tells its version, summary, licence and the Pythons that it runs on."""
    found = subject.distribution
    if found is None:
        raise ContractBroken("the driver belongs to no installed distribution")
    told = {key for key in found.metadata if found.metadata[key]}
    lacking = [key for key in METADATA if key not in told]
    if not told & {"License-Expression", "License"}:
        lacking.append("License-Expression")
    must(not lacking, f"the metadata of {found.name} lacks {', '.join(lacking)}")
