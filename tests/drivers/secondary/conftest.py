"""The three stores, real or simulated, behind one fixture, with faults in front of those that speak HTTP."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
import swiftclient

from bollard.core.spi import Call, ImageStoreDriver, parse_options
from bollard.drivers.secondary.nfs import NfsDriver
from bollard.drivers.secondary.s3 import S3Driver
from bollard.drivers.secondary.swift import SwiftDriver
from bollard.simulators.faults import FaultProxy
from bollard.simulators.faults.http import HttpProxy
from bollard.simulators.http_server import DropConnection
from bollard.simulators.s3 import S3Simulator
from bollard.simulators.swift import SwiftSimulator
from real_keystone import RealKeystone
from real_nfs import RealNfs
from real_swift import RealSwift

MIB = 1024 * 1024
KEY = "correct-horse-battery"
PART = 5 * MIB // 4
SINGLE_BELOW = 5 * MIB // 2
"""Parts far below what S3 allows, so that bodies of three parts are small; moto is told to take them."""


@dataclass
class Rule:
    """What happens to the next so many requests that match."""

    method: str
    path: str
    act: str
    times: int


@dataclass
class Faults:
    """WSGI middleware that breaks requests on command; off by default.

    Acts: a status ("503"), "reset" (half of the body is read, then RST), "lost" (done, then RST instead of
    the answer), "cut" (half of the answer, then RST), "flip" (a bit of the answer), "flip-up" (of the body).
    """

    app: Any = None
    rules: list[Rule] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)

    def add(self, act: str, method: str, path: str = "", times: int = 1) -> None:
        """Break the next `times` requests whose method and path (with query) match."""
        self.rules.append(Rule(method, path, act, times))

    def __call__(self, environ: dict[str, Any], start: Any) -> Any:
        """Serve one request."""
        method, path = environ["REQUEST_METHOD"], f"{environ['PATH_INFO']}?{environ.get('QUERY_STRING', '')}"
        self.seen.append(environ)
        act = self._take(method, path)
        if act.isdecimal():
            start(f"{act} Broken", [("Content-Length", "0"), ("Retry-After", "0")])
            return [b""]
        if act == "reset":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0) // 2)
            raise DropConnection
        if act == "flip-up":
            environ["wsgi.input"] = _Flipped(environ["wsgi.input"])
        body = self.app(environ, start)
        if act in ("lost", "cut", "flip"):
            return _spoilt(body, act)
        return body

    def _take(self, method: str, path: str) -> str:
        for rule in self.rules:
            if rule.times and rule.method == method and re.search(rule.path, path):
                rule.times -= 1
                return rule.act
        return ""


class _Flipped:
    """A request body with one bit changed."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._done = False

    def read(self, size: int = -1) -> bytes:
        data = self._raw.read(size)
        if data and not self._done:
            self._done = True
            data = bytes([data[0] ^ 1]) + data[1:]
        return data


def _spoilt(body: Any, act: str) -> Iterator[bytes]:
    data = b"".join(body)
    if hasattr(body, "close"):
        body.close()
    if act == "lost":
        raise DropConnection
    if act == "flip":
        yield bytes([data[0] ^ 1]) + data[1:]
        return
    yield data[: len(data) // 2]
    raise DropConnection


class FaultyS3(S3Simulator):
    """moto behind `Faults`."""

    faults: Faults

    def application(self) -> Any:
        """Put the faults in front."""
        self.faults = Faults(super().application())
        return self.faults


class FaultySwift(SwiftSimulator):
    """The Swift simulator behind `Faults`."""

    faults: Faults

    def application(self) -> Any:
        """Put the faults in front."""
        self.faults = Faults(super().application())
        return self.faults


@dataclass
class Store:
    """An open store that is this test's own.

    Attributes:
        names: everything that physically lies in it, also what is hidden.
        options: what `driver` was made with.
        faults: None where there is no HTTP.
        again: opens another driver on the same place, with other options if wanted.
        root: where its files lie on this machine; None where they are none.
    """

    kind: str
    driver: ImageStoreDriver[Any]
    names: Callable[[], list[str]]
    options: dict[str, Any]
    faults: Faults | None
    again: Callable[..., ImageStoreDriver[Any]]
    simulator: Any = None
    root: Path | None = None


@pytest.fixture
def call() -> Call:
    """Half a minute: no test takes it, and a hang shows."""
    return Call.within(30)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyS3]:
    """Moto with a bucket."""
    with (
        pytest.MonkeyPatch.context() as patch,
        FaultyS3(tmp_path_factory.mktemp("s3"), buckets=["archive"]) as server,
    ):
        patch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1)
        yield server


