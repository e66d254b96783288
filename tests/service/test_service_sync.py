"""What a sync does when backends do not answer, and what it leaves to the living."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import event

from bollard.core.catalog.snapshots import RefState, SnapshotState
from bollard.core.catalog.transitions import history
from bollard.core.service.from_snapshot import VolumeRequest, to_volume
from bollard.core.service.from_snapshot_revert import revert
from bollard.core.service.from_snapshot_sync import Ended
from bollard.core.service.from_snapshot_uses import Uses
from bollard.core.service.snapshots_claims import CLAIM
from bollard.core.service.snapshots_tables import SnapshotUse
from bollard.core.service.transient import sync_all, sync_volume, unfinished
from bollard.core.spi import Busy, Internal, InvalidArgument, StorageError
from bollard.transfer_objects.enums import DataStoreRole
from bollard.transfer_objects.ids import SnapshotId, VolumeId

from .service_rig import SIZE, Cloud, call

S1 = SnapshotId("s-1")
OLD, NEW = b"old!" * 50_000, b"new!" * 50_000


class Killed(BaseException):
    """The process ends here; nothing that handles errors sees it."""


class Fragile:
    """Lets a method of a driver fail as long as a test wants it to."""

    def __init__(self, driver: object, *names: str) -> None:
        self.error: BaseException | None = None
        for name in names:
            vars(driver)[name] = self._guarded(getattr(driver, name))

    def _guarded(self, method: Any) -> Any:
        def guarded(*args: object, **kwargs: object) -> object:
            if self.error is not None:
                raise self.error
            return method(*args, **kwargs)

        return guarded


def killed(act: Any) -> None:
    """Do something that dies half-way."""
    with pytest.raises(Killed):
        act()


def test_one_pool_that_does_not_answer_delays_no_other(cloud):
    """Its snapshot stays as it is, and is told; the other pool's is ended; the next sync ends the rest."""
    fragile = []
    for pool in ("gold", "silver"):
        volume = cloud.make(f"on-{pool}", pool, OLD)
        one = Fragile(cloud.site.pools[pool].driver, "create_snapshot", "get_snapshot")
        create = cloud.site.pools[pool].driver.create_snapshot
        vars(cloud.site.pools[pool].driver)["create_snapshot"] = _dying
        killed(lambda v=volume, p=pool: cloud.take(f"s-{p}", v))
        vars(cloud.site.pools[pool].driver)["create_snapshot"] = create
        fragile.append(one)
    fragile[0].error = InvalidArgument("the array has no answer")

    found = {one.id: one for one in sync_all(cloud.ctx, call())}
    assert (found["s-gold"].after, found["s-gold"].problem) == ("Creating", "the array has no answer")
    assert (found["s-silver"].after, found["s-silver"].problem) == ("Error", "")
    assert unfinished(cloud.ctx) == ["on-gold"]
    fragile[0].error = None
    assert [one.after for one in cloud.sync()] == ["Error"]


def _dying(*_: object) -> None:
    raise Killed


def test_a_cut_whose_answer_was_lost_is_kept(cloud):
    """The process died after the array had cut: the sync asks, and the snapshot is there; its copy is due."""
    volume = cloud.make("v-1", "gold", OLD)
    driver = cloud.site.pools["gold"].driver
    create = driver.create_snapshot

    def cut_and_die(*args: object) -> None:
        create(*args)
        raise Killed

    vars(driver)["create_snapshot"] = cut_and_die
    killed(lambda: cloud.take(S1, volume, "Archive"))
    assert cloud.service.show(S1).state is SnapshotState.CREATING
    [ended] = cloud.sync()
    assert (ended.before, ended.after) == ("Creating", "CreatedOnPrimary")
    assert cloud.service.records.due(10) == [S1]
    cloud.service.backup(S1, call())
    assert cloud.service.show(S1).state is SnapshotState.BACKED_UP


