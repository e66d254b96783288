"""An NFS server that is spoken to without a mount, while it is killed, silent, full, or cut off."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bollard.core.spi import (
    Body,
    Call,
    DataLoss,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    OutOfCapacity,
    PermissionDenied,
    Unavailable,
    parse_options,
)
from bollard.drivers.secondary._export import parse_export
from bollard.drivers.secondary._remote import RemoteRoot
from bollard.drivers.secondary.nfs import NfsDriver, NfsOptions
from bollard.simulators.faults import Fault, FaultProxy
from real_nfs import RealNfs

if TYPE_CHECKING:
    from .conftest import Store

pytestmark = pytest.mark.real(root=True)
MIB = 1024 * 1024
DATA = os.urandom(MIB + 4711)


@pytest.fixture(params=["real_nfs", "real_nfs4"])
def remote_files(request: pytest.FixtureRequest) -> Iterator[Store]:
    """The export over each version; the server runs again afterwards."""
    found: Store = request.getfixturevalue(f"{request.param}_store")
    yield found
    request.getfixturevalue("real_nfs").repair()


class _Interrupted(io.BytesIO):
    """Bytes in whose middle something happens."""

    def __init__(self, data: bytes, act: Callable[[], None]) -> None:
        super().__init__(data)
        self._half, self._act = len(data) // 2, act

    def read(self, size: int | None = -1) -> bytes:
        """Read, and act when half is gone."""
        if self.tell() >= self._half:
            act, self._act = self._act, lambda: None
            act()
        return super().read(min(size if size is not None and size >= 0 else MIB, 65536))


def interrupted(act: Callable[[], None]) -> Body:
    """Return a body in whose middle something happens."""
    return Body(size=len(DATA), sha256=hashlib.sha256(DATA).hexdigest(), open=lambda: _Interrupted(DATA, act))


def test_killed_in_the_middle_of_an_upload(remote_files: Store, real_nfs: RealNfs, call: Call) -> None:
    """Half of an object is never visible, the same driver goes on after a restart, the leftover is found."""
    driver = remote_files.driver
    driver.put("k", Body.of(b"before"), call)
    with pytest.raises(Unavailable):
        driver.put("k", interrupted(real_nfs.kill), call)
    with pytest.raises(Unavailable):
        driver.head("k", call)
    real_nfs.repair()
    assert b"".join(driver.get("k", call)) == b"before"
    assert driver.abort_uploads("k", call, older_than=0) == 1
    driver.put("k", Body.of(DATA), call)
    assert b"".join(driver.get("k", call)) == DATA
    assert remote_files.names() == ["k"]


def test_restarted_in_the_middle_of_an_upload(remote_files: Store, real_nfs: RealNfs, call: Call) -> None:
    """A server that came back may have lost what was not committed: the upload is never believed."""

    def restart() -> None:
        real_nfs.kill()
        real_nfs.repair()

    with pytest.raises(Unavailable):
        remote_files.driver.put("k", interrupted(restart), call)
    assert remote_files.names() == []


def test_a_silent_server_costs_a_timeout(remote_files: Store, real_nfs: RealNfs) -> None:
    """A server that is stopped gives a typed error when the call's time is over, and works again later."""
    remote_files.driver.put("k", Body.of(b"x"), Call.within(30))
    real_nfs.stop()
    try:
        with pytest.raises((Unavailable, DeadlineExceeded)):
            remote_files.driver.head("k", Call.within(1))
    finally:
        real_nfs.resume()
    assert remote_files.driver.head("k", Call.within(30)).size == 1


@pytest.fixture
def small_server(tmp_path: Path) -> Iterator[RealNfs]:
    """A server whose disk has 4 MiB."""
    server = RealNfs(tmp_path)
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(server.export)]
    subprocess.run(mount, check=True, timeout=30)
    try:
        with server:
            yield server
    finally:
        subprocess.run(["umount", str(server.export)], check=True, timeout=30)


@pytest.mark.parametrize("version", [3, 4])
def test_a_full_disk_is_out_of_capacity(small_server: RealNfs, version: int, call: Call) -> None:
    """ENOSPC of the server, in the middle or at the commit, takes the half back, and smaller puts go on."""
    driver = NfsDriver(NfsOptions(url=small_server.url(version)))
    driver.open(call)
    with pytest.raises(OutOfCapacity):
        driver.put("big", Body.of(bytes(6 * MIB)), call)
    driver.put("fits", Body.of(bytes(3 * MIB)), call)
    assert [o.key for o in driver.list("", call).items] == ["fits"]
    driver.close()
    assert [p.name for p in small_server.export.rglob("*") if p.is_file()] == ["fits"]


