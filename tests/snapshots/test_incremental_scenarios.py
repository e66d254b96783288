"""Scenarios A, B and C of KVM's incremental snapshots, over stopped disks of real qcow2."""

from __future__ import annotations

import subprocess

import pytest

from bollard.core.catalog.snapshots import Reason, RefState
from bollard.core.snapshots import kvm
from bollard.core.snapshots.kvm import delta
from bollard.core.spi import Busy, HasDependents, InUse, NotFound, OutOfCapacity, Unsupported, VmState
from bollard.transfer_objects.enums import DataStoreRole, StoragePoolType
from chain_rig import DISK, KIB, MIB, SIZE, ChainRig, call
from chain_site import VOLUME

pytestmark = pytest.mark.real


@pytest.fixture
def make_rig(tmp_path):
    """Make a rig; delta.max is 3."""
    rigs = []

    def make(**options) -> ChainRig:
        rigs.append(ChainRig(tmp_path, **options))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


ON_POSTGRESQL = pytest.param("primary, postgresql", marks=pytest.mark.slow)

pytest_plugins = ["catalog_fixture"]


@pytest.fixture(params=["primary", "secondary", "archive", ON_POSTGRESQL])
def rig(make_rig, request) -> ChainRig:
    """Set A, set B on a mounted directory, set B in an archive; set A with the catalog on PostgreSQL."""
    url = request.getfixturevalue("postgresql_url") if "postgresql" in request.param else ""
    rig = make_rig(backup="primary" not in request.param, catalog_url=url)
    rig.secondary = "archive" if request.param == "archive" else "sec-1"
    return rig


def five(rig: ChainRig) -> ChainRig:
    """Snapshots 1 to 5 as in A1 to A5: 1 <- 2 <- 3, 4 <- 5."""
    for number in range(1, 6):
        rig.write(f"{number * 512 + 8}k 64k")
        rig.take(f"s{number}")
    return rig


def test_a1_the_first_snapshot_is_a_full(rig):
    """The first one has no parent, and says why it is a full."""
    rig.write("0 128k")
    ref = rig.take("s1")

    assert (ref.parent, ref.full_reason, ref.end_of_chain) == (None, Reason.FIRST, False)
    assert ref.size == SIZE
    assert rig.is_whole("s1")
    assert rig.at_rest()


def test_a2_the_second_is_a_delta_of_the_right_size(rig):
    """It holds what was written since, and no more."""
    rig.write("0 2M")
    first = rig.take("s1")
    rig.write("1M 64k")
    second = rig.take("s2")

    assert (second.parent, second.full_reason) == (first.id, None)
    assert first.physical_size >= 2 * MIB or rig.secondary == "archive"
    assert second.physical_size < 640 * KIB
    assert rig.is_whole("s1", "s2")


def test_a2_backing_file_is_the_parent(make_rig):
    """QEMU's own tools see the chain: the names in the headers are right."""
    rig = make_rig()
    rig.write("0 1M")
    rig.take("s1")
    rig.write("64k 64k")
    rig.take("s2")

    with_tools = subprocess.run(
        ["qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", rig.directory / "pool/snapshots/s2", rig.disk],
        timeout=60,
    )
    assert with_tools.returncode == 0


def test_a3_the_third_ends_the_chain(rig):
    """With delta.max = 3 the third is a delta, and the end of its chain."""
    five(rig)
    third = rig.ref("s3")

    assert third.parent == rig.ref("s2").id
    assert (third.end_of_chain, third.end_reason) == (True, Reason.LENGTH)


def test_a4_the_next_is_a_full(rig):
    """Behind the end of a chain there is a full, which says so."""
    five(rig)

    assert (rig.ref("s4").parent, rig.ref("s4").full_reason) == (None, Reason.LENGTH)
    assert rig.is_whole("s1", "s2", "s3", "s4", "s5")


def test_a5_after_a_migration_there_is_a_delta(rig):
    """The checkpoint is registered again where the VM runs now: 5 is based on 4."""
    for number in range(1, 5):
        rig.write(f"{number * 512}k 64k")
        rig.take(f"s{number}")
    rig.host.define_anew(DISK.vm)
    rig.write("3M 4k")

    assert kvm.recreate_checkpoints(rig.site(), VOLUME, call())
    assert rig.take("s5").parent == rig.ref("s4").id
    assert rig.is_whole("s4", "s5")


