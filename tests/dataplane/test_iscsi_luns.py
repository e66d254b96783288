"""LUNs as sources and sinks, over a real tgtd."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bollard.core.dataplane import open_sink, open_source
from bollard.core.spi import (
    DataLoss,
    ExtentKind,
    InvalidArgument,
    IscsiLocation,
    NotFound,
    PermissionDenied,
    StorageError,
    Unauthenticated,
    Unavailable,
)
from bollard.transfer_objects.secret import Secret
from iscsi_array import MIB, IscsiArray
from ports import free_port

pytestmark = pytest.mark.real(root=True)

TARGET, READ_ONLY = "iqn.2026-01.test.bollard:lun", "iqn.2026-01.test.bollard:lun-ro"
INITIATOR = "iqn.2026-01.test.bollard:host"
USER, PASSWORD = "host-1", "a-secret-of,16-b"
SIZE = 64 * MIB


@pytest.fixture(scope="module")
def array(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IscsiArray]:
    """An array with one LUN of 64 MiB, writable as one target and read-only as another."""
    with IscsiArray(tmp_path_factory.mktemp("array")) as made:
        image = made.pool / "lun.raw"
        with image.open("xb") as file:
            file.truncate(SIZE)
        made.tgtadm("--op", "new", "--mode", "account", "--user", USER, "--password", PASSWORD)
        for tid, target in (("1", TARGET), ("2", READ_ONLY)):
            lun = ("--mode", "logicalunit", "--tid", tid, "--lun", "1")
            made.tgtadm("--op", "new", "--mode", "target", "--tid", tid, "-T", target)
            made.tgtadm("--op", "new", *lun, "-b", image)
            readonly = ",readonly=1" if target == READ_ONLY else ""
            made.tgtadm("--op", "update", *lun, "--params", f"thin_provisioning=1{readonly}")
            made.tgtadm("--op", "bind", "--mode", "account", "--tid", tid, "--user", USER)
            made.tgtadm("--op", "bind", "--mode", "target", "--tid", tid, "-Q", INITIATOR)
        yield made


def _lun(array: IscsiArray, **changes: Any) -> IscsiLocation:
    location = IscsiLocation(
        portal=array.portal,
        target=TARGET,
        lun=1,
        initiator=INITIATOR,
        chap_user=USER,
        chap_secret=Secret(PASSWORD),
        size=SIZE,
    )
    return dataclasses.replace(location, **changes)


def test_what_is_written_is_read(array: IscsiArray) -> None:
    """What was flushed is in the array's file and is read back; it alone is allocated, until discarded."""
    image, data = array.pool / "lun.raw", os.urandom(MIB)
    with open_sink(_lun(array), timeout=10) as sink:
        assert sink.size == SIZE
        sink.write(4 * MIB, data)
        sink.flush()
    assert image.read_bytes()[4 * MIB : 5 * MIB] == data
    with open_source(_lun(array), timeout=10) as source:
        buffer = bytearray(MIB)
        source.read_into(4 * MIB, memoryview(buffer))
        assert buffer == data
        held = [e for e in source.extents(0, SIZE) if e.kind is ExtentKind.DATA]
    assert [(e.offset, e.length) for e in held] == [(4 * MIB, MIB)]
    with open_sink(_lun(array), timeout=10) as sink:
        sink.zero(4 * MIB, MIB)
        sink.flush()
        assert all(e.kind is not ExtentKind.DATA for e in sink.extents(0, SIZE))  # type: ignore[attr-defined] # NBD's sink reads too
    assert image.stat().st_blocks * 512 < MIB


def test_sinks_of_one_lun_see_each_other(array: IscsiArray) -> None:
    """A clone of a sink writes to the same LUN, and one flush makes the writes of both durable."""
    with open_sink(_lun(array), timeout=10) as sink, sink.clone() as twin:
        sink.write(0, b"a" * 4096)
        twin.write(4096, b"b" * 4096)
        sink.flush()
    with (array.pool / "lun.raw").open("rb") as file:
        assert file.read(8192) == b"a" * 4096 + b"b" * 4096


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"chap_secret": Secret("wrong-wrong-wrong")}, Unauthenticated),
        ({"chap_user": "", "chap_secret": None}, Unauthenticated),
        ({"target": "iqn.2026-01.test.bollard:nobody"}, NotFound),
        ({"initiator": "iqn.2026-01.test.bollard:stranger"}, NotFound),
        ({"lun": 7}, NotFound),
        ({"size": 2 * SIZE}, DataLoss),
        ({"target": "iqn.2026-01.x,file.lun=0"}, InvalidArgument),
        ({"portal": ("127.0.0.1,file.lun=0", 3260)}, InvalidArgument),
        ({"lun": -1}, InvalidArgument),
        ({"chap_user": ""}, InvalidArgument),
    ],
)
def test_what_does_not_fit_is_refused(
    array: IscsiArray, changes: dict[str, Any], error: type[StorageError]
) -> None:
    """Each way of not getting in is an error of its own, which shows no secret; no server is left."""
    before = _servers()
    with pytest.raises(error) as caught:
        open_source(_lun(array, **changes), timeout=5)
    assert "wrong-wrong" not in f"{caught.value!r} {caught.value.detail}"
    assert _servers() == before


def test_nobody_listens_at_the_portal(array: IscsiArray) -> None:
    """A portal that nobody serves is unavailable."""
    with pytest.raises(Unavailable):
        open_source(_lun(array, portal=("127.0.0.1", free_port())), timeout=5)


def test_a_portal_that_says_nothing_is_left_in_time(array: IscsiArray) -> None:
    """A portal that takes the connection and says nothing is unavailable in time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        portal = ("127.0.0.1", int(silent.getsockname()[1]))
        began = time.monotonic()
        with pytest.raises(Unavailable):
            open_source(_lun(array, portal=portal), timeout=1)
        assert time.monotonic() - began < 1 + 20


def test_read_only_is_read_only(array: IscsiArray) -> None:
    """A LUN that the array does not let be written is read, and refused as a sink."""
    with open_source(_lun(array, target=READ_ONLY), timeout=5) as source:
        source.read_into(0, memoryview(bytearray(4096)))
    with pytest.raises(PermissionDenied):
        open_sink(_lun(array, target=READ_ONLY), timeout=5)
    with pytest.raises(PermissionDenied):
        open_sink(_lun(array, read_only=True), timeout=5)


def test_the_secret_is_in_no_command_line(array: IscsiArray) -> None:
    """While a LUN is open, no process of the machine has the CHAP secret among its arguments or variables."""
    with open_source(_lun(array), timeout=5):
        for process in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    text = (process / name).read_bytes()
                except OSError:
                    continue  # it ended
                assert PASSWORD.partition(",")[0].encode() not in text  # QEMU doubles commas


def test_a_frozen_target_is_left_in_time(array: IscsiArray) -> None:
    """A write to a target that stands still ends in time, and nobody is left to repeat it later."""
    sink = open_sink(_lun(array), timeout=1)
    os.kill(array.tgtd_pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with sink, pytest.raises(Unavailable):
            sink.write(8 * MIB, b"late" * 1024)
        assert time.monotonic() - began < 1 + 20
        assert _servers() == set()
    finally:
        os.kill(array.tgtd_pid, signal.SIGCONT)


def _servers() -> set[int]:
    """Return our qemu-nbd processes."""
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {int(pid) for path in children for pid in path.read_text().split() if _is_nbd(pid)}


def _is_nbd(pid: str) -> bool:
    return Path(f"/proc/{pid}/comm").read_text().strip() == "qemu-nbd"
