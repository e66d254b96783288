"""Labs over real drivers, in this process: three stores and two pools, with everything removed afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from pathlib import Path
from random import Random
from typing import Any, NoReturn

import pytest
import swiftclient

from bollard.conformance.lab import Lab, NotApplicable, Notes
from bollard.conformance.store_lab import StoreLab
from bollard.core.access import Mover
from bollard.core.journal import Journal
from bollard.core.mover import mover_host
from bollard.core.pool import Pool, open_pool
from bollard.core.store import Store, open_store
from bollard.simulators.array import ArraySimulator
from bollard.simulators.s3 import S3Simulator
from bollard.simulators.swift import SwiftSimulator
from bollard.transfer_objects.ids import new_id

KEY = "correct-horse-battery"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """A driver's name and options, and the simulator behind it, if any."""

    driver: str
    options: Mapping[str, Any]
    simulator: Any = None


def _notes() -> Notes:
    return Notes(random=Random(1), seed=1)  # noqa: S311 - must repeat


def _no_proxy(**_: object) -> NoReturn:
    raise NotApplicable("these tests have no fault proxy")


@pytest.fixture(scope="session")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Moto with a bucket."""
    with S3Simulator(tmp_path_factory.mktemp("s3"), buckets=["archive"]) as server:
        yield server.url


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftSimulator]:
    """The Swift simulator with a container."""
    with SwiftSimulator(tmp_path_factory.mktemp("swift"), users={"test:tester": KEY}) as server:
        connection = swiftclient.Connection(authurl=server.auth_url, user="test:tester", key=KEY)
        connection.put_container("archive")
        connection.close()
        yield server


@pytest.fixture
def nfs_rig(tmp_path: Path) -> Rig:
    """A directory."""
    (tmp_path / "export").mkdir()
    return Rig(driver="nfs", options={"path": str(tmp_path / "export")})


@pytest.fixture
def s3_rig(s3_url: str) -> Rig:
    """A prefix of the bucket."""
    secrets = {"access_key": "AKIA-EXAMPLE", "secret_key": KEY}
    return Rig(
        driver="s3", options={"endpoint_url": s3_url, "bucket": "archive", "prefix": new_id(), **secrets}
    )


@pytest.fixture
def swift_rig(swift: SwiftSimulator) -> Rig:
    """A prefix of the container."""
    user = {"account": "test", "user_name": "tester", "key": KEY, "container": "archive"}
    return Rig(driver="swift", options={"url": swift.auth_url, "prefix": new_id(), **user}, simulator=swift)


@pytest.fixture(params=["nfs", "s3", "swift"])
def store_lab(request: pytest.FixtureRequest) -> Iterator[StoreLab]:
    """A lab on each of the three stores."""
    rig: Rig = request.getfixturevalue(f"{request.param}_rig")
    with open_store_lab(rig.driver, rig.options) as lab:
        yield lab


class _LabOnStore:
    """Opens a store for one lab and closes it afterwards."""

    def __init__(self, driver: str, options: Mapping[str, Any]) -> None:
        self._driver, self._options = driver, options

    def _open(self, options: Mapping[str, Any] | None = None) -> AbstractContextManager[Store]:
        return closing(open_store("under-test", self._driver, self._options if options is None else options))

    def __enter__(self) -> StoreLab:
        self._store = open_store("under-test", self._driver, self._options)
        return StoreLab(
            store=self._store, prefix="bct-00000000", second=self._open, proxied=_no_proxy, notes=_notes()
        )

    def __exit__(self, *_: object) -> None:
        self._store.close()


def open_store_lab(driver: str, options: Mapping[str, Any]) -> _LabOnStore:
    """A lab on the store that a driver opens with these options."""
    return _LabOnStore(driver, options)


@pytest.fixture
def lab_on_store() -> Callable[[str, Mapping[str, Any]], _LabOnStore]:
    """Make a lab on any store driver."""
    return open_store_lab


@pytest.fixture
def array_rig(tmp_path: Path) -> Iterator[Rig]:
    """A simulated array over TLS."""
    with ArraySimulator(tmp_path / "array", pools={"gold": 8 * 2**30}) as sim:
        options = {"url": sim.url, "ca": str(sim.ca), "username": sim.admin_user, "pool": "gold"}
        yield Rig(driver="array", options={**options, "password": sim.admin_password}, simulator=sim)


@pytest.fixture
def qcow2_rig(tmp_path: Path) -> Rig:
    """A directory pool."""
    (tmp_path / "pool").mkdir()
    return Rig(driver="qcow2", options={"path": str(tmp_path / "pool")})


class _LabOnPool:
    """Opens a pool for one lab and closes it afterwards."""

    def __init__(self, driver: str, options: Mapping[str, Any], work: Path) -> None:
        self._driver, self._options, self._work = driver, options, work

    def _open(self, options: Mapping[str, Any] | None = None) -> Pool:
        return open_pool("under-test", self._driver, self._options if options is None else options)

    def __enter__(self) -> Lab:
        (self._work / "store").mkdir(parents=True, exist_ok=True)
        self._store = open_store("archive", "nfs", {"path": str(self._work / "store")})
        self._pool = self._open()
        mover = Mover(host=mover_host(self._work), journal=Journal(self._work / "journal"))
        return Lab(
            pool=self._pool,
            mover=mover,
            prefix="bct-00000000",
            archive_store=self._store,
            second=self._open,
            proxied=_no_proxy,
            notes=_notes(),
        )

    def __exit__(self, *_: object) -> None:
        self._pool.close()
        self._store.close()


@pytest.fixture(params=["array", "qcow2"])
def pool_lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """A lab on each of the two pools."""
    rig: Rig = request.getfixturevalue(f"{request.param}_rig")
    with _LabOnPool(rig.driver, rig.options, tmp_path / "work") as lab:
        yield lab


@pytest.fixture
def lab_on_pool(tmp_path: Path) -> Callable[[str, Mapping[str, Any]], _LabOnPool]:
    """Make a lab on any primary driver."""
    return lambda driver, options: _LabOnPool(driver, options, tmp_path / "work")


@pytest.fixture
def not_applicable() -> type[NotApplicable]:
    """What a check raises that means nothing for a driver."""
    return NotApplicable