def test_a6_volume_with_snapshots_on_primary_does_not_move(make_rig):
    """VM and volume are not migrated while snapshots would stay behind; with copies elsewhere they are."""
    rig = make_rig()
    rig.take("s1")
    with pytest.raises(HasDependents, match="only in primary storage"):
        kvm.check_move(rig.refs())

    kvm.copy(rig.site(), "s1", "sec-1", call())
    kvm.check_move(rig.refs())


@pytest.mark.parametrize("snapshot", ["s1", "s2"])
def test_a7_a8_revert_brings_back_what_was(rig, snapshot):
    """A full and a delta come back byte by byte; the chain ends, and the next one is a full."""
    five(rig)
    rig.revert(snapshot)

    assert rig.volume() == rig.contents[snapshot]
    assert rig.host.bitmaps(DISK.vm) == {}
    rig.write("0 4k")
    assert rig.take("s6").full_reason is Reason.REVERTED
    assert rig.is_whole("s1", "s2", "s3", "s4", "s5", "s6")
    assert rig.at_rest()


def test_a7_running_vm_is_not_reverted(rig):
    """The VM must be stopped; nothing changes."""
    rig.take("s1")
    rig.write("0 64k")
    rig.host.state = VmState.RUNNING
    before = rig.volume()

    with pytest.raises(InUse, match="must be stopped"):
        rig.revert("s1")
    assert rig.volume() == before


def test_a9_the_newest_goes_from_storage(rig):
    """Nobody is based on 5: its bytes and its bitmap go; the next one is a full, and says why."""
    five(rig)
    rig.delete("s5")

    assert rig.states()["s5"] == "Destroyed"
    assert not any("s5" in name for name in rig.files())
    assert rig.host.bitmaps(DISK.vm) == {}
    assert rig.take("s6").full_reason is Reason.NEWEST_DELETED
    assert rig.is_whole("s1", "s2", "s3", "s4", "s6")


def test_a10_the_root_stays_for_its_children(rig):
    """1 is gone for its user and stays on its store; what is based on it restores."""
    five(rig)
    rig.delete("s1")

    assert rig.states()["s1"] == "Hidden"
    assert any("s1" in name for name in rig.files())
    with pytest.raises(NotFound):
        rig.restored("s1")
    assert rig.is_whole("s2", "s3")


@pytest.mark.parametrize("order", [("s2", "s3"), ("s3", "s2")])
def test_a11_parents_go_with_the_last_child(rig, order):
    """After 1, then 2 and 3 in either order: nothing of the three is left."""
    five(rig)
    rig.delete("s1")
    for snapshot in order:
        rig.delete(snapshot)

    assert {rig.states()[one] for one in ("s1", "s2", "s3")} == {"Destroyed"}
    assert not any(one in name for name in rig.files() for one in ("s1", "s2", "s3"))
    assert rig.is_whole("s4", "s5")


def test_a11_the_mark_passes_to_the_last_alive_ancestor(rig):
    """When the end of a chain is deleted, nothing is hung onto what is left of it."""
    for number in range(1, 4):
        rig.write(f"{number * 512}k 64k")
        rig.take(f"s{number}")
    rig.delete("s2")
    rig.delete("s3")

    assert rig.states() == {"s1": "CreatedOnPrimary", "s2": "Destroyed", "s3": "Destroyed"} or (
        rig.states() == {"s1": "BackedUp", "s2": "Destroyed", "s3": "Destroyed"}
    )
    assert rig.ref("s1").end_reason is Reason.LENGTH
    assert rig.take("s4").full_reason is Reason.LENGTH


def test_a12_template_stands_alone(rig, tmp_path):
    """A template is one flat qcow2 file with what was there at the snapshot."""
    five(rig)
    kvm.template(rig.site(), "s5", tmp_path / "template.qcow2", call())

    raw = tmp_path / "template.raw"
    command = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", tmp_path / "template.qcow2", raw]
    subprocess.run(command, check=True, timeout=60)
    assert raw.read_bytes() == rig.contents["s5"]
    assert rig.at_rest()


def test_b1_migration_with_the_disk_ends_the_chain(rig):
    """The bitmaps stayed behind: the next one is a full, and says so."""
    rig.take("s1")
    kvm.end_chain(rig.site(), VOLUME, Reason.MIGRATED)

    assert rig.take("s2").full_reason is Reason.MIGRATED


