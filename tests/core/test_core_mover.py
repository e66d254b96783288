"""Reading and writing through the pool: undone in reverse order, whatever happens, and never for others."""

from __future__ import annotations

import logging
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from bollard.core import access
from bollard.core.access import Mover
from bollard.core.dataplane import open_source
from bollard.core.journal import Journal
from bollard.core.mover import mover_host, state_directory
from bollard.core.spi import (
    Conflict,
    Host,
    Internal,
    InUse,
    NotFound,
    Unsupported,
    VolumeSpec,
)
from bollard.transfer_objects.ids import HostId, SnapshotId, VolumeId

from .ram_driver import RamBare, RamDirect, RamHost, RamManaged

V1, S1 = VolumeId("v-1"), SnapshotId("s-1")
SIZE = 4096
UNDO = {"revoke", "delete_volume"}


class Desk:
    """A pool with a volume and a snapshot whose bytes differ, and a mover on this machine."""

    def __init__(self, make_pool, directory, cls=RamManaged) -> None:
        with make_pool(RamManaged) as first:
            first.volumes.create(VolumeSpec(id=V1, size=SIZE))
            raw = first.driver.path("v", V1, "raw")
            raw.write_bytes(b"old!" * 1024)
            first.snapshots.create(V1, S1)
            raw.write_bytes(b"new!" * 1024)
        self.pool = make_pool(cls)
        self.driver = self.pool.driver
        self.driver.calls.clear()
        self.directory = directory / "journal"
        self.mover = Mover(host=Host(id=HostId("mover"), iqn="iqn.x"), journal=Journal(self.directory))

    def leftovers(self) -> list[str]:
        """What does not belong on the array."""
        return sorted(p.name for p in self.driver.dir.iterdir() if p.stem not in ("v-v-1", "s-s-1"))

    def entries(self) -> list[str]:
        """What the journal holds."""
        return sorted(p.name for p in self.directory.glob("*.intent"))

    def clean(self) -> bool:
        """Tell whether neither has anything left."""
        return not self.leftovers() and not self.entries()


@pytest.fixture
def desk(make_pool, tmp_path):
    """A desk over a managed pool."""
    return Desk(make_pool, tmp_path)


def read(source) -> bytes:
    """The first bytes."""
    buffer = bytearray(4)
    source.read_into(0, memoryview(buffer))
    return bytes(buffer)


# -- the good way -------------------------------------------------------------------------------------


def test_snapshot_is_read_through_a_temporary_clone(desk):
    """The clone holds the snapshot's bytes, is granted read-only to us alone, and goes in reverse order."""
    with desk.mover.reading_snapshot(desk.pool, S1) as source:
        assert read(source) == b"old!"
        [clone] = [v.id for v in desk.pool.volumes.list() if v.id != V1]
        [grant] = desk.pool.volumes.grants(clone)
        assert (grant.host, grant.read_only) == ("mover", True)
        assert len(desk.entries()) == 1

    assert desk.clean()
    assert [c for c in desk.driver.calls if c in {"create_volume_from_snapshot", "grant", *UNDO}] == [
        "create_volume_from_snapshot",
        "grant",
        "revoke",
        "delete_volume",
    ]


def test_journal_is_written_before_the_first_object(desk):
    """When the driver is asked for the clone, the entry is already there."""
    seen = []
    desk.driver.fail("create_volume_from_snapshot", lambda: seen.append(desk.entries()))

    with desk.mover.reading_snapshot(desk.pool, S1):
        assert seen == [desk.entries()]
        assert len(desk.entries()) == 1


@pytest.mark.parametrize("cls", [RamDirect, RamHost])
def test_readable_snapshot_needs_no_clone(make_pool, tmp_path, cls):
    """Where a snapshot can be read as it stands, nothing temporary is made, and nothing journalled."""
    desk = Desk(make_pool, tmp_path, cls)

    with desk.mover.reading_snapshot(desk.pool, S1) as source:
        assert read(source) == b"old!"
        assert desk.clean()
    assert desk.driver.calls == ["locate_snapshot"]


def test_pool_that_can_do_neither_refuses(make_pool, tmp_path):
    """A pool without clones and direct reading is `Unsupported`, and nothing is left."""
    desk = Desk(make_pool, tmp_path, RamBare)

    with pytest.raises(Unsupported), desk.mover.reading_snapshot(desk.pool, S1):
        pass
    assert desk.clean()


