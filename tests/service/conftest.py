"""Arrays, directories and stores with real bytes, and an orchestrator over them."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bollard.core.access import Mover
from bollard.core.catalog import Catalog
from bollard.core.journal import Journal
from bollard.core.mover import mover_host
from bollard.core.pool import Pool
from bollard.core.spi import parse_options
from bollard.core.store import Store
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.primary.qcow2 import Qcow2Driver
from bollard.drivers.secondary.nfs import NfsDriver
from bollard.simulators.array import ArraySimulator

from .service_rig import Cloud, TestSite, call

_owners = itertools.count(1)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory) -> Iterator[list[ArraySimulator]]:
    """Two arrays for the tests of a module; each pool on them is an owner of its own."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                ArraySimulator(
                    tmp_path_factory.mktemp(name), pools={"gold": 8 * 2**30}, tls=False, job_seconds=0.0
                )
            )
            for name in ("one", "two")
        ]


def array_pool(name: str, array: ArraySimulator, cls: type[ArrayDriver] = ArrayDriver) -> Pool:
    """Open a pool of an array, with an owner of its own."""
    options = {
        "url": array.url,
        "username": array.admin_user,
        "password": array.admin_password,
        "pool": "gold",
        "owner": f"o{next(_owners)}",
        "allow_http": True,
    }
    return Pool(name, cls(parse_options(cls.Options, options)), sleep=lambda _: None)


def files_pool(name: str, directory: Path, image_format: str) -> Pool:
    """Open a directory of files."""
    directory.mkdir()
    options = {"path": directory, "format": image_format}
    return Pool(name, Qcow2Driver(parse_options(Qcow2Driver.Options, options)), sleep=lambda _: None)


def nfs_store(name: str, directory: Path) -> Store:
    """Open a directory as a store."""
    directory.mkdir()
    store = Store(
        name, NfsDriver(parse_options(NfsDriver.Options, {"path": directory})), sleep=lambda _: None
    )
    store.open(call())
    return store


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory in memory where that can be had: each test syncs thousands of times."""
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a directory of its own in it
    with tempfile.TemporaryDirectory(dir=place) as directory:
        yield Path(directory)


@pytest.fixture
def cloud(arrays, memory) -> Iterator[Cloud]:
    """A cloud over arrays gold and silver, files raw and qcow2, stores nightly and weekly."""
    with ExitStack() as stack:
        catalog = Catalog(f"sqlite:///{memory}/catalog.db")
        stack.callback(catalog.close)
        pools = [
            array_pool("gold", arrays[0]),
            array_pool("silver", arrays[1]),
            files_pool("raw", memory / "raw", "raw"),
            files_pool("qcow2", memory / "qcow2", "qcow2"),
        ]
        stores = [nfs_store(name, memory / name) for name in ("nightly", "weekly")]
        for pool in pools:
            stack.callback(pool.close)
        for store in stores:
            stack.callback(store.close)
        mover = Mover(host=mover_host(memory), journal=Journal(memory / "journal"))
        site = TestSite({pool.name: pool for pool in pools}, {one.name: one for one in stores}, mover)
        yield Cloud(memory, site, catalog)