@pytest.mark.parametrize("first", [False, True])
def test_c2_switching_the_role_makes_a_full(make_rig, first):
    """Primary to secondary and back: a full each time; the old chain restores and is deleted."""
    rig = make_rig(backup=first)
    for number, backup in enumerate([first, first, not first, not first], 1):
        rig.back_up(backup)
        rig.write(f"{number * 512}k 64k")
        rig.take(f"s{number}")

    assert [rig.ref(f"s{n}").full_reason for n in range(1, 5)] == [
        Reason.FIRST,
        None,
        Reason.ROLE_SWITCHED,
        None,
    ]
    assert rig.is_whole("s1", "s2", "s3", "s4")
    for number in (2, 1, 4, 3):
        rig.delete(f"s{number}")
    assert rig.files() == []


def test_c3_children_are_searched_on_all_stores(make_rig):
    """1 on sec-1 stays when it is deleted, since 2 on sec-2 is based on it; then both go."""
    rig = make_rig(backup=True)
    rig.write("0 1M")
    first = rig.take("s1")
    rig.secondary = "sec-2"
    rig.write("64k 64k")
    second = rig.take("s2")
    assert (first.store, second.store, second.parent) == ("sec-1", "sec-2", first.id)

    rig.delete("s1")
    assert rig.files("sec-1") != []
    assert rig.is_whole("s2")

    rig.delete("s2")
    assert rig.files() == []


def test_c3_archives_do_not_share_parts(make_rig):
    """An increment in an archive needs its parent there: on another store it is a full, and says so."""
    rig = make_rig(backup=True)
    rig.take("s1")
    rig.secondary = "archive"

    assert rig.take("s2").full_reason is Reason.OTHER_STORE
    assert rig.is_whole("s1", "s2")


def test_c4_whole_chain_moves(make_rig):
    """From two stores to one: deltas stay deltas, QEMU's tools find the backing files, the old ones go."""
    rig = make_rig(backup=True)
    rig.write("0 1M")
    rig.take("s1")
    rig.write("64k 64k")
    rig.take("s2")
    rig.secondary = "sec-2"
    rig.write("1M 64k")
    rig.take("s3")
    size = rig.ref("s3").physical_size

    kvm.migrate(rig.site(), VOLUME, "sec-1", "sec-2", call())

    assert rig.files("sec-1") == []
    assert {ref.store for ref in rig.refs()} == {"sec-2"}
    assert rig.is_whole("s1", "s2", "s3")
    top = rig.directory / "sec-2/snapshots/s3"
    assert top.stat().st_blocks * 512 <= size + 64 * KIB
    command = ["qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", top, rig.disk]
    assert subprocess.run(command, timeout=60).returncode == 0
    rig.settings.set("snapshot.delta.max", 16)
    assert rig.at_rest()


def test_c4_the_next_one_is_based_on_what_moved(make_rig):
    """A migration of snapshots does not end a chain (apache/cloudstack#9430)."""
    rig = make_rig(backup=True)
    first = rig.take("s1")
    kvm.migrate(rig.site(), VOLUME, "sec-1", "sec-2", call())
    rig.write("0 64k")

    second = rig.take("s2")
    assert (second.store, second.parent) == ("sec-1", first.id)
    assert rig.is_whole("s1", "s2")


def test_c5_physical_size_is_what_the_store_holds(make_rig):
    """A delta of 64 KiB takes about that, not the size of the volume."""
    rig = make_rig()
    rig.write("0 2M")
    rig.take("s1")
    rig.write("0 64k")
    ref = rig.take("s2")

    assert ref.physical_size == (rig.directory / "pool/snapshots/s2").stat().st_blocks * 512
    assert rig.record("s2").size == SIZE


def test_c6_stop_and_start_keep_the_chain(rig):
    """The register of checkpoints is gone, the bitmap is not: the saved text brings it back."""
    first = rig.take("s1")
    rig.write("0 64k")
    rig.host.define_anew(DISK.vm)

    assert rig.take("s2").parent == first.id
    assert rig.is_whole("s1", "s2")


def test_c8_old_versions_are_an_error_and_leave_nothing(rig):
    """Never a silent full: the hypervisor's words reach the user, and no file, bitmap or intent is left."""
    rig.host.fault = Unsupported("libvirt 7.0.0 is too old, 7.6.0 is needed")

    with pytest.raises(Unsupported, match=r"7\.6\.0"):
        rig.take("s1")
    assert rig.states() == {"s1": "Error"}
    assert "7.6.0" in rig.record("s1").error
    assert rig.files() == []
    assert rig.at_rest()

    rig.take("s1")
    assert rig.is_whole("s1")


