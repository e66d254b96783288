"""Keys and cut-off clients, with hosts that do as they please."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bollard.core.dataplane import BlockSink, open_sink, open_source
from bollard.core.spi import (
    Conflict,
    InUse,
    PermissionDenied,
    RbdLocation,
    StorageError,
    TemplateSpec,
    Unauthenticated,
)
from bollard.drivers.primary.rbd import RbdDriver
from bollard.drivers.primary.rbd.names import seed_id
from ceph_lab import CephLab
from kvm_lab.polling import until
from primary_rig import COPY, DB, DEBIAN, MIB, S1, WEB, call
from rbd_rig import host, read, spec, what_is_kept

pytestmark = pytest.mark.real

A, B = host("host-a"), host("host-b")
_BLOCK = 4096
# A host that has a key and uses it for whatever it can think of; prints what it was allowed.
_HOSTILE = """
import json, sys
import rados, rbd
told = json.loads(sys.stdin.readline())
cluster = rados.Rados(conf={"mon_host": told["monitors"], "key": told["key"]}, name="client." + told["user"])
cluster.connect()
io = cluster.open_ioctx("rbd")
allowed = []
def tried(name, act):
    try:
        act()
    except (rados.Error, rbd.Error):
        return
    allowed.append(name)
tried("own", lambda: rbd.Image(io, told["image"]).write(b"h" * 512, 0))
tried("list images", lambda: rbd.RBD().list(io))
tried("open another", lambda: rbd.Image(io, told["other"]))
tried("read another's bytes", lambda: io.read(told["data"]))
tried("write another's bytes", lambda: io.write(told["data"], b"h"))
tried("remove another's bytes", lambda: io.remove_object(told["data"]))
tried("read the records", lambda: io.stat("bollard.bollard"))
tried("make an object", lambda: io.write("new", b"h"))
tried("make an image", lambda: rbd.RBD().create(io, "new", 1 << 20))
tried("remove its image", lambda: rbd.RBD().remove(io, told["image"]))
command = json.dumps({"prefix": "auth get-or-create", "entity": "client.mine"})
if cluster.mon_command(command, b"")[0] == 0:
    allowed.append("make a user")
