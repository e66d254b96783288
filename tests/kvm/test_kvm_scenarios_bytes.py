"""Scenarios C that need each byte of a disk and no guest: a VM without one, on real libvirt."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from bollard.core.catalog.snapshots import Reason, RefState
from bollard.core.snapshots import kvm
from bollard.core.spi import Busy, Unsupported
from bollard.drivers.hypervisor.kvm import versions
from bollard.transfer_objects.ids import SnapshotId
from kvm_blank import Blank
from kvm_driving import call
from kvm_lab import Host, Lab

pytestmark = [pytest.mark.real(root=True), pytest.mark.slow]


@pytest.fixture
def rig(kvm_lab: Lab, kvm_host: Host) -> Iterator[Blank]:
    """A VM of the test's own."""
    rig = Blank(kvm_lab, kvm_host)
    yield rig
    assert rig.left() == []
    rig.close()


@pytest.mark.parametrize("incremental", [True, False], ids=["incremental", "full"])
@pytest.mark.parametrize("backup", [True, False], ids=["secondary", "primary"])
def test_c1_the_matrix_of_both_settings(rig: Blank, *, incremental: bool, backup: bool) -> None:
    """Each pair of settings: snapshots are taken, restored, reverted to and deleted; nothing is left."""
    rig.enable(incremental)
    rig.back_up(backup)
    for name in ("s1", "s2"):
        rig.make(name)
    assert (rig.ref("s2").parent == rig.ref("s1").id) is incremental
    assert rig.ref("s2").store == ("sec-1" if backup else "pool")
    assert rig.survivors() == ["s1", "s2"]
    rig.power(on=False)
    rig.revert("s2")
    assert rig.volume() == rig.kept["s2"]
    for name in ("s1", "s2"):
        rig.delete(name)
    assert rig.stored() == []


def test_c8_old_versions_are_told_and_leave_nothing(rig: Blank, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the versions that are needed; no file, bitmap or checkpoint was made."""
    with monkeypatch.context() as patch:
        patch.setattr(versions, "_QEMU", 99_001_000)
        with pytest.raises(Unsupported, match=r"libvirt 7\.6\.0.*kvm\.incremental\.snapshot"):
            rig.make("s1")
    assert rig.states() == {"s1": "Error"}
    assert (rig.stored(), rig.bitmaps(), rig.left()) == ([], [], [])
    rig.make("s1")
    assert rig.survivors() == ["s1"]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (2, 0, 3, 1)])
def test_c14_any_order_of_deletions_ends_with_no_file(rig: Blank, order: tuple[int, ...]) -> None:
    """Whoever survives restores bit-identically at any time; at the end nothing is stored."""
    names = [f"s{number}" for number in range(4)]
    for name in names:
        rig.make(name)
    for number in order:
        rig.delete(names[number])
        names_left = [name for name in names if rig.states()[name] == "CreatedOnPrimary"]
        assert rig.survivors() == names_left
    assert (rig.stored(), rig.bitmaps()) == ([], [])


def test_c15_a_deletion_and_a_creation_in_one_chain_take_turns(rig: Blank) -> None:
    """Both at once: each is done, or was told to come later; all that is left is whole."""
    rig.make("s0")
    for number in range(1, 4):
        rig.change()
        rig.remember(f"s{number}")
        told: list[str] = []

        def deleting(name: str = f"s{number - 1}", told: list[str] = told) -> None:
            try:
                rig.delete(name)
                told.append("deleted")
            except Busy:
                told.append("busy")

        thread = threading.Thread(target=deleting)
        thread.start()
        ref = kvm.take(rig.site(), rig.place(), SnapshotId(f"s{number}"), call())
        thread.join(60)
        assert told in (["deleted"], ["busy"])
        assert rig.left() == []
        assert f"s{number}" in rig.survivors()
        assert ref.full_reason in (None, Reason.NEWEST_DELETED, Reason.LOST_CHECKPOINT, Reason.FIRST)


def test_c16_a_hidden_copy_is_shown_again(rig: Blank) -> None:
    """Copied to another store, deleted on the first where a child needs it, and copied back: revived."""
    rig.back_up(True)
    rig.make("s1")
    kvm.copy(rig.site(), SnapshotId("s1"), "sec-2", call())
    rig.make("s2")
    kvm.delete(rig.site(), SnapshotId("s1"), call(), store="sec-1")
    assert rig.refs()[0].state is RefState.HIDDEN
    assert rig.survivors() == ["s1", "s2"]
    kvm.copy(rig.site(), SnapshotId("s1"), "sec-1", call())
    assert rig.refs()[0].state is RefState.READY
    assert rig.survivors() == ["s1", "s2"]
    for name in ("s1", "s2"):
        rig.delete(name)
    assert rig.stored() == []