def test_c8_error_can_be_deleted(rig):
    """An Error is not for ever: deleting it is fine, also twice."""
    rig.host.fault = Unsupported("too old")
    with pytest.raises(Unsupported):
        rig.take("s1")
    rig.delete("s1")
    rig.delete("s1")

    assert rig.states() == {"s1": "Destroyed"}


def test_c10_volume_with_a_template_has_a_full_that_stands_alone(make_rig, tmp_path):
    """A full of a template-based volume holds what it reads, not what it has written."""
    rig = make_rig()
    rig.write("0 1M")
    template = rig.disk.rename(tmp_path / "template.qcow2")
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", template, "-F", "qcow2", rig.disk]
    subprocess.run(command, check=True, timeout=60)
    rig.write("2M 64k")
    content = rig.volume()
    rig.take("s1")
    template.unlink()

    assert rig.restored("s1") == content


def test_c13_lost_power_makes_a_full_with_the_reason(rig):
    """Bitmaps of a killed QEMU are inconsistent: a full, and they are cleaned away."""
    rig.take("s1")
    rig.write("0 64k")
    rig.host.cut_power(DISK.vm)
    assert "in-use" in rig.host.bitmaps(DISK.vm)["s1"]

    second = rig.take("s2")
    assert (second.parent, second.full_reason) == (None, Reason.LOST_CHECKPOINT)
    assert list(rig.host.bitmaps(DISK.vm)) == ["s2"]
    rig.write("64k 64k")
    assert rig.take("s3").parent == second.id
    assert rig.is_whole("s1", "s2", "s3")


def test_c13_after_a_start_the_loss_is_known_at_once(rig):
    """Registering the checkpoints again tells that the chain has ended."""
    rig.take("s1")
    rig.host.define_anew(DISK.vm)
    rig.host.cut_power(DISK.vm)

    assert not kvm.recreate_checkpoints(rig.site(), VOLUME, call())
    assert rig.ref("s1").end_reason is Reason.LOST_CHECKPOINT


def test_c16_hidden_copy_is_shown_again(make_rig):
    """Copy to a zone, delete there while children need it, copy again: the ref is revived."""
    rig = make_rig(backup=True)
    rig.write("0 1M")
    rig.take("s1")
    kvm.copy(rig.site(), "s1", "sec-2", call())
    assert [(ref.store, ref.full_reason) for ref in rig.refs()] == [
        ("sec-1", Reason.FIRST),
        ("sec-2", Reason.COPIED),
    ]
    rig.write("0 64k")
    second = rig.take("s2")
    assert second.parent == rig.refs()[0].id  # a copy without checkpoint does not stand in the way

    kvm.delete(rig.site(), "s1", call(), store="sec-1")
    assert rig.states()["s1"] == "BackedUp"
    assert rig.refs()[0].state is RefState.HIDDEN
    assert rig.is_whole("s1", "s2")  # from sec-2

    kvm.copy(rig.site(), "s1", "sec-1", call())
    assert rig.refs()[0].state is RefState.READY
    rig.delete("s1")
    rig.delete("s2")
    assert rig.files() == []


def test_c17_growing_keeps_the_chain(rig):
    """Each snapshot has the size of its time, and what is behind the old end is in the delta."""
    rig.write("3M 1M")
    first = rig.take("s1")
    rig.host.resize(DISK.vm, SIZE + MIB)
    rig.write("4M 64k")
    second = rig.take("s2")

    assert second.parent == first.id
    assert (rig.record("s1").size, rig.record("s2").size) == (SIZE, SIZE + MIB)
    assert rig.is_whole("s1", "s2")
    rig.revert("s1")
    assert len(rig.volume()) == SIZE


def test_c17_shrinking_ends_the_chain(rig):
    """A smaller volume is a full, whatever the bitmap says."""
    rig.write("3M 1M")
    rig.take("s1")
    rig.host.resize(DISK.vm, 2 * MIB)
    second = rig.take("s2")

    assert second.full_reason in (Reason.SHRUNK, Reason.LOST_CHECKPOINT)
    assert rig.is_whole("s1", "s2")


