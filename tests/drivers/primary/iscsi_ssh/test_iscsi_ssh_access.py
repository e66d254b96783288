"""Who may use a LUN, and that nobody else does: on a real tgtd."""

from __future__ import annotations

import dataclasses
import itertools
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bollard.core.dataplane import open_sink, open_source
from bollard.core.spi import (
    Conflict,
    InUse,
    InvalidArgument,
    IscsiLocation,
    NotFound,
    StorageError,
    Unauthenticated,
    Volume,
)
from bollard.drivers.primary.iscsi_ssh import IscsiSshDriver
from bollard.transfer_objects.secret import Secret
from iscsi_array import IscsiArray
from iscsi_rig import SECRET, host, opened, read, spec, what_is_kept
from kvm_lab.polling import until
from primary_rig import DB, MIB, WEB, call

pytestmark = pytest.mark.real(root=True)

FOREIGN = "iqn.2026-01.com.example:theirs"


@pytest.fixture
def web(array: IscsiArray, driver: IscsiSshDriver) -> Iterator[Volume]:
    """A volume; at the end it has no grant, and nothing of it is left."""
    before = what_is_kept(array)
    yield driver.create_volume(spec(WEB), call())
    for held in driver.list_grants(WEB, call()):
        driver.revoke(WEB, held.host, call())
    driver.delete_volume(WEB, call())
    assert what_is_kept(array) == before


def _size(location: IscsiLocation) -> int:
    with open_source(location, timeout=5) as source:
        return source.size


def test_each_host_gets_in_as_itself_only(driver: IscsiSshDriver, web: Volume) -> None:
    """Neither another's password under the own name, nor another's name, opens a LUN that both may read."""
    first, second = host("h-1", "secret-of-host-1"), host("h-2", "secret-of-host-2")
    one = driver.grant(WEB, first, call(), read_only=True)
    two = driver.grant(WEB, second, call(), read_only=True)
    assert _size(one) == _size(two) == web.size
    with pytest.raises(Unauthenticated):
        _size(dataclasses.replace(one, chap_user=two.chap_user, chap_secret=two.chap_secret))
    with pytest.raises(NotFound):
        _size(dataclasses.replace(one, initiator=two.initiator))
    with pytest.raises(NotFound):
        _size(dataclasses.replace(one, target=two.target))
    with pytest.raises(Unauthenticated):
        _size(dataclasses.replace(one, chap_secret=Secret("guessed-secret")))


def test_a_second_writer_is_refused(driver: IscsiSshDriver, web: Volume) -> None:
    """One host writes; another may read beside it and cannot write, whatever it tries."""
    writer, reader = host("h-1"), host("h-2")
    location = driver.grant(WEB, writer, call())
    with pytest.raises(InUse):
        driver.grant(WEB, reader, call())
    beside = driver.grant(WEB, reader, call(), read_only=True)
    with pytest.raises(StorageError):
        open_sink(dataclasses.replace(beside, read_only=False), timeout=5)
    with pytest.raises(Conflict):
        driver.grant(WEB, reader, call())
    with open_sink(location, timeout=5) as sink:
        sink.write(0, b"web" * 1024 + b"!" * 1024)
        sink.flush()
    with open_source(beside, timeout=5) as source:
        seen = bytearray(3)
        source.read_into(0, memoryview(seen))
    assert seen == b"web"
    assert driver.get_volume(web.id, call()).identity == web.identity


def test_to_grant_again_disturbs_nobody(array: IscsiArray, driver: IscsiSshDriver, web: Volume) -> None:
    """A repeated grant gives the same location, and the session that is open goes on."""
    location = driver.grant(WEB, host(), call())
    with open_sink(location, timeout=5) as sink:
        assert driver.grant(WEB, host(), call()) == location
        assert _sessions(array) == 1
        sink.write(0, b"x" * 4096)
        sink.flush()
    assert len(driver.list_grants(web.id, call())) == 1


def _sessions(array: IscsiArray) -> int:
    shown = array.tgtadm("--op", "show", "--mode", "target")
    return shown.count("Initiator:")


def test_a_grant_brings_a_new_secret(driver: IscsiSshDriver, web: Volume) -> None:
    """A host that comes with another secret gets in with it, and no longer with the former one."""
    former = driver.grant(WEB, host(), call())
    assert _size(driver.grant(WEB, host(secret="another-secret-now"), call())) == web.size
    with pytest.raises(Unauthenticated):
        _size(former)


def test_a_host_with_a_new_name_loses_the_old_one(driver: IscsiSshDriver, web: Volume) -> None:
    """A host that comes with another IQN gets in with it, and no longer with the former one."""
    former = driver.grant(WEB, host(), call())
    renamed = dataclasses.replace(host(), iqn="iqn.2026-01.org.example:renamed")
    assert _size(driver.grant(WEB, renamed, call())) == web.size
    with pytest.raises(NotFound):
        _size(former)


def test_a_writer_that_does_not_stop_is_cut_off(driver: IscsiSshDriver, web: Volume) -> None:
    """Once revoke has returned no generation of the writer lands, however long it goes on trying."""
    location = driver.grant(WEB, host(), call())
    data, stop, written = Path(web.private["path"]), threading.Event(), [0]

    def write() -> None:
        try:
            with open_sink(location, timeout=2) as sink:
                for generation in itertools.count(1):
                    sink.write(0, struct.pack(">Q", generation) * 512)
                    sink.flush()
                    written[0] = generation
        except StorageError:
            stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    until(lambda: written[0] > 20, 60, "the writer to be at work")
    driver.revoke(WEB, host().id, call())
    last = data.read_bytes()[:4096]
    next_host = driver.grant(WEB, host("h-2"), call())  # what the old writer repeats must not land in it
    assert stop.wait(10)
    writer.join(10)
    with open_source(next_host, timeout=5) as source:
        seen = bytearray(4096)
        source.read_into(0, memoryview(seen))
    assert bytes(seen) == last == data.read_bytes()[:4096]
    assert struct.unpack_from(">Q", last)[0] >= written[0]