def test_every_move_is_recorded_with_its_reason(cloud):
    """The history tells how a snapshot came to rest where it does."""
    volume = cloud.make("v-1", "gold", OLD)
    store = Fragile(cloud.site.stores["nightly"].driver, "put")
    store.error = InvalidArgument("the store is read-only")
    with pytest.raises(InvalidArgument):
        cloud.take(S1, volume, "Archive")
    with cloud.catalog.transaction() as session:
        moves = [(one.after, one.reason) for one in history(session, "snapshot", S1)]
    assert moves == [
        ("Creating", ""),
        ("CreatedOnPrimary", ""),
        ("BackingUp", ""),
        ("CreatedOnPrimary", "the store is read-only"),
    ]


def test_a_half_written_volume_is_used_for_nothing_else(cloud, monkeypatch):
    """A revert that died is finished by the sync; until then there is no snapshot of its volume."""
    volume = cloud.make("v-1", "raw", OLD)
    cloud.take(S1, volume)
    cloud.write(volume, NEW)

    def only_parts(key: str, *args: object, **kwargs: object) -> object:
        if key.endswith(".zip") and reverting.is_set():
            raise InvalidArgument("the store is gone")
        return get(key, *args, **kwargs)

    reverting, get = threading.Event(), cloud.site.stores["nightly"].driver.get
    vars(cloud.site.stores["nightly"].driver)["get"] = only_parts
    begin = Uses.begin

    def begun(self: Uses, use: SnapshotUse) -> SnapshotUse:
        reverting.set()
        return begin(self, use)

    monkeypatch.setattr(Uses, "begin", begun)
    with pytest.raises(StorageError):
        revert(cloud.ctx, S1, call())
    with pytest.raises(Busy, match="being reverted"):
        cloud.take("s-2", volume)
    [ended] = sync_all(cloud.ctx, call())
    assert (ended.kind, ended.after, bool(ended.problem)) == ("revert", "unfinished", True)
    monkeypatch.undo()
    reverting.clear()
    assert [one.after for one in cloud.sync()] == ["reverted"]
    assert cloud.read(volume) == OLD.ljust(SIZE, b"\0")
    assert cloud.take("s-2", volume).state is SnapshotState.BACKED_UP


def test_what_stays_on_the_pool_after_the_copy_goes_with_the_next_sync(cloud):
    """The copy is whole: that the array would not delete is no error of it, and is made up for."""
    volume = cloud.make("v-1", "gold", OLD)
    array = Fragile(cloud.site.pools["gold"].driver, "delete_snapshot")
    array.error = InvalidArgument("not now")
    found = cloud.take(S1, volume, "Archive")
    assert found.state is SnapshotState.BACKED_UP
    assert found.ref(DataStoreRole.PRIMARY, RefState.DESTROYING) is not None
    assert cloud.on_pool(volume) == [S1]
    array.error = None
    cloud.sync()
    assert cloud.on_pool(volume) == []
    assert [one.role for one in cloud.books.counted.values()] == [DataStoreRole.IMAGE]


def test_a_sync_leaves_the_living_alone(cloud):
    """While a copy is under way a sync neither takes it back nor waits for it."""
    volume = cloud.make("v-1", "gold", OLD)
    driver = cloud.site.stores["nightly"].driver
    put, seen = driver.put, list[list[Ended]]()

    def meanwhile(*args: object, **kwargs: object) -> object:
        if not seen:
            seen.append(sync_all(cloud.ctx, call()))
        return put(*args, **kwargs)

    vars(driver)["put"] = meanwhile
    assert cloud.take(S1, volume, "Archive").state is SnapshotState.BACKED_UP
    assert seen == [[]]
    assert cloud.leftovers() == []


def test_of_many_that_ask_for_the_same_one_cut_is_made(cloud):
    """Eight callers with one request: each gets the same snapshot or is told that somebody works on it."""
    volume = cloud.make("v-1", "gold", OLD)
    barrier = threading.Barrier(8)

    def ask(_: int) -> str:
        barrier.wait(30)
        try:
            return cloud.take(S1, volume).order.cut
        except Busy:
            return "busy"

    with ThreadPoolExecutor(8) as threads:
        answers = set(threads.map(ask, range(8)))
    cloud.take(S1, volume)
    assert len(answers - {"busy"}) <= 1
    assert cloud.on_pool(volume) == [S1]
    assert cloud.leftovers() == []