def test_who_may_only_read_restores(remote_files: Store, call: Call) -> None:
    """A user whom the server lets only read opens the store and reads; put is PermissionDenied."""
    remote_files.driver.put("k", Body.of(b"x"), call)
    assert remote_files.root is not None
    (remote_files.root / "k").chmod(0o644)
    reader = remote_files.again(url=f"{remote_files.options['url']}&uid=65534&gid=65534")
    assert not reader.traits().conditional_put
    assert b"".join(reader.get("k", call)) == b"x"
    with pytest.raises(PermissionDenied):
        reader.put("k", Body.of(b"y"), call)
    with pytest.raises(PermissionDenied):
        reader.delete("k", call)
    assert b"".join(remote_files.driver.get("k", call)) == b"x"


def test_cut_short_on_the_server_s_disk(remote_files: Store, call: Call) -> None:
    """A file that loses its end under a reader gives DataLoss, never a short object."""
    remote_files.driver.put("k", Body.of(bytes(3 * MIB)), call)
    assert remote_files.root is not None
    stream = remote_files.driver.get("k", call)
    next(stream)
    os.truncate(remote_files.root / "k", MIB)
    with pytest.raises(DataLoss):
        list(stream)


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("if_absent", [True, False])
def test_cut_off_anywhere(real_nfs_store: Store, real_nfs: RealNfs, version: int, if_absent: bool) -> None:
    """Wherever the answers of a put break off, the object is whole or not there; none is a Conflict."""
    call, outcomes = Call.within(60), set()
    with FaultProxy.tcp("127.0.0.1", real_nfs.port) as proxy:
        for at in range(0, 3000, 100):
            driver = NfsDriver(NfsOptions(url=real_nfs.url(version, proxy.port)))
            driver.open(call)
            proxy.plan([Fault.reset(nth=2, at=at)])  # 1 only looks whether anyone listens
            driver._root = RemoteRoot(parse_export(real_nfs.url(version, proxy.port)), 30.0)
            outcomes.add(_put_whole(driver, real_nfs_store, f"k{at}", call, if_absent=if_absent))
            driver.close()
    assert outcomes == {"put", "refused"}


def _put_whole(driver: NfsDriver, direct: Store, key: str, call: Call, *, if_absent: bool) -> str:
    """Put through the faults, look without them."""
    try:
        driver.put(key, Body.of(b"data"), call, if_absent=if_absent)
    except Unavailable:
        found = [o.size for o in direct.driver.list(key, call).items]
        assert found in ([], [4])
        return "refused"
    assert b"".join(direct.driver.get(key, call)) == b"data"
    return "put"


def test_places_that_are_not_there(real_nfs: RealNfs, call: Call) -> None:
    """Nobody listening, a host without an address and an export that does not exist are typed."""
    for url, error in [
        ("nfs://127.0.0.1:9/archive?version=4", Unavailable),
        ("nfs://no-such-host.invalid/archive", Unavailable),
        (f"nfs://127.0.0.1:{real_nfs.port}/nowhere?version=4", NotFound),
    ]:
        with pytest.raises(error):
            NfsDriver(NfsOptions(url=url)).open(call)


def test_a_host_that_accepts_and_is_silent(real_nfs: RealNfs) -> None:
    """Opening ends with the call's time."""
    with FaultProxy.tcp("127.0.0.1", real_nfs.port) as proxy:
        proxy.plan([Fault.black_hole(every=1)])
        driver = NfsDriver(NfsOptions(url=real_nfs.url(4, proxy.port)))
        with pytest.raises((Unavailable, DeadlineExceeded)):
            driver.open(Call.within(1))


def test_idle_connections_are_used_while_the_server_knows_them(real_nfs: RealNfs, call: Call) -> None:
    """The next call takes the connection that the last one left, but not one that lay for five seconds."""
    now = [100.0]
    root = RemoteRoot(parse_export(real_nfs.url(4)), 30.0, lambda: now[0])
    used = []
    for seconds in (0.0, 4.0, 6.0):
        now[0] += seconds
        with root.folder(call) as folder:
            used.append(folder._connection)
    root.close()
    assert used[0] is used[1]
    assert used[1] is not used[2]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://host/export",
        "nfs://host",
        "nfs://host/",
        "nfs:///export",
        "nfs://me:secret@host/export",
        "nfs://host:x/export",
        "nfs://host/export?version=2",
        "nfs://host/export?sec=krb5",
        "nfs://host/export?uid=root",
    ],
)
def test_urls_that_say_no_export(url: str, call: Call) -> None:
    """A bad URL is refused before anything is opened, and a password in it is not repeated."""
    with pytest.raises(InvalidArgument) as error:
        NfsDriver(parse_options(NfsOptions, {"url": url})).open(call)
    assert "secret" not in str(error.value)
