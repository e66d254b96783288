"""What one process has open of one configuration: pools, stores and hypervisors, by name or uuid.

    command ── name, uuid or store TO ──> Site ── its own configuration ──> drivers, opened once

Names travel, credentials do not: each machine has its own configuration, with the same names and uuids
and its own addresses and secrets. What a command brings along of them is compared, never used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from ..transfer_objects.stores import DataStoreTO, PrimaryDataStoreTO
from .access import Mover
from .archive import Archive
from .backends import pool_of, store_of
from .catalog import Catalog
from .config import Backend, Config
from .events import Observer, ignore
from .host_identity import identified
from .hypervisors import open_hypervisor
from .mover import state_directory
from .pool import Pool
from .service.catalog_place import open_catalog
from .service.fleet import open_mover
from .spi import Call, Host, InvalidArgument, NotFound, StorageError
from .store import Store
from .travelled import check_travelled
from .vm_snapshots.hypervisor import Hypervisor


class _Closes(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=_Closes)
Observing = Callable[[str, Backend], Observer]
"""Given "pool", "store" or "hypervisor" and which one: who is told of its operations."""


def _observe_nothing(kind: str, backend: Backend) -> Observer:  # noqa: ARG001 - as `Observing` has it
    return ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteHost:
    """A host, and the hypervisor connection that reaches it."""

    host: Host
    hypervisor: Hypervisor


class Site:
    """Opens each backend once, when it is first asked for; safe for threads. Close it, or use `with`.

    One backend that hangs while it is opened delays nobody who wants another one.

    Args:
        config: which backends there are.
        observe: tells who observes each.
    """

    def __init__(self, config: Config, observe: Observing = _observe_nothing) -> None:
        self.config = config
        self._observe = observe
        self._pools = _Shelf[Pool]()
        self._stores = _Shelf[Store]()
        self._hypervisors = _Shelf[Hypervisor]()
        self._catalogs = _Shelf[Catalog]()
        self._mover: Mover | None = None
        self._end_mover: Callable[[], None] = lambda: None
        self._making_mover = threading.Lock()

    @classmethod
    @contextmanager
    def open(cls, config: Config, observe: Observing = _observe_nothing) -> Iterator[Self]:
        """Yield a site that is closed afterwards. Nothing is opened before it is asked for."""
        with cls(config, observe) as site:
            yield site

    def pool(self, name: str = "") -> Pool:
        """Return a pool by name or uuid, open; without a name the default (or only) one.

        Raises:
            NotFound: the configuration has no such pool.
            StorageError: it cannot be opened; asked again, it is tried again.
        """
        backend = self.config.pool(name)
        return self._pools.get(backend.name, lambda: self._open_pool(backend))

    def _open_pool(self, backend: Backend) -> Pool:
        return pool_of(backend, self._observe("pool", backend))

    def store(self, name: str = "") -> Store:
        """Return a secondary store, as `pool` does."""
        backend = self.config.store(name)
        return self._stores.get(backend.name, lambda: store_of(backend, self._observe("store", backend)))

    def archive(self, name: str = "", *, writer: str = "") -> Archive:
        """Return the archive on a store; `writer` as `Archive` has it."""
        return Archive(self.store(name), writer=writer)

    def hypervisor(self, name: str = "") -> Hypervisor:
        """Return a hypervisor, as `pool` does."""
        backend = self.config.hypervisor(name)
        return self._hypervisors.get(
            backend.name,
            lambda: open_hypervisor(
                backend.name, backend.driver, backend.options, observe=self._observe("hypervisor", backend)
            ),
        )

    def pool_for(self, store: PrimaryDataStoreTO) -> Pool:
        """Return the pool that a command speaks of.

        Raises:
            NotFound: its uuid is not in the configuration.
            InvalidArgument: the command takes a managed pool for another one, or the reverse.
        """
        pool = self.pool(store.uuid)
        if store.managed and not pool.managed:
            raise InvalidArgument(f"pool {pool.name!r} is not managed, as the command has it")
        return pool

    def store_for(self, store: DataStoreTO) -> Store:
        """Return the secondary store that a command speaks of; its uuid is enough.

        Raises:
            NotFound: its uuid is not in the configuration.
            Conflict: an address or a credential travelled along, and is not what the configuration has.
            InvalidArgument: it is primary storage.
        """
        if isinstance(store, PrimaryDataStoreTO):
            raise InvalidArgument(f"store {store.uuid} is primary storage; a secondary one is needed")
        opened = self.store(store.uuid)
        check_travelled(store, opened)
        return opened

    def archive_for(self, store: DataStoreTO, *, writer: str = "") -> Archive:
        """Return the archive on the store that a command speaks of."""
        return Archive(self.store_for(store), writer=writer)

    def mover(self) -> Mover:
        """Return this machine as what moves data; its identity is made on first use."""
        with self._making_mover:
            if self._mover is None:
                self._mover, self._end_mover = open_mover(self.config)
            return self._mover

    def catalog(self) -> Catalog:
        """Return the records: [catalog]'s, or this machine's own."""
        return self._catalogs.get("", lambda: open_catalog(self.config))

    def hosts(self, call: Call | None = None) -> Iterator[SiteHost]:
        """Yield the hosts that all hypervisors reach now.

        Raises:
            StorageError: a hypervisor cannot be asked. Who wants the others asks them one by one.
        """
        for name in self.config.hypervisors:
            yield from self.hosts_of(self.hypervisor(name), call)

    def hosts_of(self, hypervisor: Hypervisor, call: Call | None = None) -> Iterator[SiteHost]:
        """Yield the hosts that one hypervisor reaches now, with what they prove themselves with to arrays."""
        for host in hypervisor.run("hypervisor.hosts", hypervisor.driver.list_hosts, call):
            yield SiteHost(host=identified(host, state_directory()), hypervisor=hypervisor)

    def host_for(self, hypervisor: Hypervisor, call: Call | None = None) -> Host:
        """Return the host that commands to a hypervisor are about: the configured one, or the only one.

        Raises:
            InvalidArgument: there are several, and the configuration names none.
            NotFound: the host that it names is not reached.
        """
        hosts = {str(one.host.id): one.host for one in self.hosts_of(hypervisor, call)}
        chosen = self.config.hypervisor(hypervisor.name).host
        if not chosen and len(hosts) != 1:
            raise InvalidArgument(
                f"hypervisor {hypervisor.name!r} has the hosts {', '.join(sorted(hosts)) or '(none)'}:"
                ' name one in the configuration (host = "…")'
            )
        if chosen and chosen not in hosts:
            raise NotFound(f"hypervisor {hypervisor.name!r} does not reach host {chosen!r}")
        return hosts[chosen or next(iter(hosts))]

    def close(self) -> None:
        """Close all that was opened; what is asked for afterwards is opened anew. Never raises."""
        for shelf in (self._pools, self._stores, self._hypervisors, self._catalogs):
            shelf.close()
        with self._making_mover:
            self._end_mover()
            self._mover, self._end_mover = None, lambda: None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Shelf(Generic[T]):
    """Things by name, each opened once, each under a lock of its own."""

    def __init__(self) -> None:
        self._things: dict[str, T] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def get(self, name: str, open_: Callable[[], T]) -> T:
        with self._guard:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            if name not in self._things:
                self._things[name] = open_()
            return self._things[name]

    def close(self) -> None:
        with self._guard:
            locks = dict(self._locks)
        for name, lock in locks.items():
            # The process may end anyway: an error is not worth raising.
            with lock, suppress(StorageError):
                if name in self._things:
                    self._things.pop(name).close()