@pytest.fixture(scope="session")
def s3(s3_server: FaultyS3) -> Iterator[Any]:
    """A client that sees what the driver hides."""
    client = boto3.client(
        "s3",
        endpoint_url=s3_server.url,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="s",
    )
    yield client
    client.close()


@pytest.fixture(scope="session")
def swift_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultySwift]:
    """The Swift simulator with a container."""
    with FaultySwift(tmp_path_factory.mktemp("swift"), users={"test:tester": KEY}) as server:
        connection = swiftclient.Connection(authurl=server.auth_url, user="test:tester", key=KEY)
        connection.put_container("archive")
        connection.close()
        yield server


def files_in(root: Path) -> list[str]:
    """Return all that lies in a directory."""
    found = (Path(folder, name) for folder, _, files in os.walk(root) for name in files)
    return sorted(str(path.relative_to(root)) for path in found)


@pytest.fixture
def nfs_store(tmp_path: Path) -> Iterator[Store]:
    """A directory."""
    yield from _files_store({"path": str(tmp_path)}, tmp_path)


@pytest.fixture(scope="session")
def real_nfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealNfs]:
    """An NFS server."""
    with RealNfs(tmp_path_factory.mktemp("real-nfs")) as server:
        yield server


@pytest.fixture
def real_nfs_store(real_nfs: RealNfs) -> Iterator[Store]:
    """Its export, over NFSv3, emptied before."""
    yield from _real_nfs_store(real_nfs, 3)


@pytest.fixture
def real_nfs4_store(real_nfs: RealNfs) -> Iterator[Store]:
    """The same export over NFSv4."""
    yield from _real_nfs_store(real_nfs, 4)


def _real_nfs_store(server: RealNfs, version: int) -> Iterator[Store]:
    for path in server.export.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    yield from _files_store({"url": server.url(version)}, server.export)


def _files_store(options: dict[str, Any], root: Path) -> Iterator[Store]:
    for opened in _opened("nfs", NfsDriver, options, lambda: files_in(root)):
        yield replace(opened, root=root)


@pytest.fixture
def s3_store(s3_server: FaultyS3, s3: Any) -> Iterator[Store]:
    """A prefix of the bucket."""
    yield from _s3_store(s3, s3_server.url, s3_server)


def _s3_store(s3: Any, url: str, simulator: Any = None) -> Iterator[Store]:
    prefix = uuid.uuid4().hex

    def names() -> list[str]:
        objects = s3.list_objects_v2(Bucket="archive", Prefix=prefix).get("Contents", [])
        uploads = s3.list_multipart_uploads(Bucket="archive", Prefix=prefix).get("Uploads", [])
        found = [o["Key"] for o in objects] + [f"{u['Key']}?upload" for u in uploads]
        return [name.removeprefix(f"{prefix}/") for name in found]

    options = {
        "endpoint_url": url,
        "bucket": "archive",
        "access_key": "test:tester",
        "secret_key": KEY,
        "prefix": prefix,
        "max_single_upload_size": SINGLE_BELOW,
    }
    yield from _opened("s3", S3Driver, options, names, simulator, part_size=PART)


@pytest.fixture
def swift_store(swift_server: FaultySwift) -> Iterator[Store]:
    """A prefix of the container."""
    yield from _swift_store("swift", *_tempauth(swift_server.auth_url), swift_server)


def _tempauth(auth_url: str) -> tuple[swiftclient.Connection, dict[str, Any]]:
    connection = swiftclient.Connection(authurl=auth_url, user="test:tester", key=KEY)
    return connection, {"url": auth_url, "account": "test", "user_name": "tester", "key": KEY}


def _swift_store(
    kind: str, swift: swiftclient.Connection, signing_in: dict[str, Any], simulator: Any = None
) -> Iterator[Store]:
    prefix = uuid.uuid4().hex

    def names() -> list[str]:
        containers = [c["name"] for c in swift.get_account()[1]]
        found = [(c, o["name"]) for c in containers for o in swift.get_container(c, prefix=prefix)[1]]
        return [
            ("segment of " if c != "archive" else "") + name.removeprefix(f"{prefix}/") for c, name in found
        ]

    options = {
        **signing_in,
        "container": "archive",
        "prefix": prefix,
        "segment_size": PART,
        "max_single_upload_size": SINGLE_BELOW,
    }
    yield from _opened(kind, SwiftDriver, options, names, simulator)
    swift.close()


@pytest.fixture(scope="session")
def real_swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSwift]:
    """Swift's own servers, with a container; their S3 face shows it as a bucket."""
    with RealSwift(tmp_path_factory.mktemp("real-swift")) as server:
        connection = swiftclient.Connection(authurl=server.auth_url, user="test:tester", key=KEY)
        connection.put_container("archive")
        connection.close()
        yield server


