"""Backups in the background: retried, limited, cancelled; the snapshot is usable all the time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing

import pytest

from bollard.core.catalog.snapshots import SnapshotState
from bollard.core.service.from_snapshot import VolumeRequest, to_volume
from bollard.core.service.snapshots_queue import BackupQueue
from bollard.core.spi import DeadlineExceeded, InvalidArgument, Unavailable
from bollard.transfer_objects.enums import DataStoreRole
from bollard.transfer_objects.ids import SnapshotId, VolumeId

from .service_rig import Cloud, call

S1 = SnapshotId("s-1")
DATA = b"first" * 20_000


class Weak:
    """A store whose `put` fails, or waits, as a test has it."""

    def __init__(self, cloud: Cloud, name: str = "nightly") -> None:
        driver = cloud.site.stores[name].driver
        self._put: Callable[..., object] = driver.put
        self.before: Callable[[str], object] = lambda _: None
        vars(driver)["put"] = self._guarded

    def _guarded(self, key: str, *args: object, **kwargs: object) -> object:
        self.before(key)
        return self._put(key, *args, **kwargs)


def down(_: str) -> None:
    """Fail as a store does that says no to each request."""
    raise InvalidArgument("the store is read-only")


def unreachable(key: str) -> None:
    """Fail as a store that cannot be reached, at its parts."""
    if key.endswith(".zip"):
        raise Unavailable("no route to the store")


def attempt(cloud: Cloud) -> None:
    """Make one attempt in the background, if one is due."""
    with BackupQueue(cloud.service, new_call=call) as queue:
        queue.look()
        assert queue.drain(60)


def test_the_caller_does_not_wait_for_the_copy(cloud):
    """Without waiting the snapshot is usable at once; the queue archives it, with progress in bytes."""
    volume, seen = cloud.make("v-1", "gold", DATA), []
    found = cloud.take(S1, volume, "Archive", wait=False)
    assert (found.state, found.order.wanted) == (SnapshotState.CREATED_ON_PRIMARY, True)
    assert cloud.images() == []

    with BackupQueue(cloud.service, new_call=call, progress=lambda *told: seen.append(told)) as queue:
        assert queue.look() == 1
        assert queue.drain(60)
    assert cloud.service.show(S1).state is SnapshotState.BACKED_UP
    assert cloud.on_pool(volume) == []
    assert {snapshot for snapshot, _, _ in seen} == {S1}
    assert max(done for _, done, _ in seen) == max(total for _, _, total in seen) > 0
    assert cloud.leftovers() == []


def test_it_is_tried_again_when_it_is_due_and_then_no_more(cloud):
    """One attempt and three more, 300 seconds apart; then it stays on the array, usable, and says why."""
    volume, weak = cloud.make("v-1", "gold", DATA), Weak(cloud)
    weak.before = unreachable
    cloud.take(S1, volume, "Archive", wait=False)
    for failed in range(1, 5):
        attempt(cloud)
        order = cloud.service.show(S1).order
        assert (order.attempts, order.wanted) == (failed, failed < 4)
        assert cloud.leftovers() == []
        assert cloud.service.records.due(10) == []
        cloud.clock.now += 300
    found = cloud.service.show(S1)
    assert found.state is SnapshotState.CREATED_ON_PRIMARY
    assert "no route to the store" in found.order.problem
    assert [one.role for one in cloud.books.counted.values()] == [DataStoreRole.PRIMARY]
    assert cloud.images() == []
    to_volume(cloud.ctx, S1, VolumeRequest(id=VolumeId("v-2"), pool="raw"), call())
    assert cloud.read(VolumeId("v-2"), "raw").startswith(DATA)

    weak.before = lambda _: None
    cloud.service.archive(S1, call())
    assert cloud.service.show(S1).state is SnapshotState.BACKED_UP
    assert cloud.service.show(S1).order.problem == ""


def test_a_store_that_is_back_gets_it_at_the_next_attempt(cloud):
    """A failure in between costs nothing but time."""
    volume, weak = cloud.make("v-1", "raw", DATA), Weak(cloud)
    weak.before = unreachable
    with pytest.raises(Unavailable):
        cloud.take(S1, volume)
    weak.before = lambda _: None
    attempt(cloud)
    assert cloud.service.show(S1).state is SnapshotState.CREATED_ON_PRIMARY
    cloud.clock.now += 300
    attempt(cloud)
    assert cloud.service.show(S1).state is SnapshotState.BACKED_UP
    assert cloud.leftovers() == []


def test_what_can_never_succeed_is_not_tried_again(cloud):
    """A request that breaks a rule breaks it each time."""
    volume, weak = cloud.make("v-1", "gold", DATA), Weak(cloud)
    weak.before = down
    with pytest.raises(InvalidArgument, match="read-only"):
        cloud.take(S1, volume, "Archive")
    assert cloud.service.show(S1).order.wanted is False


@pytest.mark.parametrize(("hosts", "together"), [(1, 2), (6, 3)], ids=["per host", "per pool"])
def test_so_many_at_a_time(cloud, hosts, together):
    """Of six volumes on one host two are copied at a time; on a host each, the three that their pool may."""
    cloud.settings.set("concurrent.snapshots.threshold.perpool", 3)
    weak, lock, most = Weak(cloud), threading.Lock(), []
    copying: set[str] = set()
    meeting = threading.Barrier(together, timeout=30)

    def watch(key: str) -> None:
        if not key.endswith(".zip"):
            return
        with lock:
            copying.add(key)
            most.append(len(copying))
        meeting.wait()  # so many are there at the same time, or this fails
        with lock:
            copying.discard(key)

    for number in range(6):
        volume = cloud.make(f"v-{number}", "gold", DATA)
        cloud.inventory.change(volume, host=f"kvm-{number % hosts}")
        cloud.take(f"s-{number}", volume, "Archive", wait=False)
    weak.before = watch
    with BackupQueue(cloud.service, new_call=call, threads=6) as queue:
        assert queue.look() == 6
        assert queue.look() == 0
        assert queue.drain(120)
    assert max(most) == together
    assert {cloud.service.show(SnapshotId(f"s-{n}")).state for n in range(6)} == {SnapshotState.BACKED_UP}


@pytest.mark.parametrize("by", ["queue", "call"])
def test_cancelled_it_rests_on_its_pool(cloud, by):
    """The copy is under way when it is cancelled: nothing of it stays, and it is not tried again."""
    volume, weak = cloud.make("v-1", "gold", DATA), Weak(cloud)
    if by == "queue":
        cloud.take(S1, volume, "Archive", wait=False)
        with BackupQueue(cloud.service, new_call=call) as queue:
            weak.before = lambda key: queue.cancel(S1) if key.endswith(".zip") else None
            queue.look()
            assert queue.drain(60)
    else:
        cloud.take(S1, volume)
        asked = call()
        weak.before = lambda key: asked.cancel.set() if key.endswith(".zip") else None
        with pytest.raises(DeadlineExceeded):
            cloud.service.archive(S1, asked)

    found = cloud.service.show(S1)
    assert (found.state, found.order.wanted) == (SnapshotState.CREATED_ON_PRIMARY, False)
    assert "cancelled" in found.order.problem
    assert (cloud.on_pool(volume), cloud.images()) == ([S1], [])
    assert cloud.sync() == []
    assert cloud.leftovers() == []


def test_cancelled_before_it_began_it_never_begins(cloud):
    """At rest the wish ends at once."""
    volume = cloud.make("v-1", "gold", DATA)
    cloud.take(S1, volume, "Archive", wait=False)
    cloud.service.cancel(S1)
    attempt(cloud)
    assert cloud.service.show(S1).state is SnapshotState.CREATED_ON_PRIMARY
    assert cloud.images() == []


def test_a_queue_that_is_closed_loses_nothing(cloud):
    """What it had begun is taken back and due again, without counting; another one goes on."""
    volume, weak = cloud.make("v-1", "gold", DATA), Weak(cloud)
    cloud.take(S1, volume, "Archive", wait=False)
    begun, closed = threading.Event(), threading.Event()

    def wait_for_close(key: str) -> None:
        if key.endswith(".zip"):
            begun.set()
            closed.wait(30)

    weak.before = wait_for_close
    queue = BackupQueue(cloud.service, new_call=call)
    with closing(queue):
        queue.look()
        assert begun.wait(30)
        for running in queue._calls.values():
            running.cancel.set()
        closed.set()
    order = cloud.service.show(S1).order
    assert (order.wanted, order.attempts) == (True, 0)
    assert cloud.leftovers() == []
    weak.before = lambda _: None
    attempt(cloud)
    assert cloud.service.show(S1).state is SnapshotState.BACKED_UP
