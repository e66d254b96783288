"""A driver class whose instances live in another process, and which looks like the vendor's from here.

cls = hosted_class(AcmeDriver, lambda target: DriverHost.start(target, workdir))
driver = cls(options)        # starts a host, constructs AcmeDriver there
driver.create_volume(…)      # runs there
driver.host.kill()           # SIGKILL
driver.close()               # closes AcmeDriver, then ends the host
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from ...core.plugins import KINDS, AnyDriver, kind_of
from ...core.spi import MIXINS, Driver
from .failures import NotHostable
from .process import DriverHost

StartHost = Callable[[str], DriverHost]


class HostedDriver:
    """What every hosted class adds: the host.

    Attributes:
        host: the process of this instance's driver.
    """

    host: DriverHost


def hosted_class(cls: type[AnyDriver], start: StartHost) -> type[AnyDriver]:
    """Return a class with the kind, mix-ins, options and SPI version of `cls`, hosted.

    Args:
        cls: the vendor's; a class at the top of a module that can be imported.
        start: starts a host for "module:Class"; called once for each instance.

    Raises:
        NotHostable: `cls` cannot be found by name in another process.
    """
    target = target_of(cls)
    bases = tuple(_bases(cls))

    def init(self: Any, options: Any) -> None:
        Driver.__init__(self, options)
        self.host = start(target)
        try:
            self.host.construct(_raw(options))
        except BaseException:
            self.host.stop()
            raise

    def close(self: Any) -> None:
        self.host.close_driver()

    forwarded = {name: _forwarding(contract) for name, contract in _methods(bases).items()}
    facts = {"spi": cls.spi, "Options": cls.Options, "__doc__": cls.__doc__}
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    namespace = {**forwarded, **facts, **names, "__init__": init, "close": close}
    return cast("type[AnyDriver]", type(cls.__name__, (*bases, HostedDriver), namespace))


def target_of(cls: type[AnyDriver]) -> str:
    """Return "module:Class" of a class.

    Raises:
        NotHostable: that does not lead to it.
    """
    target = f"{cls.__module__}:{cls.__qualname__}"
    if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
        raise NotHostable(f"{target} cannot be hosted: another process cannot import it by this name")
    try:
        found: object = importlib.import_module(cls.__module__)
        for part in cls.__qualname__.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise NotHostable(f"{target} cannot be hosted: {error}") from error
    if found is not cls:
        raise NotHostable(f"{target} cannot be hosted: that name leads to another class")
    return target


def _bases(cls: type[AnyDriver]) -> Iterator[type]:
    """Yield the SPI's classes that `cls` inherits, and what else of its bases claims a capability."""
    kind = KINDS[kind_of(cls)]
    yield kind
    for mixin in MIXINS:
        if issubclass(cls, mixin) and not issubclass(kind, mixin):
            yield mixin
    for base in cls.__mro__:
        if "provides" in base.__dict__ and base not in MIXINS:
            yield type(base.__name__, (), {"provides": base.__dict__["provides"]})


def _methods(bases: tuple[type, ...]) -> Mapping[str, Callable[..., Any]]:
    """Return the methods that core calls, by name, as the SPI has them."""
    found: dict[str, Callable[..., Any]] = {"unavailable": Driver.unavailable}
    for base in bases:
        found |= {name: getattr(base, name) for name in getattr(base, "__abstractmethods__", ())}
    return found


def _forwarding(contract: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that passes on its arguments just as they were given."""
    name = contract.__name__

    @functools.wraps(contract)
    def method(self: Any, *arguments: Any, **options: Any) -> Any:
        return self.host.call(name, *arguments, **options)

    method.__dict__.pop("__isabstractmethod__", None)  # copied by `wraps`
    return method


def _raw(options: object) -> Mapping[str, Any]:
    """Return what `parse_options` made `options` of; secrets stay secrets."""
    if not dataclasses.is_dataclass(options) or isinstance(options, type):
        raise TypeError(f"options must be a dataclass, not {type(options).__name__}")
    return {f.name: getattr(options, f.name) for f in dataclasses.fields(options) if f.init}