print(json.dumps(allowed))
"""


@pytest.fixture
def web(lab: CephLab, driver: RbdDriver) -> Iterator[RbdDriver]:
    """A pool with the volumes web and db; afterwards nothing is left."""
    for volume in (WEB, DB):
        driver.create_volume(spec(volume), call())
    yield driver
    for volume in (WEB, DB):
        for held in driver.list_grants(volume, call()):
            driver.revoke(volume, held.host, call())
        driver.delete_volume(volume, call())
    assert what_is_kept(lab) == set()


def _used_by_a_hostile_host(location: RbdLocation, other: str, data: str) -> set[str]:
    told = {
        "monitors": location.monitors,
        "user": location.user,
        "key": location.key.reveal(),
        "image": location.image,
        "other": other,
        "data": data,
    }
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", _HOSTILE],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_a_key_opens_one_image_only(web: RbdDriver) -> None:
    """A host with bindings of its own and a key reaches its image, and nothing else in the pool."""
    with open_sink(web.grant(DB, B, call()), timeout=20) as sink:
        sink.write(0, b"secret")
        sink.flush()
    other = web.get_volume(DB, call())
    data = f"rbd_data.{other.identity}.{0:016x}"
    location = web.grant(WEB, A, call())
    assert _used_by_a_hostile_host(location, other.private["image"], data) == {"own"}
    web.revoke(WEB, A.id, call())
    reader = web.grant(WEB, A, call(), read_only=True)
    assert _used_by_a_hostile_host(reader, other.private["image"], data) == set()


class _Writer:
    """A host that writes ever higher numbers into each block of a volume until it is refused."""

    def __init__(self, sink: BlockSink) -> None:
        self._sink = sink
        self.generation = 0
        self.refused: StorageError | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while self.generation < 1 << 20:
                self.generation += 1
                block = self.generation.to_bytes(8, "big") * (_BLOCK // 8)
                self._sink.write((self.generation % 64) * MIB // 4, block)
        except StorageError as error:
            self.refused = error

    def join(self) -> None:
        """Wait until it was refused."""
        self._thread.join(60)
        assert not self._thread.is_alive()


def _blocks(driver: RbdDriver) -> bytes:
    data = bytearray(64 * _BLOCK)
    with open_source(driver.grant(WEB, host("reader"), call(), read_only=True), timeout=20) as source:
        for block in range(64):
            at = block * _BLOCK
            source.read_into(block * MIB // 4, memoryview(data)[at : at + _BLOCK])
    driver.revoke(WEB, host("reader").id, call())
    return bytes(data)


def test_nothing_lands_after_a_revoke(web: RbdDriver) -> None:
    """A writer that does not stop is refused; what was there at the end of revoke stays for the next."""
    for _ in range(3):
        sink = open_sink(web.grant(WEB, A, call()), timeout=20)
        writer = _Writer(sink)
        until(lambda writer=writer: writer.generation > 20, 30, "writes")  # type: ignore[misc] # a default binds it
        web.revoke(WEB, A.id, call())
        then = _blocks(web)
        writer.join()
        assert writer.refused is not None
        sink.close()
        assert _blocks(web) == then
    with open_sink(web.grant(WEB, B, call()), timeout=20) as taken_over:
        taken_over.write(0, b"b" * _BLOCK)
        taken_over.flush()
    web.revoke(WEB, B.id, call())
    assert read(web, WEB) == b"b" * _BLOCK


def test_a_write_that_a_frozen_host_has_queued_never_lands(web: RbdDriver) -> None:
    """A host that stands still with a write under way is cut off; it goes on when another one has written."""
    sink = open_sink(web.grant(WEB, A, call()), timeout=60)
    sink.write(0, b"a" * _BLOCK)
    sink.flush()
    [client] = _clients()
    os.kill(client, signal.SIGSTOP)
    landed: list[bool] = []
    queued = threading.Thread(target=_write_late, args=(sink, landed))
    try:
        queued.start()
        web.revoke(WEB, A.id, call())
        with open_sink(web.grant(WEB, B, call()), timeout=20) as taken_over:
            taken_over.write(0, b"b" * _BLOCK)
            taken_over.flush()
        web.revoke(WEB, B.id, call())
        web.grant(WEB, A, call())  # with another key; the old client stays shut out
    finally:
        os.kill(client, signal.SIGCONT)
    # Mostly ESHUTDOWN at once. Beside others it was once not told within 60 s; then the sink's time is over.
    queued.join(120)
    assert landed == [False]
    sink.close()
    assert read(web, WEB) == b"b" * _BLOCK


def _write_late(sink: BlockSink, landed: list[bool]) -> None:
    try:
        sink.write(0, b"late" * (_BLOCK // 4))
        sink.flush()
        landed.append(True)
    except StorageError:
        landed.append(False)


def _clients() -> list[int]:
    """Return our qemu-nbd processes."""
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    pids = [int(pid) for path in children for pid in path.read_text().split()]
    return [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text().strip() == "qemu-nbd"]


def test_an_old_key_opens_nothing(web: RbdDriver) -> None:
    """After a revoke the key is refused, also when the host is granted the volume again, with another key."""
    old = web.grant(WEB, A, call())
    web.revoke(WEB, A.id, call())
    new = web.grant(WEB, A, call())
    with pytest.raises(Unauthenticated):
        open_source(old, timeout=20)
    with open_sink(new, timeout=20) as sink:
        sink.write(0, b"n")


def test_a_revoke_is_of_one_grant(lab: CephLab, web: RbdDriver) -> None:
    """Other volumes of the host, and other hosts of the volume, keep what they have open."""
    with (
        open_sink(web.grant(WEB, A, call()), timeout=20),
        open_sink(web.grant(DB, A, call()), timeout=20) as other,
        open_source(web.grant(WEB, B, call(), read_only=True), timeout=20) as reader,
    ):
        web.revoke(WEB, A.id, call())
        other.write(0, b"o" * _BLOCK)
        other.flush()
        reader.read_into(0, memoryview(bytearray(_BLOCK)))
        assert len(lab.ceph("osd", "blocklist", "ls")) >= 1


def test_what_a_dead_host_had_open_is_free_after_the_revoke(web: RbdDriver) -> None:
    """A host that was killed with the image open does not keep it from being deleted or written."""
    sink = open_sink(web.grant(WEB, A, call()), timeout=20)
    sink.write(0, b"a" * _BLOCK)
    sink.flush()
    web.revoke(WEB, A.id, call())
    sink.close()
    web.create_snapshot(WEB, S1, call())  # needs the exclusive lock that the host had
    web.delete_snapshot(S1, call())


def test_one_writes_at_a_time(web: RbdDriver) -> None:
    """A second writer is in use, the other mode a conflict; a reader beside the writer is fine."""
    web.grant(WEB, A, call())
    with pytest.raises(InUse):
        web.grant(WEB, B, call())
    with pytest.raises(Conflict):
        web.grant(WEB, A, call(), read_only=True)
    assert web.grant(WEB, B, call(), read_only=True).read_only
    assert web.grant(WEB, A, call()) == web.grant(WEB, A, call())


def test_a_clones_host_cannot_read_its_source(web: RbdDriver) -> None:
    """A granted clone needs nothing of its source, which its key does not open."""
    web.clone_volume(WEB, spec(COPY), call())
    location = web.grant(COPY, A, call())
    source = web.get_volume(WEB, call())
    data = f"rbd_data.{source.identity}.{0:016x}"
    assert _used_by_a_hostile_host(location, source.private["image"], data) == {"own"}
    web.revoke(COPY, A.id, call())
    web.delete_volume(COPY, call())


def test_a_volume_of_a_template_shares_its_bytes_and_cannot_change_them(lab: CephLab, web: RbdDriver) -> None:
    """A volume of a template stays a clone when it is granted; its host can read the seed, not write it."""
    web.prepare_template(TemplateSpec(id=DEBIAN, size=16 * MIB), call())
    seed = seed_id(DEBIAN)
    with open_sink(web.grant(seed, A, call()), timeout=20) as sink:
        sink.write(0, b"t" * _BLOCK)
        sink.flush()
    web.revoke(seed, A.id, call())
    web.seal_template(DEBIAN, call())
    with pytest.raises(PermissionDenied):
        web.grant(seed, A, call())
    made = web.create_volume_from_template(DEBIAN, spec(COPY), call())
    assert read(web, COPY) == b"t" * _BLOCK
    assert "parent:" in lab.rbd("info", made.private["image"])
    number = web.get_volume(seed, call()).identity
    location = web.grant(COPY, A, call())
    used = _used_by_a_hostile_host(location, made.private["image"] + "-", f"rbd_data.{number}.{0:016x}")
    assert used == {"own", "read another's bytes"}
    web.revoke(COPY, A.id, call())
    web.delete_volume(COPY, call())
    web.evict_template(DEBIAN, call())