def test_of_many_that_want_the_same_volume_one_is_made(cloud):
    """And what one of them has made, none of those who came second removes."""
    volume = cloud.make("v-1", "gold", OLD)
    cloud.take(S1, volume, "Archive")
    barrier, request = threading.Barrier(4), VolumeRequest(id=VolumeId("v-2"), pool="raw")

    def ask(_: int) -> bool:
        barrier.wait(30)
        try:
            return to_volume(cloud.ctx, S1, request, call()).id == "v-2"
        except Busy:
            return False

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, range(4)))
    to_volume(cloud.ctx, S1, request, call())
    assert cloud.read(VolumeId("v-2"), "raw").startswith(OLD)
    assert cloud.leftovers() == []


def test_an_unknown_outcome_of_a_removal_is_asked_again(cloud):
    """A deletion whose answer was lost goes on from what the pool says."""
    volume = cloud.make("v-1", "gold", OLD)
    cloud.take(S1, volume)
    driver = cloud.site.pools["gold"].driver
    delete = driver.delete_snapshot

    def gone_but(*args: object) -> None:
        delete(*args)
        raise Internal("the answer was lost")

    vars(driver)["delete_snapshot"] = gone_but
    with pytest.raises(Internal):
        cloud.service.delete(S1, call())
    assert [one.after for one in cloud.sync()] == ["Destroyed"]


def test_what_rests_is_not_read(cloud: Cloud):
    """What a sync and the queue ask the catalog is answered from indexes that hold nothing that rests."""
    asked: list[tuple[str, Any]] = []
    engine = cloud.catalog._engine

    def note(_conn: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    unfinished(cloud.ctx)
    cloud.service.records.due(10)
    event.remove(engine, "before_cursor_execute", note)
    indexes = []
    with engine.connect() as connection:
        for statement, parameters in asked:
            if statement.startswith("SELECT"):
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
                indexes.append(str(plan[0][3]).rpartition("INDEX ")[2].split()[0])
    assert indexes == [
        "volume_snapshots_unfinished",
        "volume_snapshots_allocated",
        "snapshot_refs_unfinished",
        "snapshot_uses_unfinished",
        "snapshot_orders_wanted",
    ]


def test_nothing_is_looked_at_that_rests(cloud: Cloud):
    """What is at rest costs a sync nothing: no volume of it is listed."""
    volume = cloud.make("v-1", "gold", OLD)
    cloud.take(S1, volume)
    cloud.take("s-2", volume, "Archive")
    assert unfinished(cloud.ctx) == []
    driver = cloud.site.pools["gold"].driver
    Fragile(driver, "get_snapshot", "list_volumes").error = InvalidArgument("nobody asks")
    assert sync_all(cloud.ctx, call()) == []


def test_a_sync_of_one_volume_drops_the_claims_of_the_dead_on_it_alone(cloud):
    """Its own, its snapshot's and that of what was made of it go; another volume's and a living one stay."""
    volume = cloud.make("v-1", "gold", OLD)
    cloud.take("s-1", volume, "Standard")
    to_volume(cloud.ctx, S1, VolumeRequest(id=VolumeId("v-2"), pool="gold"), call())
    journal, living = cloud.site.mover().journal, ("snapshot", "s-1")
    dead = [("volume", "v-1"), ("snapshot", "s-1"), ("volume", "v-2"), ("volume", "v-9"), ("snapshot", "s-9")]
    for what, subject in dead:
        journal.begin(CLAIM, what=what, subject=subject).release()
    held = journal.begin(CLAIM, what=living[0], subject=living[1])
    assert len(cloud.intents()) == len(dead) + 1
    assert sync_volume(cloud.ctx, volume, call()) == []
    assert len(cloud.intents()) == 3
    held.done()
    left = list(journal.abandoned())
    for entry in left:
        entry.release()
    assert sorted((entry.fields["what"], entry.fields["subject"]) for entry in left) == [
        ("snapshot", "s-9"),
        ("volume", "v-9"),
    ]