@pytest.fixture
def whole(real_swift: RealSwift) -> Iterator[RealSwift]:
    """The servers, all of which run again afterwards."""
    yield real_swift
    real_swift.repair()


@pytest.fixture
def behind(real_swift: RealSwift, tmp_path: Path) -> Iterator[HttpProxy]:
    """A proxy in front of them that breaks what its plan says."""
    with FaultProxy.http(upstream=real_swift.s3_url, state=tmp_path / "proxy") as proxy:
        yield proxy


def at(store: Store, url: str) -> dict[str, Any]:
    """Return the options that lead a real store's driver through another proxy."""
    if store.kind == "s3":
        return {"endpoint_url": url}
    return {"url": f"{url}/auth/v1.0", "storage_url": f"{url}/v1/AUTH_test"}


@pytest.fixture
def real_swift_store(real_swift: RealSwift) -> Iterator[Store]:
    """A prefix of the container."""
    yield from _swift_store("swift", *_tempauth(real_swift.auth_url))


@pytest.fixture
def real_s3_store(real_swift: RealSwift) -> Iterator[Store]:
    """The same servers through their S3 face."""
    client = boto3.client(
        "s3",
        endpoint_url=real_swift.s3_url,
        region_name="us-east-1",
        aws_access_key_id="test:tester",
        aws_secret_access_key=KEY,
    )
    yield from _s3_store(client, real_swift.s3_url)
    client.close()


@pytest.fixture(scope="session")
def keystone(real_swift: RealSwift, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKeystone]:
    """A real Keystone that real Swift asks, with a container; started by the first test that needs it."""
    with RealKeystone(tmp_path_factory.mktemp("keystone")) as server:
        real_swift.trust(server)
        with closing(keystone_connection(server)) as connection:
            connection.put_container("archive")
        yield server


def keystone_connection(keystone: RealKeystone) -> swiftclient.Connection:
    """Return a connection of the user of the tests."""
    url, token = keystone.sign_in()
    return swiftclient.Connection(preauthurl=url, preauthtoken=token)


@pytest.fixture
def keystone_store(keystone: RealKeystone) -> Iterator[Store]:
    """A prefix of that container."""
    yield from _swift_store("swift", keystone_connection(keystone), keystone_sign_in(keystone))


def keystone_sign_in(keystone: RealKeystone) -> dict[str, Any]:
    """Return the driver's options for the user of the tests."""
    return {
        "url": keystone.url,
        "auth_version": "3",
        "account": keystone.project,
        "user_name": keystone.user,
        "key": keystone.password,
        "user_domain": keystone.domain,
        "project_domain": keystone.domain,
    }


_REAL = [pytest.param(kind, marks=pytest.mark.real) for kind in ("real_s3", "real_swift")]
_REAL_NFS = [pytest.param(kind, marks=pytest.mark.real(root=True)) for kind in ("real_nfs", "real_nfs4")]


@pytest.fixture(params=["nfs", "s3", "swift", *_REAL_NFS, *_REAL])
def store(request: pytest.FixtureRequest) -> Store:
    """Each of the three, also as real servers."""
    found: Store = request.getfixturevalue(f"{request.param}_store")
    return found


@pytest.fixture(params=["nfs", *_REAL_NFS])
def files(request: pytest.FixtureRequest) -> Store:
    """Each way to files."""
    found: Store = request.getfixturevalue(f"{request.param}_store")
    return found


@pytest.fixture(params=["nfs", "s3", "swift", *_REAL_NFS])
def atomic(request: pytest.FixtureRequest) -> Store:
    """Each that looks at a condition when it commits."""
    found: Store = request.getfixturevalue(f"{request.param}_store")
    return found


@pytest.fixture(params=_REAL)
def racy(request: pytest.FixtureRequest) -> Store:
    """Each that looks at it earlier."""
    found: Store = request.getfixturevalue(f"{request.param}_store")
    return found


@pytest.fixture(params=["s3", "swift"])
def remote(request: pytest.FixtureRequest) -> Store:
    """Each that speaks HTTP."""
    found: Store = request.getfixturevalue(f"{request.param}_store")
    return found


def _opened(
    kind: str,
    cls: type[ImageStoreDriver[Any]],
    options: dict[str, Any],
    names: Callable[[], list[str]],
    simulator: Any = None,
    **unchecked: Any,
) -> Iterator[Store]:
    drivers = []

    def again(**other: Any) -> ImageStoreDriver[Any]:
        driver = cls(replace(parse_options(cls.Options, options | other), **unchecked))
        drivers.append(driver)
        driver.open(Call.within(30))
        return driver

    faults = simulator.faults if simulator else None
    try:
        yield Store(kind, again(), names, options, faults, again, simulator)
    finally:
        for driver in drivers:
            driver.close()
        if faults:
            faults.rules.clear()
