"""Scenarios A and B of KVM's incremental snapshots: the life of one real guest, files read inside it.

Each set is played once, chapter by chapter (tests/lib/kvm_scenario.py); each test asserts on a chapter.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bollard.core.catalog.snapshots import Reason, Ref
from bollard.core.snapshots import kvm
from bollard.core.spi import HasDependents, StorageError
from bollard.transfer_objects.ids import SnapshotId
from kvm_driving import call
from kvm_lab import Disk, Host, Lab
from kvm_scenario import SIZE, Scenario, Story, checksums, linked

pytestmark = [pytest.mark.real(root=True), pytest.mark.slow]

KIB, MIB = 1024, 1024 * 1024


def a1(rig: Scenario) -> Ref:
    """Running, file 1, snapshot 1."""
    rig.write("file-1", 4096)
    return rig.take("s1")


def a2(rig: Scenario) -> Ref:
    """Running, file 2, snapshot 2."""
    rig.write("file-2")
    return rig.take("s2")


def a3(rig: Scenario) -> Ref:
    """File 3, stop, snapshot 3."""
    rig.write("file-3")
    rig.stop()
    return rig.take("s3")


def a4(rig: Scenario) -> Ref:
    """Start, file 4, snapshot 4."""
    assert rig.start()
    rig.write("file-4")
    return rig.take("s4")


def a5(rig: Scenario) -> Ref:
    """Live migration of the VM, file 5, snapshot 5."""
    assert rig.migrate(rig.hosts[1])
    rig.write("file-5")
    ref = rig.take("s5")
    rig.look("s1", "s2", "s3", "s4", "s5")
    return ref


def a6(rig: Scenario) -> StorageError:
    """Migration of the VM with its volume, which is refused."""
    with pytest.raises(HasDependents) as caught:
        rig.migrate_with_disk(rig.hosts[0])
    return caught.value


def a7(rig: Scenario) -> None:
    """Delete files, stop, revert to 1, start."""
    rig.remove("file-1", "file-2")
    rig.stop()
    rig.revert("s1")
    rig.start()


def a8(rig: Scenario) -> None:
    """Delete file 1, stop, revert to 2, start."""
    rig.remove("file-1")
    rig.stop()
    rig.revert("s2")
    rig.start()


def a9(rig: Scenario) -> None:
    """Delete 5."""
    rig.delete("s5")


def a10(rig: Scenario) -> None:
    """Delete 1."""
    rig.delete("s1")


def a11(rig: Scenario) -> None:
    """Delete 3, then 2."""
    rig.delete("s3")
    rig.delete("s2")


def b1(rig: Scenario) -> Ref:
    """Live migration of the VM with its volume, snapshot 6."""
    rig.take("before")  # after the revert it is a full: a chain that the migration can end
    rig.migrate_with_disk(rig.hosts[0])
    rig.write("file-6")
    return rig.take("s6")


def b2(rig: Scenario) -> Ref:
    """Stop, move the volume, snapshot 7."""
    rig.write("file-7")
    rig.stop()
    assert rig.move_stopped_disk()
    return rig.take("s7")


def b3(rig: Scenario) -> None:
    """Start once more, so that files can be read."""
    assert rig.start()
    rig.look("s6", "s7")


def a12(rig: Scenario) -> None:
    """A template from 4, and another VM deployed from it; what it sees is kept as if it were written."""
    path = rig.directory / "template.qcow2"
    kvm.template(rig.site(), SnapshotId("s4"), path, call())
    disk = rig.directory / "deployed.qcow2"
    linked(disk, path)
    deployed = rig.lab.template.clone(rig.hosts[0], rig.directory, [Disk(disk, "deployed")])
    try:
        rig.written["deployed"] = checksums(deployed, deployed.mounted("deployed"))
    finally:
        deployed.remove()


PRIMARY = (a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12)
SECONDARY = (a1, a2, a3, a4, a5, a7, a8, a9, a10, a11, a12, b1, b2, b3)
ON_BOTH = ("primary", "secondary")


@pytest.fixture(scope="module")
def story(kvm_lab: Lab, kvm_host: Host, second_host: Host, request: pytest.FixtureRequest) -> Iterator[Story]:
    """Set A or set B."""
    backup = request.param == "secondary"
    rig = Scenario(kvm_lab, kvm_host, second_host, backup=backup)
    yield Story(rig, SECONDARY if backup else PRIMARY)
    rig.close()


def on(*sets: str) -> pytest.MarkDecorator:
    """Say in which sets a chapter is."""
    return pytest.mark.parametrize("story", sets, indirect=True, scope="module")


@on(*ON_BOTH)
def test_a1_the_first_snapshot_of_a_running_guest_is_a_full(story: Story) -> None:
    """Snapshot 1 is a full that needs no other file, and its guest is left as it was."""
    seen = story.after("a1")
    assert seen.ref
    assert (seen.ref.parent, seen.ref.full_reason) == (None, Reason.FIRST)
    assert (seen.ref.size, seen.left, seen.bitmaps) == (SIZE, [], ["s1"])
    assert story.rig.written["s1"] == seen.files
    assert list(seen.files) == ["file-1"]


@on(*ON_BOTH)
def test_a2_the_second_is_an_increment_of_the_right_size(story: Story) -> None:
    """Snapshot 2 names 1 as its backing file, and takes about what the guest has written since."""
    first, seen = story.after("a1").ref, story.after("a2")
    assert seen.ref
    assert first
    assert (seen.ref.parent, seen.ref.full_reason) == (first.id, None)
    assert story.rig.backings["s2"] == "s1"
    assert 64 * KIB <= seen.ref.physical_size < 2 * MIB < 4 * MIB <= first.physical_size
    assert (seen.left, seen.bitmaps) == ([], ["s2"])


@on(*ON_BOTH)
def test_a3_of_a_stopped_vm_it_is_an_increment_that_ends_the_chain(story: Story) -> None:
    """Snapshot 3 is taken while the VM is off, is based on 2, and with delta.max = 3 it is the last."""
    seen = story.after("a3")
    second = story.after("a2").ref
    assert seen.ref
    assert second
    assert (seen.ref.parent, story.rig.backings["s3"]) == (second.id, "s2")
    assert (seen.ref.end_of_chain, seen.ref.end_reason) == (True, Reason.LENGTH)
    assert (seen.left, seen.bitmaps) == ([], ["s3"])


@on(*ON_BOTH)
def test_a4_after_a_start_there_is_a_full(story: Story) -> None:
    """Snapshot 4 begins a new chain, because the old one is as long as it may be."""
    seen = story.after("a4")
    assert seen.ref
    assert (seen.ref.parent, seen.ref.full_reason) == (None, Reason.LENGTH)
    assert list(seen.files) == ["file-1", "file-2", "file-3", "file-4"]
    assert (seen.left, seen.bitmaps) == ([], ["s4"])


@on(*ON_BOTH)
def test_a5_after_a_live_migration_there_is_an_increment(story: Story) -> None:
    """Snapshot 5, taken on the other host, is based on 4, which was taken on the first."""
    fourth, seen = story.after("a4").ref, story.after("a5")
    assert seen.ref
    assert fourth
    assert (seen.ref.parent, story.rig.backings["s5"]) == (fourth.id, "s4")
    assert seen.ref.physical_size < fourth.physical_size / 2
    assert (seen.left, seen.bitmaps) == ([], ["s5"])


@on(*ON_BOTH)
@pytest.mark.parametrize("number", range(1, 6))
def test_a5_each_snapshot_has_the_files_of_its_time(story: Story, number: int) -> None:
    """A volume made from each of the five, plugged into the guest, has what was there, byte by byte."""
    story.after("a5")
    assert len(story.rig.written[f"s{number}"]) == number
    assert story.rig.restored[f"s{number}"] == story.rig.written[f"s{number}"]


@on("primary")
def test_a6_the_vm_does_not_move_with_its_volume(story: Story) -> None:
    """While snapshots lie on primary storage only it is refused, and nothing has changed."""
    before, seen = story.after("a5"), story.after("a6")
    assert isinstance(seen.refused, HasDependents)
    assert "only in primary storage" in seen.refused.message
    assert (seen.files, seen.stored, seen.states) == (before.files, before.stored, before.states)
    assert (seen.left, seen.bitmaps) == ([], ["s5"])


@on(*ON_BOTH)
def test_a7_revert_to_a_full(story: Story) -> None:
    """After the guest deleted files and was put back to 1 it boots with file 1, and not with file 2."""
    seen = story.after("a7")
    assert list(seen.files) == ["file-1"]
    assert seen.files == story.rig.written["s1"]
    assert (seen.left, seen.bitmaps) == ([], [])


@on(*ON_BOTH)
def test_a8_revert_to_an_increment(story: Story) -> None:
    """Put back to 2 it boots with files 1 and 2."""
    seen = story.after("a8")
    assert list(seen.files) == ["file-1", "file-2"]
    assert seen.files == story.rig.written["s2"]
    assert seen.left == []


@on(*ON_BOTH)
def test_a9_the_newest_goes_from_storage(story: Story) -> None:
    """Nothing is based on 5: its files go, those of 4 stay."""
    before, seen = story.after("a8"), story.after("a9")
    assert seen.states["s5"] == "Destroyed"
    assert {one for one in before.stored if one not in seen.stored} == {
        one for one in before.stored if one.endswith("/s5")
    }
    assert seen.left == []


@on(*ON_BOTH)
def test_a10_the_root_is_gone_for_its_user_only(story: Story) -> None:
    """1 is Hidden, and its file stays for 2 and 3."""
    before, seen = story.after("a9"), story.after("a10")
    assert seen.states["s1"] == "Hidden"
    assert seen.stored == before.stored


@on(*ON_BOTH)
def test_a11_the_whole_chain_goes_with_its_last_child(story: Story) -> None:
    """After 3 and 2 are deleted nothing of 1, 2 and 3 is left; 4 is."""
    seen = story.after("a11")
    assert [seen.states[f"s{number}"] for number in (1, 2, 3)] == ["Destroyed"] * 3
    assert {one.split("/")[-1] for one in seen.stored} == {"s4"}
    assert seen.left == []


@on(*ON_BOTH)
def test_a12_a_vm_deployed_from_a_template_of_4(story: Story) -> None:
    """It sees the files as they were at snapshot 4."""
    story.after("a12")
    assert story.rig.written["deployed"] == story.rig.written["s4"]
    assert len(story.rig.written["deployed"]) == 4


@on("secondary")
def test_b1_after_a_migration_with_the_volume_there_is_a_full(story: Story) -> None:
    """Snapshot 6 says that the VM was migrated with its volume; the guest has lost nothing."""
    before, seen = story.after("a12"), story.after("b1")
    assert seen.ref
    assert (seen.ref.parent, seen.ref.full_reason) == (None, Reason.MIGRATED)
    assert story.rig.ref("before").full_reason is Reason.REVERTED
    assert seen.files == {**before.files, "file-6": seen.files["file-6"]}
    assert (seen.left, seen.bitmaps) == ([], ["s6"])


@on("secondary")
def test_b2_after_a_cold_migration_there_is_an_increment(story: Story) -> None:
    """Snapshot 7 is based on 6: the bitmap was copied with the volume; both have what was there."""
    sixth, seen = story.after("b1").ref, story.after("b2")
    assert seen.ref
    assert sixth
    assert (seen.ref.parent, story.rig.backings["s7"]) == (sixth.id, "s6")
    assert (seen.left, seen.bitmaps) == ([], ["s7"])
    assert story.after("b3").files == story.rig.written["s7"]
    for snapshot in ("s6", "s7"):
        assert story.rig.restored[snapshot] == story.rig.written[snapshot]
