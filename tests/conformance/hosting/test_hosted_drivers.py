"""The drivers that Bollard ships, run from another process as if they were here."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from array_rig import host as machine
from array_rig import read, spec, write
from bollard.conformance.hosting.client import hosted_class, target_of
from bollard.conformance.hosting.failures import NotHostable
from bollard.core.plugins import load_driver, registered
from bollard.core.pool import Pool
from bollard.core.spi import (
    Body,
    Call,
    Conflict,
    DataLoss,
    DeadlineExceeded,
    HostPrimaryDriver,
    ImageStoreDriver,
    ManagedPrimaryDriver,
    NbdLocation,
    NotFound,
    Snapshots,
    Unauthenticated,
    VolumeSpec,
)
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.primary.qcow2 import Qcow2Driver
from bollard.drivers.secondary.nfs import NfsDriver
from bollard.simulators.array import ArraySimulator
from odd_drivers import OddDriver, OddStore
from primary_rig import COPY, MIB, S1, S2, WEB, call
from qcow2_rig import equal, fill, path_of

BLOCK = bytes(range(256)) * 4096
Hosted = Callable[..., Any]


@pytest.fixture
def array(tmp_path: Path) -> Iterator[ArraySimulator]:
    """An array."""
    with ArraySimulator(tmp_path / "array") as simulator:
        yield simulator


def options(array: ArraySimulator, **more: object) -> dict[str, object]:
    """What a driver of this array needs."""
    known = {"url": array.url, "username": "admin", "password": array.admin_password, "pool": "pool-a"}
    return {**known, "ca": str(array.ca), **more}


@pytest.mark.parametrize("cls", [Qcow2Driver, ArrayDriver, NfsDriver, OddDriver, OddStore])
def test_a_hosted_class_looks_like_the_vendors(cls: Any) -> None:
    """Kind, capabilities, mix-ins, options and SPI version agree, and core takes it for a complete driver."""
    there = hosted_class(cls, lambda _: pytest.fail("nothing is started yet"))
    assert there.declared() == cls.declared()
    assert (there.spi, there.Options, there.__name__) == (cls.spi, cls.Options, cls.__name__)
    for kind in (HostPrimaryDriver, ManagedPrimaryDriver, ImageStoreDriver, Snapshots):
        assert issubclass(there, kind) == issubclass(cls, kind)
    with registered("hosted", there):
        assert load_driver("hosted") is there


def test_classes_that_no_other_process_can_import_are_refused() -> None:
    """A class inside of a function, and one whose name leads to another, cannot be hosted: told so."""

    class Local(OddDriver):
        pass

    double = type(
        "OddDriver", (OddDriver,), {"__module__": OddDriver.__module__, "__qualname__": "OddDriver"}
    )
    with pytest.raises(NotHostable, match="Local cannot be hosted"):
        target_of(Local)
    with pytest.raises(NotHostable, match="leads to another class"):
        hosted_class(double, lambda _: pytest.fail("nothing is started"))


def test_qcow2_makes_copies_and_reads_volumes(hosted: Hosted, tmp_path: Path) -> None:
    """Volume, snapshot, copy and revert of a file pool work through the host, with true bytes."""
    (tmp_path / "pool").mkdir()
    driver = hosted(Qcow2Driver, {"path": str(tmp_path / "pool")})
    pool = Pool("p", driver)
    assert pool.volumes.create(VolumeSpec(id=WEB, size=MIB)).size == MIB
    fill(driver, WEB, "0x11")
    pool.snapshots.create(WEB, S1)
    driver.create_volume_from_snapshot(S1, VolumeSpec(id=COPY, size=MIB), call())
    assert equal(path_of(driver, WEB), path_of(driver, COPY), "qcow2")
    fill(driver, WEB, "0x22")
    assert not equal(path_of(driver, WEB), path_of(driver, COPY), "qcow2")
    assert {v.id for v in pool.volumes.list()} == {WEB, COPY}
    pool.close()
    pool.close()
    assert driver.host.left == {}
    assert not driver.host.alive


def test_an_array_is_driven_over_tls(hosted: Hosted, array: ArraySimulator) -> None:
    """Grants come back as locations with their secrets; blocks and changed extents are true."""
    driver = hosted(ArrayDriver, options(array))
    driver.open(call())
    driver.create_volume(spec(), call())
    write(driver, WEB, 0x11)
    driver.create_snapshot(WEB, S1, call())
    write(driver, WEB, 0x22, offset=MIB // 2)
    driver.create_snapshot(WEB, S2, call())
    (extent,) = driver.changed(S1, S2, call())
    assert extent.offset <= MIB // 2 < extent.end
    location = driver.grant(WEB, machine(), call())
    assert isinstance(location, NbdLocation)
    assert location.export.reveal() not in repr(location)
    driver.revoke(WEB, machine().id, call())
    assert read(driver, WEB) == b"\x11" * 65536
    with pytest.raises(Conflict):
        driver.create_volume(spec(size=2 * MIB), call())
    driver.close()


def test_a_wrong_password_is_told_typed(hosted: Hosted, array: ArraySimulator) -> None:
    """What the driver says of wrong credentials arrives as it was said."""
    driver = hosted(ArrayDriver, options(array, password="wrong-horse"))
    with pytest.raises(Unauthenticated):
        driver.open(call())


def test_secrets_are_on_no_command_line_and_in_no_environment(hosted: Hosted, array: ArraySimulator) -> None:
    """Options travel over the socket: /proc shows nothing, and neither does what the host writes."""
    driver = hosted(ArrayDriver, options(array))
    driver.open(call())
    proc = Path(f"/proc/{driver.host.pid}")
    files = [proc / "cmdline", proc / "environ", driver.host.files.log, driver.host.files.output]
    assert all(array.admin_password.encode() not in path.read_bytes() for path in files)


@pytest.fixture
def store(hosted: Hosted, tmp_path: Path) -> Any:
    """A hosted directory as a store."""
    (tmp_path / "store").mkdir()
    driver = hosted(NfsDriver, {"path": str(tmp_path / "store")})
    driver.open(call())
    return driver


def test_objects_go_in_and_out(store: Any) -> None:
    """Bodies are read from here, objects are streamed to here, whole and in ranges."""
    data = BLOCK * 20
    assert store.put("a/b", Body.of(data), call()).size == len(data)
    assert b"".join(store.get("a/b", call())) == data
    assert b"".join(store.get("a/b", call(), offset=5, length=3 * MIB)) == data[5 : 5 + 3 * MIB]
    assert [o.key for o in store.list("a/", call()).items] == ["a/b"]
    with pytest.raises(Conflict):
        store.put("a/b", Body.of(b"other"), call(), if_absent=True)
    with pytest.raises(DataLoss):
        store.put("c", Body(size=3, sha256="0" * 64, open=Body.of(b"abc").open), call())
    store.delete("a/b", call())


def test_a_missing_object_is_told_when_the_first_bytes_are_asked_for(store: Any) -> None:
    """`get` of a generator raises at `next`, in the host as here."""
    stream = store.get("missing", call())
    with pytest.raises(NotFound):
        next(stream)
    assert list(stream) == []


def test_a_stream_that_is_not_read_to_its_end_is_closed(store: Any) -> None:
    """Closing or losing the iterator here closes the file there."""
    store.put("a", Body.of(BLOCK * 4), call())
    before = store.host.resources()
    first, second = store.get("a", call()), store.get("a", call())
    next(first), next(second)
    both = len(store.host.resources().since(before))  # a file each, and the store's directory
    assert both == 4
    first.close()
    first.close()
    assert len(store.host.resources().since(before)) == both // 2
    del second
    store.head("a", call())
    assert store.host.resources().since(before) == {}


def test_a_store_can_be_copied_onto_itself(store: Any) -> None:
    """A body may be read from the very store that it is put into: the host serves both."""
    store.put("a", Body.of(BLOCK), call())

    class Reader:
        def __init__(self) -> None:
            self.data = b"".join(store.get("a", call()))

        def read(self, size: int = -1) -> bytes:
            piece, self.data = self.data[:size], self.data[size:]
            return piece

        def close(self) -> None: ...

    store.put("b", Body(size=MIB, sha256=Body.of(BLOCK).sha256, open=Reader), call())
    assert b"".join(store.get("b", call())) == BLOCK


def test_a_deadline_reaches_the_driver(store: Any) -> None:
    """A call whose time is up is refused there, on any clock that the suite uses."""
    with pytest.raises(DeadlineExceeded):
        store.head("a", Call.within(-1))
    with pytest.raises(DeadlineExceeded):
        store.head("a", Call(deadline=100.0, clock=lambda: 101.0))
    with pytest.raises(NotFound):
        store.head("a", Call(deadline=100.0, clock=lambda: 50.0))


def test_bodies_and_objects_cost_little(hosted: Hosted) -> None:
    """Both processes together take less than a second of processor for 300 MB, wherever the others are."""
    driver, size = hosted(OddStore), 128 * MIB
    body = Body(size=size, sha256="", open=lambda: io.BytesIO(bytes(size)))
    driver.put("all", body, call())
    before = seconds_of_processor(driver.host.pid)
    driver.put("chunks", body, call())
    assert sum(len(piece) for piece in driver.get("all", call())) == size
    assert 2 * size / (seconds_of_processor(driver.host.pid) - before) > 300e6


def seconds_of_processor(pid: int) -> float:
    """Return what this process and another have used: the wall clock also counts what others do here."""
    ours = os.times()
    theirs = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return ours.user + ours.system + (int(theirs[11]) + int(theirs[12])) / os.sysconf("SC_CLK_TCK")


def test_a_host_is_there_soon(start: Any) -> None:
    """It tells how long it took, which on a machine that nobody else uses is some milliseconds."""
    assert 0 < start("odd_drivers:OddDriver").seconds < 20
