"""kill -9 of ourselves at every step: after a sync the state is decided, and nothing is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from bollard.core.catalog.snapshots import Reason, Ref, RefState
from bollard.core.snapshots import kvm
from bollard.core.snapshots.kvm import directory
from bollard.core.spi import Busy, Internal, Unavailable
from bollard.transfer_objects.ids import SnapshotId
from chain_rig import DISK, ChainRig, call, killed_at
from chain_site import VOLUME
from watched import Watched, watched

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(600)]

Act = Callable[[kvm.Site], Any]


@pytest.fixture
def rig(tmp_path) -> Iterator[ChainRig]:
    """Snapshots go to the pool's own directory."""
    rig = ChainRig(tmp_path)
    yield rig
    rig.close()


def at_every_step(
    rig: ChainRig, prepare: Callable[[int], None], act: Act, check: Callable[[int], None]
) -> int:
    """Kill `act` at its first step, its second, and so on until it ends by itself; sync, check."""
    step = 0
    while True:
        step += 1
        prepare(step)

        def acting(tick: Callable[[], None]) -> None:
            act(watched(rig.site(), tick))

        killed = killed_at(step, acting)
        assert kvm.sync(rig.site(), call()) == []
        assert rig.at_rest(), (step, rig.intents(), rig.states())
        check(step)
        if not killed:
            return step


@pytest.mark.parametrize("store", ["pool", "archive"])
def test_c12_take_killed_anywhere_ends_in_a_snapshot_or_in_nothing(rig, store):
    """Ready and whole, or Error without a file; the next one is a delta of what is there.

    In an archive, parts that were stored by then stay until the lease of their writer is over.
    """
    rig.settings.set("snapshot.delta.max", 200)
    rig.back_up(store == "archive")
    rig.secondary = store
    made = "BackedUp" if store == "archive" else "CreatedOnPrimary"
    rig.take("s0")
    states: list[str | None] = []

    def prepare(step: int) -> None:
        rig.write(f"{step * 64}k 64k")
        rig.contents[f"s{step}"] = rig.volume()

    def act(site: kvm.Site) -> None:
        kvm.take(site, rig.place(), SnapshotId(f"s{len(states) + 1}"), call())

    def check(step: int) -> None:
        name = f"s{step}"
        states.append(rig.states().get(name))
        if states[-1] == made:
            assert rig.is_whole(name)
            assert rig.ref(name).full_reason is None
        else:
            assert states[-1] in (None, "Error")
            assert not any(f"{name}/" in path or path.endswith(name) for path in visible(rig))
        assert len(rig.host.bitmaps(DISK.vm)) == 1

    steps = at_every_step(rig, prepare, act, check)

    assert steps > 15
    assert {None, "Error", made} == set(states)
    assert rig.is_whole(*[name for name, state in rig.states().items() if state == made])


def test_take_of_a_volume_without_a_vm_killed_anywhere(rig):
    """As with a VM: a snapshot that is whole, or nothing, and never a bitmap that nobody knows of."""
    rig.images = [rig.disk]
    rig.settings.set("snapshot.delta.max", 200)
    rig.take("s0")

    def prepare(step: int) -> None:
        rig.write(f"{step * 64}k 64k")
        rig.contents[f"s{step}"] = rig.volume()
        prepare.step = step  # type: ignore[attr-defined]  # where `act` finds it

    def act(site: kvm.Site) -> None:
        kvm.take(site, rig.place(), SnapshotId(f"s{prepare.step}"), call())  # type: ignore[attr-defined]  # idem

    def check(step: int) -> None:
        assert len(rig.host.bitmaps(DISK.vm)) == 1
        if rig.states().get(f"s{step}") == "CreatedOnPrimary":
            assert rig.is_whole(f"s{step}")
            assert rig.ref(f"s{step}").full_reason is None
        else:
            assert not any(path.endswith(f"s{step}") for path in rig.files())

    assert at_every_step(rig, prepare, act, check) > 10


def visible(rig: ChainRig) -> list[str]:
    """The files of all stores; of an archive, what makes a snapshot appear."""
    unseen = ("begin.json", ".zip")
    return [path for path in rig.files() if not (path.startswith("archive/v1/") and path.endswith(unseen))]


def test_delete_killed_anywhere_is_finished_by_the_sync(rig):
    """Whether it had been decided or not, a second delete ends with no file of the chain."""
    rig.settings.set("snapshot.delta.max", 200)

    def prepare(step: int) -> None:
        for number in (1, 2):
            rig.write(f"{number * 256}k 64k")
            rig.take(f"s{step}-{number}")
        rig.delete(f"s{step}-1")
        prepare.step = step  # type: ignore[attr-defined]  # where `act` finds it

    def act(site: kvm.Site) -> None:
        kvm.delete(site, SnapshotId(f"s{prepare.step}-2"), call())  # type: ignore[attr-defined]  # idem

    def check(step: int) -> None:
        states = {rig.states()[f"s{step}-{number}"] for number in (1, 2)}
        assert states in ({"Destroyed"}, {"Hidden", "CreatedOnPrimary"})
        rig.delete(f"s{step}-2")
        assert rig.files() == []

    assert at_every_step(rig, prepare, act, check) > 8


