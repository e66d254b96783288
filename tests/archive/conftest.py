"""What the tests of the archive share: stores and volumes in memory and real, a clock, no threads."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import swiftclient

from bollard.core.archive import Archive, CreateOptions, Workers
from bollard.core.spi import Call, ImageStoreDriver, parse_options
from bollard.drivers.secondary.nfs import NfsDriver, NfsOptions
from bollard.drivers.secondary.s3 import S3Driver
from bollard.drivers.secondary.swift import SwiftDriver
from bollard.simulators.s3 import S3Simulator
from bollard.simulators.swift import SwiftSimulator
from bollard.transfer_objects.ids import new_id
from real_swift import RealSwift

HERE = Path(__file__).parent
KEY = "correct-horse-battery"


def _load(name: str) -> ModuleType:
    """Import a helper that lies beside the tests (in importlib mode they cannot import each other)."""
    full = f"bollard_archive_tests_{name}"
    if full in sys.modules:
        return sys.modules[full]
    spec = importlib.util.spec_from_file_location(full, HERE / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def kit() -> ModuleType:
    """`MemoryStore`, `Crash`, `Ram`, `Inline`, `FakeClock`."""
    kit = ModuleType("kit")
    for name in ("memory_store", "ram", "inline", "stepped_store"):
        kit.__dict__.update({k: v for k, v in vars(_load(name)).items() if not k.startswith("_")})
    return kit


@pytest.fixture(scope="session")
def histories() -> ModuleType:
    """The model test's machinery."""
    return _load("histories")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real S3 endpoint (moto) with a bucket."""
    with S3Simulator(tmp_path_factory.mktemp("s3"), buckets=["archive"]) as server:
        yield server.url


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The Swift simulator with a container."""
    with SwiftSimulator(tmp_path_factory.mktemp("swift"), users={"test:tester": KEY}) as server:
        connection = swiftclient.Connection(authurl=server.auth_url, user="test:tester", key=KEY)
        connection.put_container("archive")
        connection.close()
        yield server.auth_url


def _s3_driver(url: str, access_key: str = "a", key: str = KEY, **more: str) -> S3Driver:
    account = {"bucket": "archive", "access_key": access_key, "secret_key": key}
    return S3Driver(parse_options(S3Driver.Options, {"endpoint_url": url, **account, **more}))


def _swift_driver(url: str, key: str = KEY, **more: str) -> SwiftDriver:
    account = {"account": "test", "user_name": "tester", "key": key, "container": "archive"}
    return SwiftDriver(parse_options(SwiftDriver.Options, {"url": url, **account, **more}))


@pytest.fixture(scope="session")
def real_swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSwift]:
    """Swift's own servers, with a container; their S3 face shows it as a bucket."""
    with RealSwift(tmp_path_factory.mktemp("real-swift")) as server:
        connection = swiftclient.Connection(authurl=server.auth_url, user="test:tester", key=server.key)
        connection.put_container("archive")
        connection.close()
        yield server


@pytest.fixture
def driver_of(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """A function that opens the driver of a kind of store, simulated or real."""
    opened = []

    def make(kind: str) -> ImageStoreDriver[Any]:
        server: Any = request.getfixturevalue("real_swift") if kind.startswith("real") else None
        makers: dict[str, Callable[[], ImageStoreDriver[Any]]] = {
            "nfs": lambda: NfsDriver(NfsOptions(path=tmp_path)),
            "s3": lambda: _s3_driver(request.getfixturevalue("s3")),
            "swift": lambda: _swift_driver(request.getfixturevalue("swift")),
            "real_s3": lambda: _s3_driver(server.s3_url, "test:tester", server.key),
            "real_swift": lambda: _swift_driver(server.auth_url, server.key),
        }
        driver = makers[kind]()
        driver.open(Call())
        opened.append(driver)
        return driver

    yield make
    for driver in opened:
        driver.close()


@pytest.fixture(params=["memory", "nfs", "s3", "swift"])
def store(request: pytest.FixtureRequest, kit: Any, tmp_path: Path) -> Iterator[ImageStoreDriver[Any]]:
    """An open store: in memory, a directory through the NFS driver, S3 and Swift over HTTP.

    Empty: the two servers are the session's, and each test has a prefix of its own there.
    """
    prefix = new_id("test")
    makers: dict[str, Callable[[], ImageStoreDriver[Any]]] = {
        "memory": kit.MemoryStore,
        "nfs": lambda: NfsDriver(NfsOptions(path=tmp_path)),
        "s3": lambda: _s3_driver(request.getfixturevalue("s3"), prefix=prefix),
        "swift": lambda: _swift_driver(request.getfixturevalue("swift"), prefix=prefix),
    }
    driver = makers[request.param]()
    driver.open(Call())
    yield driver
    driver.close()


@pytest.fixture
def memory(kit: Any) -> Any:
    """The store in memory, which can fail on command."""
    return kit.MemoryStore()


@pytest.fixture(scope="session")
def small() -> CreateOptions:
    """Windows of 4 granules of 512 bytes: many windows in a small volume."""
    return CreateOptions(window_size=2048, granule=512)


@pytest.fixture
def inline(kit: Any) -> Callable[..., Archive]:
    """Make an archive whose work runs in the caller's thread, in the order of the plan."""
    return lambda store, **more: Archive(store, workers=Workers(count=1, executor=kit.Inline()), **more)