def test_volumes_are_read_and_written_under_a_grant(desk):
    """Reading and writing grant, open, close and revoke; what was written is there."""
    with desk.mover.reading_volume(desk.pool, V1) as source:
        assert read(source) == b"new!"
        assert [g.read_only for g in desk.pool.volumes.grants(V1)] == [True]
    with desk.mover.writing_volume(desk.pool, V1) as sink:
        sink.write(0, b"more")
        assert [g.read_only for g in desk.pool.volumes.grants(V1)] == [False]

    assert desk.driver.path("v", V1, "raw").read_bytes()[:8] == b"morenew!"
    assert desk.clean()


def test_host_pools_are_reached_by_path(make_pool, tmp_path):
    """A host pool needs no grant; the location is the file."""
    desk = Desk(make_pool, tmp_path, RamHost)

    with desk.mover.writing_volume(desk.pool, V1) as sink:
        sink.write(0, b"more")
    with desk.mover.reading_volume(desk.pool, V1) as source:
        assert read(source) == b"more"
    assert desk.driver.calls == ["locate_volume"] * 2
    assert desk.clean()


def test_filled_volume_stays_when_it_is_full(desk):
    """A restore that ends well keeps its volume; one that fails takes it away again."""
    whole, half = VolumeId("v-2"), VolumeId("v-3")

    def fill(volume: VolumeId, data: Iterator[bytes]) -> None:
        with desk.mover.filling_volume(desk.pool, volume):
            desk.pool.volumes.create(VolumeSpec(id=volume, size=SIZE))
            with desk.mover.writing_volume(desk.pool, volume) as sink:
                for piece in data:
                    sink.write(0, piece)

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ZeroDivisionError

    fill(whole, iter([b"whole"]))
    with pytest.raises(ZeroDivisionError):
        fill(half, broken())

    assert [v.id for v in desk.pool.volumes.list()] == [V1, whole]
    assert desk.entries() == []
    assert desk.pool.volumes.grants(half) == []


def test_writer_inside_of_a_filled_volume_revokes(desk):
    """The entry of the filling does not count as another user of the grant."""
    with desk.mover.filling_volume(desk.pool, V1):
        with desk.mover.writing_volume(desk.pool, V1):
            pass
        assert desk.pool.volumes.grants(V1) == []


# -- failures -----------------------------------------------------------------------------------------

STEPS = ["create_volume_from_snapshot", "grant"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_failing_step_is_undone(desk, step, after):
    """Whichever step fails, before or after it was applied, nothing stays and its error is the one told."""
    desk.driver.fail(step, Conflict("broken"), after=after)

    with pytest.raises(Conflict, match="broken"), desk.mover.reading_snapshot(desk.pool, S1):
        pytest.fail("opened")
    assert desk.clean()


def test_location_that_cannot_be_opened_is_undone(desk):
    """The driver granted, but the file is not there: the grant and the clone go all the same."""

    def vanish():
        [raw] = desk.driver.dir.glob("v-tmp-*.raw")
        raw.unlink()

    desk.driver.fail("grant", vanish, after=True)
    with pytest.raises(NotFound), desk.mover.reading_snapshot(desk.pool, S1):
        pytest.fail("opened")
    assert desk.clean()


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt(), NotFound("archive gone")])
def test_error_of_the_body_passes_and_everything_is_undone(desk, error):
    """The body's error reaches the caller as it is, after the clean-up."""
    with pytest.raises(type(error)) as caught, desk.mover.reading_snapshot(desk.pool, S1):
        raise error
    assert caught.value is error
    assert desk.clean()


@pytest.mark.parametrize("step", ["revoke", "delete_volume"])
@pytest.mark.parametrize("fault", [InUse("still used"), RuntimeError("bug")])
def test_failing_undo_keeps_the_result_and_the_entry(desk, caplog, step, fault):
    """A good result stays good; the entry stays for the sweep, which finishes the work."""
    desk.driver.fail(step, fault)

    with caplog.at_level(logging.WARNING), desk.mover.reading_snapshot(desk.pool, S1) as source:
        result = read(source)

    assert result == b"old!"
    assert len(desk.entries()) == 1
    assert "stays until the next sweep" in caplog.text
    [line] = desk.mover.sweep_pool(desk.pool)
    assert line.startswith("temp-clone tmp-")
    assert desk.clean()


