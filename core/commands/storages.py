"""Where a transfer object lies: which pool of this site, or which archive."""

from __future__ import annotations

from typing import TypeVar

from ...transfer_objects.objects import DataTO
from ...transfer_objects.stores import DataStoreTO, PrimaryDataStoreTO
from ..archive import Archive
from ..pool import Pool
from ..site import Site
from ..spi import InvalidArgument

T = TypeVar("T")


def given(value: T | None, what: str) -> T:
    """Return what a command must have.

    Raises:
        InvalidArgument: it is missing.
    """
    if value is None:
        raise InvalidArgument(f"the command has no {what}")
    return value


def object_of(data: DataTO | None, what: str = "object") -> DataTO:
    """Return the object that a command must have, as `given` does."""
    if data is None:
        raise InvalidArgument(f"the command has no {what}")
    return data


def store_of(data: DataTO) -> DataStoreTO:
    """Return the store that an object lies on, as the command has it."""
    if data.data_store is None:
        raise InvalidArgument("the command has no store for the object")
    return data.data_store


def on_primary(data: DataTO) -> bool:
    """Tell whether an object lies on primary storage."""
    return isinstance(store_of(data), PrimaryDataStoreTO)


def pool_of(site: Site, data: DataTO) -> Pool:
    """Return the pool that an object lies on.

    Raises:
        InvalidArgument: it lies on secondary storage.
        NotFound: the site has no such pool.
    """
    store = store_of(data)
    if not isinstance(store, PrimaryDataStoreTO):
        raise InvalidArgument(f"store {store.uuid} is secondary storage; a pool is needed")
    return site.pool_for(store)


def archive_of(site: Site, data: DataTO) -> Archive:
    """Return the archive that an object lies in; what this machine began there it may go on with at once.

    Raises:
        InvalidArgument: it lies on primary storage.
        NotFound: the site has no such store.
    """
    return archive_on(site, store_of(data))


def archive_on(site: Site, store: DataStoreTO) -> Archive:
    """Return the archive on a store, as `archive_of` does."""
    return site.archive_for(store, writer=f"commands-{site.mover().host.id}")
