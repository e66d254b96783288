"""A simulated array, a pool of files and a store, all with real bytes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bollard.core import access
from bollard.core.access import Mover
from bollard.core.dataplane import open_source
from bollard.core.journal import Journal
from bollard.core.mover import mover_host
from bollard.core.pool import Pool
from bollard.core.spi import parse_options
from bollard.core.store import Store
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.primary.iscsi_ssh import IscsiSshDriver
from bollard.drivers.primary.qcow2 import Qcow2Driver
from bollard.drivers.secondary.nfs import NfsDriver
from bollard.simulators.array import ArraySimulator
from iscsi_array import IscsiArray
from iscsi_rig import prepared_array, typed_options

from .snapshot_rig import Meter, Rig, call

_owners = itertools.count(1)


@pytest.fixture(scope="module")
def array(tmp_path_factory) -> Iterator[ArraySimulator]:
    """An array for the tests of a module; each pool on it is an owner of its own."""
    state = tmp_path_factory.mktemp("array")
    pools = {"gold": 8 * 2**30, "silver": 8 * 2**30}
    with ArraySimulator(state, pools=pools, tls=False, job_seconds=0.0) as simulator:
        yield simulator


@pytest.fixture
def array_driver(array) -> Callable[..., ArrayDriver]:
    """Make a driver, or one of a subclass, with an owner of its own."""

    def make(cls: type[ArrayDriver] = ArrayDriver, pool: str = "gold") -> ArrayDriver:
        options = {
            "url": array.url,
            "username": array.admin_user,
            "password": array.admin_password,
            "pool": pool,
            "owner": f"o{next(_owners)}",
            "allow_http": True,
        }
        return cls(parse_options(cls.Options, options))

    return make


@pytest.fixture
def rig(tmp_path) -> Iterator[Callable[..., Rig]]:
    """Make a rig over a driver, with a new store each time."""
    opened: list[Rig] = []
    mover = Mover(host=mover_host(tmp_path), journal=Journal(tmp_path / "journal"))

    def make(driver: Any, store: type[NfsDriver] = NfsDriver) -> Rig:
        directory = tmp_path / f"store-{len(opened)}"
        directory.mkdir()
        secondary = Store("nightly", store(parse_options(store.Options, {"path": directory})))
        secondary.open(call())
        pool = Pool("primary", driver, sleep=lambda _: None)
        opened.append(Rig(pool, secondary, mover, tmp_path))
        return opened[-1]

    yield make
    for one in opened:
        one.store.close()
        one.pool.close()


@pytest.fixture
def lun(rig, array_driver) -> Rig:
    """A rig over the array: managed."""
    return rig(array_driver())


@pytest.fixture
def silver(rig, array_driver) -> Rig:
    """A rig over another pool of the array."""
    return rig(array_driver(pool="silver"))


@pytest.fixture(scope="module")
def iscsi_array(tmp_path_factory) -> Iterator[IscsiArray]:
    """A real iSCSI array for the tests of a module."""
    with prepared_array(tmp_path_factory.mktemp("iscsi")) as array:
        yield array


@pytest.fixture
def iscsi(rig, iscsi_array) -> Rig:
    """A rig over the real array, with an owner of its own: managed."""
    return rig(IscsiSshDriver(typed_options(iscsi_array, owner=f"o{next(_owners)}")))


@pytest.fixture(params=["lun", pytest.param("iscsi", marks=pytest.mark.real(root=True))])
def managed(request) -> Rig:
    """A rig over an array, simulated or real."""
    found: Rig = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def files_driver(tmp_path) -> Callable[..., Qcow2Driver]:
    """Make a driver of a new directory of raw files (as qcow2, but without a process per volume)."""

    def make(image_format: str = "raw") -> Qcow2Driver:
        directory = tmp_path / f"pool-{next(_owners)}"
        directory.mkdir()
        return Qcow2Driver(parse_options(Qcow2Driver.Options, {"path": directory, "format": image_format}))

    return make


@pytest.fixture
def files(rig, files_driver) -> Rig:
    """A rig over a directory of raw files: not managed."""
    return rig(files_driver())


@pytest.fixture
def qcow2s(rig, files_driver) -> Rig:
    """A rig over a directory of qcow2 files: not managed."""
    return rig(files_driver("qcow2"))


@pytest.fixture
def bytes_read(monkeypatch) -> list[int]:
    """The lengths of all reads of snapshots and volumes from now on."""
    counter: list[int] = []
    monkeypatch.setattr(access, "open_source", lambda location: Meter(open_source(location), counter))
    return counter