@pytest.mark.parametrize("step", ["revoke", "delete_volume"])
def test_failing_undo_does_not_hide_the_bodys_error(desk, step):
    """Body and undo both fail: the body's error is told, the entry stays."""
    desk.driver.fail(step, InUse("still used"))

    with pytest.raises(ZeroDivisionError), desk.mover.reading_snapshot(desk.pool, S1):
        raise ZeroDivisionError
    assert len(desk.entries()) == 1


def test_failing_revoke_does_not_keep_the_delete_from_being_tried(desk):
    """The undo goes on after a failure: less is left for the sweep."""
    desk.driver.fail("revoke", RuntimeError("bug"))
    with desk.mover.reading_snapshot(desk.pool, S1):
        pass

    assert "delete_volume" in desk.driver.calls


def test_source_that_fails_to_close_does_not_hide_the_result(desk, caplog, monkeypatch):
    """An OSError of the data plane's close is logged like any failing undo, and the rest is undone."""

    @contextmanager
    def failing(location):
        with open_source(location) as source:
            yield source
        raise OSError("close failed")

    monkeypatch.setattr(access, "open_source", failing)
    with caplog.at_level(logging.WARNING), desk.mover.reading_snapshot(desk.pool, S1) as source:
        assert read(source) == b"old!"

    assert "close failed" in caplog.text
    assert desk.leftovers() == []


# -- others on this machine ---------------------------------------------------------------------------


def test_first_reader_that_ends_does_not_cut_off_the_second(desk):
    """Two readers of one volume are one host to the array: the last one revokes."""
    with desk.mover.reading_volume(desk.pool, V1):
        with desk.mover.reading_volume(desk.pool, V1):
            pass
        assert len(desk.pool.volumes.grants(V1)) == 1
    assert desk.clean()


def test_refused_reader_does_not_cut_off_the_writer(desk):
    """A reader that gets `Conflict` because a writer has the volume leaves the writer's grant alone."""
    with desk.mover.writing_volume(desk.pool, V1) as sink:
        with pytest.raises(Conflict), desk.mover.reading_volume(desk.pool, V1):
            pytest.fail("opened")
        assert [g.read_only for g in desk.pool.volumes.grants(V1)] == [False]
        sink.write(0, b"more")
    assert desk.clean()


def test_many_readers_leave_nothing(desk):
    """Readers in threads that come and go keep their access while they need it, and leave none behind."""

    def work(_: int) -> None:
        for _ in range(5):
            with desk.mover.reading_volume(desk.pool, V1) as source:
                assert read(source) == b"new!"
                assert len(desk.pool.volumes.grants(V1)) == 1

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert desk.clean()


DYING = """
import os, signal, sys
from pathlib import Path
from bollard.core.journal import Journal
kind, pool, volume, directory = sys.argv[1:]
Journal(Path(directory)).begin(kind, pool=pool, volume=volume, host="mover")
if sys.stdin.readline() == "":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def died_with(desk, kind: str, volume: str, pool: str | None = None) -> None:
    """Leave the entry of a process that was killed with -9."""
    arguments = [kind, pool or desk.pool.info.identity, volume, str(desk.directory)]
    done = subprocess.run([sys.executable, "-c", DYING, *arguments], stdin=subprocess.DEVNULL, timeout=30)
    assert done.returncode == -signal.SIGKILL


def test_sweep_revokes_for_the_dead(desk):
    """A killed reader's grant is taken away, its volume stays."""
    desk.pool.volumes.grant(V1, desk.mover.host)
    died_with(desk, "grant", V1)

    assert desk.mover.sweep_pool(desk.pool, dry_run=True) == ["grant v-1"]
    assert len(desk.pool.volumes.grants(V1)) == 1
    assert desk.mover.sweep_pool(desk.pool) == ["grant v-1"]
    assert desk.mover.sweep_pool(desk.pool) == []
    assert desk.clean()