def test_setting_off_makes_fulls_without_checkpoints(rig):
    """Off: a full, no bitmap stays; on again: a full with the reason, then deltas."""
    rig.take("s1")
    rig.enable(False)
    assert rig.take("s2").full_reason is Reason.SETTING_OFF
    assert rig.host.bitmaps(DISK.vm) == {}

    rig.enable(True)
    third = rig.take("s3")
    assert third.full_reason is Reason.SETTING_OFF
    assert rig.take("s4").parent == third.id
    assert rig.is_whole("s1", "s2", "s3", "s4")


def _no_increments(rig: ChainRig, on: bool) -> None:
    rig.enable(not on)


def _other_role(rig: ChainRig, on: bool) -> None:
    rig.back_up(on)


def _shorter(rig: ChainRig, on: bool) -> None:
    rig.settings.set("snapshot.delta.max", 1 if on else 3)


@pytest.mark.parametrize(
    ("switch", "reason"),
    [
        (_no_increments, Reason.SETTING_OFF),
        (_other_role, Reason.ROLE_SWITCHED),
        (_shorter, Reason.LENGTH),
    ],
)
def test_a_full_that_fails_leaves_the_chain_as_it_was(make_rig, monkeypatch, switch, reason):
    """A switched setting ends a chain when its full is there, not before: switched back, deltas go on."""
    rig = make_rig()
    rig.write("0 1M")
    first = rig.take("s1")
    switch(rig, True)
    with monkeypatch.context() as patch:
        patch.setattr(delta, "transfer", _no_space)
        with pytest.raises(OutOfCapacity):
            rig.take("s2")
    assert rig.at_rest()
    assert (rig.states()["s2"], rig.ref("s1").end_of_chain) == ("Error", False)

    switch(rig, False)
    rig.write("1M 64k")
    assert rig.take("s3").parent == first.id
    switch(rig, True)
    assert rig.take("s4").full_reason is reason
    assert rig.ref("s3").end_reason is reason
    assert rig.is_whole("s1", "s3", "s4")


def _no_space(*_arguments: object) -> None:
    raise OutOfCapacity("no space left")


@pytest.mark.parametrize("pool_type", [StoragePoolType.CLVM, StoragePoolType.RBD])
def test_pools_without_files_are_refused(rig, pool_type):
    """CLVM and RBD have full snapshots, by other means; nothing is recorded."""
    rig.pool_type = pool_type

    with pytest.raises(Unsupported, match="pool of files"):
        rig.take("s1")
    assert rig.states() == {}


def test_taking_again_returns_the_same(rig):
    """A repeat with the same id never makes a later cut."""
    first = rig.take("s1")
    rig.write("0 64k")

    assert rig.take("s1").id == first.id
    assert rig.is_whole("s1")


def test_one_snapshot_of_a_volume_at_a_time(make_rig):
    """While one is being made, another is told to wait."""
    rig = make_rig()
    rig.host.fault = Busy("another job runs on the VM")
    with pytest.raises(Busy):
        rig.take("s1")
    assert rig.states() == {"s1": "Error"}
    assert rig.at_rest()


def test_only_the_newest_has_a_bitmap(rig):
    """The parent's checkpoint goes when the child is committed: guests do not pay for old ones."""
    five(rig)

    assert list(rig.host.bitmaps(DISK.vm)) == ["s5"]
    assert [ref.snapshot for ref in rig.refs() if ref.tracking] == ["s5"]


def test_roles_are_recorded(rig):
    """Where a snapshot rests is told by its state."""
    ref = rig.take("s1")

    on_primary = ref.role is DataStoreRole.PRIMARY
    assert rig.states()["s1"] == ("CreatedOnPrimary" if on_primary else "BackedUp")


def test_deletion_does_not_wait_for_a_listing_that_lags(make_rig):
    """Each ref that goes would wait a minute on Swift; the space is freed afterwards, in one go."""
    rig = make_rig(backup=True, lagging=True)
    rig.secondary = "archive"
    for number in (1, 2):
        rig.write(f"{number}M 64k")
        rig.take(f"s{number}")
    rig.delete("s1")
    rig.delete("s2")
    assert rig.pauses == []
    parts = rig.directory / "archive" / "v1"
    assert parts.exists()

    kvm.free(rig.site(), VOLUME, call())
    assert len(rig.pauses) == 1
    assert not parts.exists()