def test_revert_killed_anywhere_leaves_the_old_or_the_new_volume(rig):
    """Never anything between, no file beside it, and never a delta since a bitmap that is wrong."""
    rig.write("0 1M")
    rig.take("base")
    seen = set()

    def prepare(step: int) -> None:
        rig.write(f"{step * 64}k 64k")
        prepare.before = rig.volume()  # type: ignore[attr-defined]  # where `check` finds it

    def act(site: kvm.Site) -> None:
        kvm.revert(site, VOLUME, SnapshotId("base"), rig.disk, call())

    def check(step: int) -> None:
        now = rig.volume()
        seen.add(now == rig.contents["base"])
        assert now in (rig.contents["base"], prepare.before)  # type: ignore[attr-defined]  # idem
        rig.take(f"s{step}")
        assert rig.is_whole("base", f"s{step}")

    assert at_every_step(rig, prepare, act, check) > 8
    assert seen == {True, False}


def test_migration_killed_anywhere_leaves_the_chain_on_one_store(rig):
    """All of it here or all of it there, restorable, and nothing of it on the other."""
    rig.back_up(True)
    rig.write("0 1M")
    rig.take("s1")
    rig.write("64k 64k")
    rig.take("s2")
    rig.delete("s1")

    def prepare(step: int) -> None:
        """Whatever way it lies now, it moves to the other store."""

    def act(site: kvm.Site) -> None:
        here = rig.ref("s2").store
        kvm.migrate(site, VOLUME, here, "sec-2" if here == "sec-1" else "sec-1", call())

    def check(step: int) -> None:
        stores = {ref.store for ref in rig.refs()}
        assert len(stores) == 1
        assert rig.files() == rig.files(*stores)
        assert rig.is_whole("s2")

    assert at_every_step(rig, prepare, act, check) > 10


def test_copy_killed_anywhere_is_there_or_not(rig):
    """The copy is whole or gone, and the snapshot is at rest."""
    rig.write("0 1M")
    rig.take("s1")

    def act(site: kvm.Site) -> None:
        kvm.copy(site, SnapshotId("s1"), "sec-2", call())

    def check(step: int) -> None:
        there = [ref for ref in rig.refs() if ref.store == "sec-2"]
        assert bool(there) == bool(rig.files("sec-2"))
        assert rig.states()["s1"] == ("BackedUp" if there else "CreatedOnPrimary")
        if there:
            kvm.delete(rig.site(), SnapshotId("s1"), call(), store="sec-2")
        assert rig.files("sec-2") == []
        assert rig.is_whole("s1")

    assert at_every_step(rig, lambda _: None, act, check) > 6


def test_c12_a_hypervisor_that_does_not_answer_puts_the_decision_off(rig, monkeypatch):
    """Nothing is guessed: the intent stays, others are told to wait, the next sync settles it."""
    rig.take("s0")
    rig.write("0 64k")

    def acting(tick: Callable[[], None]) -> None:
        site = rig.site()
        site = replace(site, backups=Watched(site.backups, tick))  # type: ignore[arg-type]  # as one
        kvm.take(site, rig.place(), SnapshotId("s1"), call())

    assert killed_at(4, acting)  # before and after it asked for checkpoints, before and after the backup
    site = rig.site()
    assert rig.host.running(DISK.vm)

    def silent(*_: object, **__: object) -> None:
        raise Unavailable("libvirt does not answer")

    for name in ("end_backup", "checkpoints"):
        monkeypatch.setattr(rig.host, name, silent)
    problems = kvm.sync(site, call())
    assert len(problems) == 1
    assert "libvirt does not answer" in problems[0]
    with pytest.raises((Busy, Unavailable)):
        rig.take("s2")

    monkeypatch.undo()
    assert kvm.sync(rig.site(), call()) == []
    assert rig.at_rest()
    rig.take("s3")
    assert rig.is_whole("s0", "s3")