def test_sweep_removes_clone_and_half_filled_volume_of_the_dead(desk):
    """A temporary clone and a volume whose restore died are deleted, other volumes are not."""
    for kind, volume in (("temp-clone", "tmp-1"), ("fill", "v-2")):
        desk.pool.volumes.create(VolumeSpec(id=VolumeId(volume), size=SIZE))
        desk.pool.volumes.grant(VolumeId(volume), desk.mover.host)
        died_with(desk, kind, volume)

    assert sorted(desk.mover.sweep_pool(desk.pool)) == ["fill v-2", "temp-clone tmp-1"]
    assert desk.clean()


def test_sweep_does_not_cut_off_a_living_user(desk):
    """While somebody living uses the same volume, the dead one's entry waits."""
    died_with(desk, "grant", V1)
    with desk.mover.reading_volume(desk.pool, V1):
        assert desk.mover.sweep_pool(desk.pool, dry_run=True) == []
        assert desk.mover.sweep_pool(desk.pool) == []
        assert len(desk.pool.volumes.grants(V1)) == 1

    assert desk.mover.sweep_pool(desk.pool) == ["grant v-1"]
    assert desk.clean()


def test_sweep_does_not_delete_what_is_being_filled_again(desk):
    """The restore died and runs again: the first one's entry must not take the volume away."""
    died_with(desk, "fill", V1)
    with desk.mover.filling_volume(desk.pool, V1):
        assert desk.mover.sweep_pool(desk.pool) == []
    assert "delete_volume" not in desk.driver.calls


def test_sweep_leaves_other_pools_and_kinds_alone(desk):
    """Entries of another pool, or of kinds that this version does not know, are nobody's business here."""
    died_with(desk, "grant", V1, pool="another")
    died_with(desk, "frobnicate", V1)

    assert desk.mover.sweep_pool(desk.pool) == []
    assert len(desk.entries()) == 2
    assert not UNDO & set(desk.driver.calls)


def test_sweep_that_fails_says_so_and_goes_on(desk, caplog):
    """What cannot be undone is not claimed, stays for the next sweep, and does not stop this one."""
    died_with(desk, "grant", "v-8")
    died_with(desk, "grant", "v-9")
    desk.driver.fail("revoke", NotFound("array says no"))

    with caplog.at_level(logging.WARNING):
        assert len(desk.mover.sweep_pool(desk.pool)) == 1
    assert "array says no" in caplog.text
    assert len(desk.mover.sweep_pool(desk.pool)) == 1
    assert desk.clean()


# -- this machine's identity --------------------------------------------------------------------------


def test_identity_is_made_once_and_kept(tmp_path):
    """The second call finds the first one's identity: arrays tie grants to it."""
    first = mover_host(tmp_path / "state")
    again = mover_host(tmp_path / "state")

    assert first == again
    assert first.id.startswith("mover-")
    assert first.iqn.endswith(first.id)
    assert first.chap_secret is not None
    assert 12 <= len(first.chap_secret.reveal()) <= 16
    assert mover_host(tmp_path / "other") != first


def test_identity_is_for_the_owner_only(tmp_path):
    """The file holds a CHAP secret, so nobody else may read it, whatever the umask."""
    old = os.umask(0)
    try:
        mover_host(tmp_path / "state")
    finally:
        os.umask(old)

    assert stat.S_IMODE((tmp_path / "state" / "mover.json").stat().st_mode) == 0o600
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["mover.json"]


def test_identity_made_by_many_at_once_is_one(tmp_path):
    """Of several that start at the same moment the first one's identity is everybody's."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: mover_host(tmp_path / "state"), range(8)))

    assert len(set(found)) == 1


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"id": "x"}', '{"id": "m", "iqn": "i", "chap_secret": 5}']
)
def test_damaged_identity_is_told_and_kept(tmp_path, damage):
    """A new one would lock us out of what arrays granted to the old one; the operator decides."""
    (tmp_path / "mover.json").write_text(damage)

    with pytest.raises(Internal, match=r"mover\.json is damaged"):
        mover_host(tmp_path)
    assert (tmp_path / "mover.json").read_text() == damage


def test_state_directory_follows_the_environment(monkeypatch, tmp_path):
    """$BOLLARD_STATE wins; else the platform's place."""
    monkeypatch.setenv("BOLLARD_STATE", str(tmp_path))
    assert state_directory() == tmp_path
    monkeypatch.delenv("BOLLARD_STATE")
    assert state_directory().name == "bollard"
