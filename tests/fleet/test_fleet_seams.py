"""What a fleet rests on: windows copied by several, a lease watched, a clone read by several hosts."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from bollard.core.access import Mover
from bollard.core.archive import Archive, CreateOptions, Timing, Workers
from bollard.core.archive.begin import Beginning
from bollard.core.archive.intent import WatchedLease
from bollard.core.archive.names import begin_key
from bollard.core.dataplane import FileSource
from bollard.core.journal import Journal
from bollard.core.mover import mover_host
from bollard.core.pool import open_pool
from bollard.core.spi import Call, Conflict, DeadlineExceeded, VolumeSpec
from bollard.core.store import open_store
from bollard.simulators.array import ArraySimulator
from bollard.transfer_objects.ids import SnapshotId, VolumeId

SMALL = CreateOptions(window_size=4096, granule=512)


@pytest.fixture
def store(tmp_path):
    """A directory as store."""
    (tmp_path / "store").mkdir()
    opened = open_store("nightly", "nfs", {"path": str(tmp_path / "store")})
    yield opened
    opened.close()


def _image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(range(1, 251)) * 200)
    return path


def test_two_that_copy_every_other_window_make_the_same_image(tmp_path, store):
    """A copier may hand the windows to several; the manifest is that of one alone."""

    def copy(creation, source, tasks, done, call):
        tasks = list(tasks)
        for share in (tasks[1::2], tasks[::2]):
            creation.copy(source, share, done, call)

    archive = Archive(store, workers=Workers(count=1))
    with FileSource.open(_image(tmp_path)) as source:
        alone = archive.create(source, Call(), volume="vol-1", snapshot="a", options=SMALL)
        shared = archive.create(source, Call(), volume="vol-1", snapshot="b", options=SMALL, copy=copy)

    assert [w.digest for w in shared.windows] == [w.digest for w in alone.windows]
    assert shared.digest == alone.digest


def test_a_watcher_stops_when_the_holder_has_let_go(store):
    """A lease that is renewed in time goes on for its watchers; no other one does."""
    now = [1000.0]
    beginning = Beginning(
        store=store, volume="vol-1", snapshot="s", attempt="t", writer="w", clock=lambda: now[0],
        timing=Timing(lease=90),
    )  # fmt: skip
    held = beginning.begin(None, Call()).lease
    watched = WatchedLease(store, "vol-1", "s/t", lambda: now[0], Call())
    now[0] += 60
    held.renew(Call())
    now[0] += 60
    watched.renew(Call())  # 30 seconds after the end of the first term
    now[0] += 60

    with pytest.raises(DeadlineExceeded, match="lease of vol-1/s/t is over"):
        watched.renew(Call())
    store.delete(begin_key("vol-1", "s/t"), Call())
    with pytest.raises(Conflict, match="taken away"):
        watched.renew(Call())


def test_hosts_read_one_clone_and_nothing_is_left(tmp_path):
    """On managed storage each host is granted the clone; when all are done it is gone, and so are grants."""
    with ArraySimulator(tmp_path / "array", pools={"gold": 2**28}, tls=False, job_seconds=0.0) as array:
        options = {
            "url": array.url, "username": array.admin_user, "password": array.admin_password,
            "pool": "gold", "owner": "fleet", "allow_http": True,
        }  # fmt: skip
        with open_pool("gold", "array", options) as pool:
            _read_from_two_hosts(pool, tmp_path)


def _read_from_two_hosts(pool, tmp_path):
    here, there = (
        Mover(host=mover_host(tmp_path / name), journal=Journal(tmp_path / name / "journal"))
        for name in ("here", "there")
    )
    pool.volumes.create(VolumeSpec(id=VolumeId("vol-1"), size=2**20))
    pool.snapshots.create(VolumeId("vol-1"), SnapshotId("snap-1"))
    with here.sharing_snapshot(pool, SnapshotId("snap-1")) as clone:
        assert clone is not None
        for mover in (here, there, here):
            with mover.reading_shared(pool, SnapshotId("snap-1"), clone) as source:
                assert source.size == 2**20
        assert {g.host for g in pool.volumes.grants(clone)} <= {here.host.id}

    assert [volume.id for volume in pool.volumes.list()] == ["vol-1"]
    assert not list(itertools.chain(here.journal.abandoned(), there.journal.abandoned()))
