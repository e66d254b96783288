"""A site of which every act is two ticks: one before it, one after."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from bollard.core.dataplane import qemu_img
from bollard.core.snapshots.kvm import Site, delta, directory

Tick = Callable[[], None]
_STEPS = ((qemu_img, "create_image"), (delta, "transfer"), (delta, "check"), (directory, "sync"))


class Watched:
    """Stands before an object and ticks around each of its calls."""

    def __init__(self, target: Any, tick: Tick) -> None:
        self._target = target
        self._tick = tick

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value) or name.startswith("_"):
            return value
        return _around(value, self._tick)


class _Catalog(Watched):
    """Ticks after each transaction; before it nothing is different from after the last act."""

    @contextmanager
    def transaction(self) -> Any:
        """Run it, tick."""
        with self._target.transaction() as session:
            yield session
        self._tick()


def watched(site: Site, tick: Tick) -> Site:
    """Watch all that a site does to the outside. For a child that is killed: modules are watched, too."""
    for module, name in _STEPS:
        setattr(module, name, _around(getattr(module, name), tick))
    site.journal.begin = _ticking(site.journal.begin, tick)  # type: ignore[method-assign]  # watched as well
    return replace(
        site,
        catalog=_Catalog(site.catalog, tick),  # type: ignore[arg-type]  # it does what a catalog does
        backups=Watched(site.backups, tick),  # type: ignore[arg-type]  # idem
        stores={name: _watched_store(store, tick) for name, store in site.stores.items()},
    )


def _watched_store(store: Any, tick: Tick) -> Any:
    """Watch a store, which must stay of its class."""
    cls = type(store)

    def ticking(name: str) -> Any:
        return _around(getattr(cls, name), tick)

    names = ("write", "take_over", "relink", "restore", "put_checkpoint", "remove")
    watching = type(cls.__name__, (cls,), {name: ticking(name) for name in names})
    fields = {name: getattr(store, name) for name in cls.__slots__}
    return watching(**fields)


def _around(function: Callable[..., Any], tick: Tick) -> Callable[..., Any]:
    def called(*args: Any, **options: Any) -> Any:
        tick()
        result = function(*args, **options)
        tick()
        return result

    return called


def _ticking(function: Callable[..., Any], tick: Tick) -> Callable[..., Any]:
    def called(*args: Any, **options: Any) -> Any:
        result = function(*args, **options)
        tick()
        return result

    return called