def test_c12_lost_answer_of_a_commit_takes_nothing_away(rig, monkeypatch):
    """A commit that took effect though it failed: the snapshot is kept, the sync tidies up."""
    real = kvm.taking.records.commit  # type: ignore[attr-defined]  # the module's own helper

    def lost(*args: Any) -> Any:
        real(*args)
        raise Internal("the catalog failed")

    monkeypatch.setattr(kvm.taking.records, "commit", lost)  # type: ignore[attr-defined]  # idem
    with pytest.raises(Exception, match="made all the same"):
        rig.take("s1")
    monkeypatch.undo()
    rig.contents["s1"] = rig.volume()

    assert kvm.sync(rig.site(), call()) == []
    assert rig.at_rest()
    assert rig.is_whole("s1")


def test_store_that_fails_leaves_an_error_and_the_chain(rig, monkeypatch):
    """A full disk while a delta is written: Error, no file, and the next one is a delta still."""
    first = rig.take("s1")
    rig.write("0 64k")

    def full(*_: object) -> None:
        raise Internal("no space left")

    monkeypatch.setattr(directory, "_publish", full)
    with pytest.raises(Internal, match="no space left"):
        rig.take("s2")
    monkeypatch.undo()
    assert rig.states()["s2"] == "Error"
    assert rig.files() == ["pool/checkpoints/s1", "pool/snapshots/s1"]
    assert rig.at_rest()

    assert rig.take("s3").parent == first.id
    assert rig.is_whole("s1", "s3")


def test_parent_deleted_while_its_child_is_made_goes_with_it(rig, monkeypatch):
    """C15: the child that is being made keeps its parent's file; when it fails, both go."""
    rig.take("s1")
    rig.write("0 64k")
    real = rig.host.begin_backup

    def deleting(*args: Any, **options: Any) -> Any:
        real(*args, **options)
        rig.delete("s1")
        assert rig.states()["s1"] == "Hidden"
        assert rig.files() != []
        raise Internal("the export broke")

    monkeypatch.setattr(rig.host, "begin_backup", deleting)
    with pytest.raises(Internal):
        rig.take("s2")

    assert rig.states() == {"s1": "Destroyed", "s2": "Error"}
    assert rig.files() == []
    assert rig.host.bitmaps(DISK.vm) == {}


def test_c15_child_of_a_parent_that_goes_meanwhile_restores(rig, monkeypatch):
    """C15: delete during create of the same chain: the parent is hidden, the child is whole."""
    rig.write("0 1M")
    rig.take("s1")
    rig.write("0 64k")
    real = rig.host.begin_backup

    def deleting(*args: Any, **options: Any) -> Any:
        backup = real(*args, **options)
        rig.delete("s1")
        with pytest.raises(Busy):
            kvm.take(rig.site(), rig.place(), SnapshotId("s3"), call())
        return backup

    monkeypatch.setattr(rig.host, "begin_backup", deleting)
    second = rig.take("s2")

    assert second.parent is not None
    assert rig.states() == {"s1": "Hidden", "s2": "CreatedOnPrimary"}
    assert rig.is_whole("s2")


def test_c15_create_after_a_delete_was_decided_is_a_full(rig, monkeypatch):
    """C15: a parent that is being removed is nobody's base."""
    rig.take("s1")
    site = rig.site()
    pool = site.stores["pool"]
    made: list[Ref] = []

    def creating(*args: Any, **options: Any) -> None:
        if not made:
            made.append(rig.take("s2"))
        pool.remove(*args, **options)

    class Removing:
        id, role = pool.id, pool.role
        remove = staticmethod(creating)
        reaches, write = pool.reaches, pool.write

    slow = replace(site, stores={**site.stores, "pool": Removing()})  # type: ignore[dict-item]  # a part of it
    kvm.delete(slow, SnapshotId("s1"), call())

    assert (made[0].parent, made[0].full_reason) == (None, Reason.FIRST)
    assert rig.is_whole("s2")
    assert [ref.state for ref in rig.refs()] == [RefState.READY]


def test_one_who_died_early_does_not_undo_a_living_ones_work(rig, monkeypatch):
    """Two begin the same snapshot, one of them dies before its decision: a sync leaves the other alone."""
    real = rig.host.begin_backup

    def synced_meanwhile(*args: Any, **options: Any) -> Any:
        site = rig.site()
        site.journal.begin(kvm.taking.TAKE, snapshot="s1", volume=VOLUME).release()  # type: ignore[attr-defined]  # as the dead one
        assert kvm.sync(site, call()) == []
        return real(*args, **options)

    monkeypatch.setattr(rig.host, "begin_backup", synced_meanwhile)
    rig.take("s1")

    assert rig.is_whole("s1")
    assert rig.at_rest()


def test_refused_decisions_leave_no_intent(rig):
    """What was never begun needs no sync."""
    rig.take("s1")
    with rig.site().catalog.transaction() as session:
        session.get_one(Ref, 1).backing_up = True
    for act in (lambda: rig.take("s2"), lambda: rig.delete("s1")):
        with pytest.raises(Busy):
            act()

    assert rig.intents() == []
