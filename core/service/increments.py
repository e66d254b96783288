"""Incremental snapshots of the configuration: what `core.snapshots.kvm` works with, for one pool.

    site = increments_of(backends, "files")        [increments.files]
    kvm.take(site.engine, site.place(volume), "snap-1", call)

Nothing is opened before it is used: whoever reads a snapshot needs no hypervisor, and a store that is away is
in the way of nobody who does not want it. All that is opened is the backends' own, and closed with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import select

from ...transfer_objects.enums import DataStoreRole, StoragePoolType
from ...transfer_objects.ids import SnapshotId, VolumeId
from ..catalog.snapshots import Ref, RefState, snapshot_of
from ..config import Config
from ..dataplane.os_errors import os_errors
from ..increments import Increments
from ..mover import state_directory
from ..settings import Where
from ..site import Site
from ..snapshots import kvm
from ..spi import NotFound
from .exclusion import check_volume_free
from .increments_backups import HypervisorBackups
from .increments_volumes import Whereabouts

POOL, DIRECTORY, ARCHIVE = "pool:", "directory:", "archive:"
"""What ids of stores begin with, in refs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncrementSite:
    """One pool's incremental snapshots.

    Attributes:
        name: of the pool, and of its table in the configuration.
        engine: what the functions of `core.snapshots.kvm` work with.
        volumes: where volumes are now.
        secondary: id of the store that backups go to; "" if there is none.
    """

    name: str
    options: Increments
    engine: kvm.Site
    volumes: Whereabouts
    secondary: str

    def place(self, volume: VolumeId) -> kvm.VolumePlace:
        """Return what a new snapshot of a volume depends on.

        Raises:
            NotFound: the pool has no such volume.
            Unsupported: it is no file.
            Busy: something else is done with the volume.
        """
        self.volumes.own_image(volume)
        check_volume_free(self.engine.catalog, volume)
        return kvm.VolumePlace(
            volume=volume,
            pool_type=StoragePoolType.FILESYSTEM,  # as far as the rules go: it has files
            where=Where(pool=self.name),
            primary=f"{POOL}{self.name}",
            secondary=self.secondary,
        )

    def check_stores(self, snapshot: SnapshotId) -> None:
        """Before anything is begun: all stores of the snapshots of its volume are ours, and answer.

        Raises:
            NotFound: there is no such snapshot, or its store is another pool's, or not configured any more.
        """
        with self.engine.catalog.reading() as session:
            stores = select(Ref.store).where(
                Ref.volume == snapshot_of(session, snapshot).volume, Ref.state != RefState.DESTROYED
            )
            names = session.scalars(stores.distinct()).all()
        for name in names:
            self.engine.store(name)


def increments_of(site: Site, pool: str = "") -> IncrementSite:
    """Return what takes, reads and settles the incremental snapshots of a pool's volumes.

    Raises:
        NotFound: the configuration has no [increments] for it.
        StorageError: the catalog cannot be opened.
    """
    name, options = site.config.increments_of(pool)
    hypervisor = partial(site.hypervisor, options.hypervisor)
    volumes = Whereabouts(pool=partial(site.pool, name), hypervisor=hypervisor, catalog=site.catalog())
    stores = Stores(site, name, options)
    engine = kvm.Site(
        catalog=site.catalog(),
        journal=site.mover().journal,
        settings=options.settings(),
        stores=stores,
        backups=HypervisorBackups(hypervisor),
        vm_state=volumes.vm_state,
        disk_of=volumes.disk_of,
        image_of=volumes.image_of,
        name=name,
    )
    return IncrementSite(
        name=name, options=options, engine=engine, volumes=volumes, secondary=stores.secondary
    )


class Stores(Mapping[str, kvm.ChainStore]):
    """The stores of one pool's snapshots by id, each made when it is asked for.

    What is iterated is what new snapshots may be on. Any archive and any directory of the configuration can
    be asked for: an earlier configuration may have named it.
    """

    def __init__(self, site: Site, pool: str, options: Increments) -> None:
        self._site, self._pool, self._options = site, pool, options
        self._archives: dict[str, kvm.ChainArchive] = {}
        self.secondary = secondary_id(site.config, options)

    def __iter__(self) -> Iterator[str]:
        names = [f"{POOL}{self._pool}", *(f"{DIRECTORY}{name}" for name in self._site.config.directories)]
        return iter(dict.fromkeys([*names, *filter(None, [self.secondary])]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, store: str) -> kvm.ChainStore:
        config = self._site.config
        kind, _, name = store.partition(":")
        if store == f"{POOL}{self._pool}":
            return kvm.ChainDirectory(store, self._options.directory, must_exist=True)
        if kind + ":" == DIRECTORY and name in config.directories:
            path = config.directories[name].path
            return kvm.ChainDirectory(store, path, DataStoreRole.IMAGE, must_exist=True)
        if kind + ":" == ARCHIVE and name in config.stores:
            return self._archive(store, name)
        raise KeyError(store)

    def _archive(self, store: str, name: str) -> kvm.ChainArchive:
        if store not in self._archives:
            self._archives[store] = kvm.ChainArchive(
                store, self._site.archive(name), self._site.store(name), _scratch(self._options)
            )
        return self._archives[store]


def _scratch(options: Increments) -> Path:
    if options.scratch is not None:
        return options.scratch
    made = state_directory() / "scratch"
    with os_errors(f"cannot make {made}"):
        made.mkdir(mode=0o700, parents=True, exist_ok=True)
    return made


def secondary_id(config: Config, options: Increments) -> str:
    """Return the id of the store that backups go to; "" if there is none."""
    if not options.secondary:
        return ""
    return (DIRECTORY if options.secondary in config.directories else ARCHIVE) + options.secondary


def store_called(config: Config, store: str) -> str:
    """Return the id of a secondary store by its name in the configuration; an id is returned as it is.

    Raises:
        NotFound: there is none.
    """
    kind, _, name = store.rpartition(":")
    if name in config.directories and kind + ":" in (":", DIRECTORY):
        return DIRECTORY + name
    if name in config.stores and kind + ":" in (":", ARCHIVE):
        return ARCHIVE + name
    raise NotFound(f"{config.path} has no directory and no store {store!r}")