def test_chap_is_rotated_while_a_session_is_open(driver: IscsiSshDriver, web: Volume) -> None:
    """The new secret opens all LUNs of the host, the old one none, and the open session goes on."""
    driver.create_volume(spec(DB), call())
    old = [driver.grant(volume, host(), call()) for volume in (WEB, DB)]
    fresh = host(secret="another-secret-now")
    with open_sink(old[0], timeout=5) as sink:
        driver.rotate_chap(fresh, call())
        sink.write(0, b"y" * 4096)
        sink.flush()
    for location in old:
        with pytest.raises(Unauthenticated):
            _size(location)
        assert _size(dataclasses.replace(location, chap_secret=fresh.chap_secret)) == web.size
    driver.revoke(DB, host().id, call())
    driver.delete_volume(DB, call())


def test_a_restarted_tgtd_offers_the_grants_again(
    array: IscsiArray, driver: IscsiSshDriver, web: Volume
) -> None:
    """Tgtd forgets everything when it ends; the next open brings grants and secrets back from the pool."""
    location = driver.grant(WEB, host(), call())
    array.stop_tgtd()
    array.start_tgtd()
    with pytest.raises(StorageError):
        _size(location)
    with opened(array) as other:
        assert _size(location) == web.size
        assert [grant.host for grant in other.list_grants(WEB, call())] == [host().id]


def test_what_others_have_on_the_array_is_not_touched(
    array: IscsiArray, driver: IscsiSshDriver, web: Volume
) -> None:
    """Targets, accounts, files and volumes of others stay, and a CHAP user of theirs is refused to us."""
    theirs = array.pool / "theirs.raw"
    theirs.write_bytes(b"theirs" * 1000)
    array.tgtadm("--op", "new", "--mode", "target", "--tid", "1", "-T", FOREIGN)
    array.tgtadm("--op", "new", "--mode", "account", "--user", "theirs", "--password", "their-password")
    with opened(array, owner="other") as other:
        other.create_volume(spec(WEB), call())
        driver.grant(WEB, host(), call())
        with pytest.raises(Conflict):
            driver.grant(WEB, dataclasses.replace(host("h-2"), chap_user="theirs"), call(), read_only=True)
        with pytest.raises(Conflict):
            other.grant(WEB, host(), call())  # its CHAP user is the first owner's
        driver.revoke(WEB, host().id, call())
        assert [found.id for found in other.list_volumes(call()).items] == [WEB]
        assert read(other, WEB) == bytes(4096)
        assert other.get_volume(WEB, call()).identity != web.identity
        other.delete_volume(WEB, call())
    assert FOREIGN in array.tgtadm("--op", "show", "--mode", "target")
    assert "theirs" in array.tgtadm("--op", "show", "--mode", "account")
    assert theirs.read_bytes() == b"theirs" * 1000
    array.tgtadm("--op", "delete", "--mode", "target", "--tid", "1")
    array.tgtadm("--op", "delete", "--mode", "account", "--user", "theirs")
    theirs.unlink()


@pytest.mark.parametrize(
    "change",
    [
        {"iqn": "no iqn"},
        {"iqn": "iqn.2026-01.org.example:a,b"},
        {"chap_user": "a,password=b"},
        {"chap_user": ""},
        {"chap_secret": Secret("short")},
        {"chap_secret": Secret("with,comma-in-it")},
        {"chap_secret": None},
    ],
)
def test_a_host_that_tgt_cannot_take_is_refused(
    driver: IscsiSshDriver, web: Volume, change: dict[str, object]
) -> None:
    """What would be another parameter for tgtd is refused before anything is done; no secret is shown."""
    with pytest.raises(InvalidArgument) as caught:
        driver.grant(WEB, dataclasses.replace(host(), **change), call())
    assert "comma-in-it" not in repr(caught.value)
    assert not driver.list_grants(web.id, call())


def test_no_secret_in_processes_logs_or_open_files(
    array: IscsiArray, driver: IscsiSshDriver, web: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    """A CHAP secret is in no process's arguments or variables, in no log, in no file that others can read."""
    caplog.set_level("DEBUG")
    stop, seen = threading.Event(), set[str]()

    def look() -> None:
        while not stop.is_set():
            seen.update(_processes_that_know(SECRET.encode()))

    looking = threading.Thread(target=look)
    looking.start()
    for _ in range(5):
        with open_source(driver.grant(WEB, host(), call()), timeout=5):
            driver.rotate_chap(host(), call())
        driver.revoke(WEB, host().id, call())
    stop.set()
    looking.join(10)
    assert not seen
    assert SECRET not in caplog.text
    assert not [log for log in array.pool.parent.glob("*.log") if SECRET in log.read_text(errors="replace")]
    driver.grant(web.id, host(), call())
    knowing = [path for path in array.pool.rglob("*") if path.is_file() and SECRET in _text(path)]
    assert len(knowing) == 1
    assert knowing[0].stat().st_mode & 0o077 == 0


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.stat().st_size < MIB else ""


def _processes_that_know(secret: bytes) -> set[str]:
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                if secret in (process / name).read_bytes():
                    found.add(f"{process.name} {name}")
            except OSError:
                continue  # it ended
    return found
