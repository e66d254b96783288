"""Ceph images as sources and sinks, over a real cluster."""

from __future__ import annotations

import dataclasses
import os
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
    NotFound,
    PermissionDenied,
    RbdLocation,
    StorageError,
    Unauthenticated,
    Unavailable,
)
from bollard.transfer_objects.secret import Secret
from ceph_lab import POOL, CephLab, ceph_lab
from ports import free_port

pytestmark = pytest.mark.real

MIB = 2**20
SIZE = 64 * MIB
IMAGE = "web,1"  # a comma ends an option of QEMU's


@pytest.fixture(scope="module")
def lab() -> Iterator[CephLab]:
    """A cluster with one image of 64 MiB, a user of all of the pool and one that may only look at it."""
    with ceph_lab() as made:
        made.rbd("create", "--size", "64M", IMAGE)
        made.rbd("create", "--size", "1M", "other")
        yield made


def _image(lab: CephLab, **changes: Any) -> RbdLocation:
    location = RbdLocation(
        monitors=lab.monitors, pool=POOL, image=IMAGE, user="admin", key=Secret(lab.key), size=SIZE
    )
    return dataclasses.replace(location, **changes)


def _user(lab: CephLab, name: str, osd: str) -> dict[str, Any]:
    made = lab.ceph("auth", "get-or-create", f"client.{name}", "mon", "profile rbd", "osd", osd)
    return {"user": name, "key": Secret(made[0]["key"])}


def test_what_is_written_is_read(lab: CephLab) -> None:
    """What was flushed is read back, also by another one; it alone is allocated, until it is discarded."""
    data = os.urandom(MIB)
    with open_sink(_image(lab), timeout=20) as sink:
        assert sink.size == SIZE
        sink.write(4 * MIB, data)
        sink.flush()
    with open_source(_image(lab), timeout=20) as source:
        buffer = bytearray(MIB)
        source.read_into(4 * MIB, memoryview(buffer))
        assert buffer == data
        held = [e for e in source.extents(0, SIZE) if e.kind is ExtentKind.DATA]
    assert [(e.offset, e.length) for e in held] == [(4 * MIB, 4 * MIB)]  # whole objects
    with open_sink(_image(lab), timeout=20) as sink:
        sink.zero(4 * MIB, 4 * MIB)
        sink.flush()
        assert all(e.kind is not ExtentKind.DATA for e in sink.extents(0, SIZE))  # type: ignore[attr-defined] # NBD's sink reads too


def test_a_snapshot_is_read_and_never_written(lab: CephLab) -> None:
    """A snapshot's bytes stay, and it is no sink."""
    with open_sink(_image(lab), timeout=20) as sink:
        sink.write(0, b"1" * 4096)
        sink.flush()
        lab.rbd("snap", "create", "--no-progress", f"{IMAGE}@then")
        sink.write(0, b"2" * 4096)
        sink.flush()
    data = bytearray(4096)
    with open_source(_image(lab, snapshot="then", read_only=True), timeout=20) as source:
        source.read_into(0, memoryview(data))
    assert data == b"1" * 4096
    with pytest.raises(PermissionDenied):
        open_sink(_image(lab, snapshot="then"), timeout=20)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"key": Secret("AQBaEQJriF4JJBAAUou4jvGySFWOoCnwLxQh/w==")}, Unauthenticated),
        ({"user": "nobody"}, Unauthenticated),
        ({"image": "nothing"}, NotFound),
        ({"snapshot": "nothing"}, NotFound),
        ({"pool": "nothing"}, NotFound),
        ({"size": 2 * SIZE}, DataLoss),
        ({"pool": "rbd,file.image=other"}, InvalidArgument),
        ({"user": "admin,file.image=other"}, InvalidArgument),
        ({"monitors": "127.0.0.1\nkey = x"}, InvalidArgument),
        ({"key": Secret("x\nmon_host = 10.0.0.1")}, InvalidArgument),
        ({"image": "web@then"}, InvalidArgument),
    ],
)
def test_what_does_not_fit_is_refused(
    lab: CephLab, changes: dict[str, Any], error: type[StorageError]
) -> None:
    """Each way of not getting in is an error of its own, which shows no key; no server is left."""
    before = _servers()
    with pytest.raises(error) as caught:
        open_source(_image(lab, **changes), timeout=10)
    assert "AQBaEQ" not in f"{caught.value!r} {caught.value.detail}"
    assert _servers() == before


def test_a_key_of_another_image_is_refused(lab: CephLab) -> None:
    """A key opens the image that it is for; one of the same name made later is another image."""
    number = lab.rbd("info", "--format", "json", "other").partition('"id":"')[2].partition('"')[0]
    own = [f"rbd_{kind}.{number}" for kind in ("header", "object_map", "data")]
    names = ["rbd_info", "rbd_id.other", *own]
    caps = ", ".join(f"allow rwx pool={POOL} object_prefix {name}" for name in names)
    other = {**_user(lab, "other", caps), "image": "other", "size": MIB}
    with open_sink(_image(lab, **other), timeout=20) as sink:
        sink.write(0, b"o")
    with pytest.raises(PermissionDenied):
        open_sink(_image(lab, **{**other, "image": IMAGE}), timeout=20)
    lab.rbd("rm", "--no-progress", "other")
    lab.rbd("create", "--size", "1M", "other")
    with pytest.raises(PermissionDenied):
        open_sink(_image(lab, **other), timeout=20)


def test_nobody_listens(lab: CephLab) -> None:
    """A cluster that cannot be reached is unavailable, and in time."""
    began = time.monotonic()
    with pytest.raises(Unavailable):
        open_source(_image(lab, monitors=f"v2:127.0.0.1:{free_port()}/0"), timeout=3)
    assert time.monotonic() - began < 3 + 20


def test_the_key_is_in_no_command_line(lab: CephLab) -> None:
    """While an image is open, no process of the machine has the key among its arguments or variables."""
    with open_source(_image(lab), timeout=20):
        for process in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    text = (process / name).read_bytes()
                except OSError:
                    continue  # it ended
                assert lab.key.encode() not in text


def _servers() -> set[int]:
    """Return our qemu-nbd processes."""
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {int(pid) for path in children for pid in path.read_text().split() if _is_nbd(pid)}


def _is_nbd(pid: str) -> bool:
    return Path(f"/proc/{pid}/comm").read_text().strip() == "qemu-nbd"
