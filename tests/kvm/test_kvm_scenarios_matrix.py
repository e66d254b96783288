"""Scenario C1 of KVM's incremental snapshots: both settings, on and off, each with a life of a real guest.

increments off, backup off     fulls in the pool          increments on, backup off     a chain in the pool
increments off, backup on      fulls on secondary         increments on, backup on      a chain on secondary

Of each: create, restore, delete, hot and cold migration, template and volume from both snapshots; with
backup, a copy of both to another zone (sec-2), where they are used after they were deleted here. C7 is the
snapshot after the cold migration.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bollard.core.catalog.snapshots import Reason, Ref, refs_of_volume
from bollard.core.settings import INCREMENTAL_SNAPSHOT
from bollard.core.snapshots import kvm
from bollard.core.spi import HasDependents, StorageError
from bollard.transfer_objects.ids import SnapshotId
from chain_site import VOLUME
from kvm_driving import call
from kvm_lab import Disk, Host, Lab
from kvm_scenario import Scenario, Story, checksums, linked

pytestmark = [pytest.mark.real(root=True), pytest.mark.slow]

MIB = 1024 * 1024
BOTH = ("s1", "s2")


def create(rig: Scenario) -> Ref:
    """Snapshots 1 and 2 of the running guest."""
    rig.write("file-1", 2048)
    rig.take("s1")
    rig.write("file-2")
    return rig.take("s2")


def volumes(rig: Scenario) -> None:
    """A volume from each is plugged into the guest."""
    rig.look(*BOTH)


def deploy(rig: Scenario) -> None:
    """A template from each, and a VM on both; what it sees is kept as if it were written."""
    disks = []
    for snapshot in BOTH:
        template, disk = (rig.directory / f"{kind}-{snapshot}.qcow2" for kind in ("template", "deployed"))
        kvm.template(rig.site(), SnapshotId(snapshot), template, call())
        linked(disk, template)
        disks.append(Disk(disk, f"on-{snapshot}"))
    deployed = rig.lab.template.clone(rig.hosts[0], rig.directory, disks)
    try:
        for snapshot in BOTH:
            name = f"on-{snapshot}"
            rig.written[name] = checksums(deployed, deployed.mounted(name))
    finally:
        deployed.remove()


def hot(rig: Scenario) -> None:
    """Live migration of the VM."""
    rig.migrate(rig.hosts[1])


def cold(rig: Scenario) -> Ref | StorageError:
    """Stop, and move the volume; snapshot 3, or the refusal."""
    rig.write("file-3")
    rig.stop()
    try:
        with rig.site().catalog.transaction() as session:
            kvm.check_move(refs_of_volume(session, VOLUME))
    except HasDependents as refused:
        rig.start()
        return refused
    rig.move_stopped_disk()
    ref = rig.take("s3")
    rig.start()
    rig.look("s3")
    return ref


def copied(rig: Scenario) -> None:
    """Both are copied to the other zone, deleted here, and used there."""
    for snapshot in BOTH:
        kvm.copy(rig.site(), SnapshotId(snapshot), "sec-2", call())
    for snapshot in BOTH:
        kvm.delete(rig.site(), SnapshotId(snapshot), call(), store="sec-1")
        del rig.restored[snapshot]
    rig.look(*BOTH)


def restore(rig: Scenario) -> None:
    """The guest loses a file, and its stopped VM is put back to 2."""
    rig.remove("file-1")
    rig.stop()
    rig.revert("s2")
    rig.start()


def delete(rig: Scenario) -> None:
    """All are deleted, in the order in which they were made."""
    for snapshot in rig.states():
        rig.delete(snapshot)


SETTINGS = [(False, False), (False, True), (True, False), (True, True)]
IDS = ["fulls-pool", "fulls-secondary", "chain-pool", "chain-secondary"]


@pytest.fixture(scope="module")
def story(kvm_lab: Lab, kvm_host: Host, second_host: Host, request: pytest.FixtureRequest) -> Iterator[Story]:
    """The life of a guest with these settings."""
    increments, backup = request.param
    rig = Scenario(kvm_lab, kvm_host, second_host, backup=backup)
    rig.enable(increments)
    chapters = (create, volumes, deploy, hot, cold, *([copied] if backup else []), restore, delete)
    yield Story(rig, chapters)
    rig.close()


def settings(*only: str) -> pytest.MarkDecorator:
    """Say with which settings a test is about something."""
    chosen = [pytest.param(pair, id=name) for pair, name in zip(SETTINGS, IDS, strict=True) if name in only]
    return pytest.mark.parametrize("story", chosen, indirect=True, scope="module")


@settings(*IDS)
def test_c1_create(story: Story) -> None:
    """2 is based on 1 where increments are on, else both stand alone; they lie where the setting says."""
    seen, first = story.after("create"), story.rig.ref("s1")
    assert seen.ref
    increments = story.rig.site().settings.get(INCREMENTAL_SNAPSHOT, story.rig.place().where)
    assert seen.ref.parent == (first.id if increments else None)
    assert story.rig.backings == {"s1": "", "s2": "s1" if increments else ""}
    place = seen.ref.store
    assert seen.stored[-2:] == [f"{place}/snapshots/s1", f"{place}/snapshots/s2"]
    assert (seen.left, seen.bitmaps) == ([], ["s2"] if increments else [])


@settings(*IDS)
def test_c1_volumes_are_made_and_attached(story: Story) -> None:
    """A volume from each has the files of its time."""
    seen = story.after("volumes")
    for snapshot, count in zip(BOTH, (1, 2), strict=True):
        assert story.rig.restored[snapshot] == story.rig.written[snapshot]
        assert len(story.rig.written[snapshot]) == count
    assert seen.left == []


@settings(*IDS)
def test_c1_templates_are_deployed(story: Story) -> None:
    """A VM that was deployed from templates of both sees the files of either time."""
    story.after("deploy")
    for snapshot in BOTH:
        assert story.rig.written[f"on-{snapshot}"] == story.rig.written[snapshot]


@settings(*IDS)
def test_c1_hot_migration(story: Story) -> None:
    """The guest goes on with its files on the other host, and nothing is left behind."""
    before, seen = story.after("deploy"), story.after("hot")
    assert (seen.files, seen.states, seen.left) == (before.files, before.states, [])


@settings("fulls-pool", "chain-pool")
def test_c1_cold_migration_is_refused(story: Story) -> None:
    """A volume whose snapshots lie only in its pool does not leave that; nothing has changed."""
    before, seen = story.after("hot"), story.after("cold")
    assert isinstance(seen.refused, HasDependents)
    assert (seen.stored, seen.states, seen.left) == (before.stored, before.states, [])


@settings("fulls-secondary", "chain-secondary")
def test_c7_after_a_cold_migration_the_parent_is_found(story: Story) -> None:
    """The next one is based on 2, where increments are on, and a volume from it has the files."""
    second, seen = story.after("create").ref, story.after("cold")
    assert seen.ref
    assert second
    increments = seen.ref.full_reason is None
    assert (seen.ref.parent, story.rig.backings["s3"]) == ((second.id, "s2") if increments else (None, ""))
    assert increments is (second.parent is not None)
    assert len(story.rig.written["s3"]) == 3
    assert story.rig.restored["s3"] == story.rig.written["s3"]
    assert seen.left == []


@settings("fulls-secondary", "chain-secondary")
def test_c1_both_are_copied_to_another_zone_and_used_there(story: Story) -> None:
    """The copies stand alone: they have the files, although both were deleted here."""
    seen = story.after("copied")
    for snapshot in BOTH:
        assert story.rig.ref(snapshot).store == "sec-2"
        assert story.rig.ref(snapshot).full_reason is Reason.COPIED
        assert story.rig.restored[snapshot] == story.rig.written[snapshot]
    assert seen.left == []


@settings(*IDS)
def test_c1_restore(story: Story) -> None:
    """Put back to 2 the guest boots with both files, and without what came later."""
    seen = story.after("restore")
    assert seen.files == story.rig.written["s2"]
    assert seen.left == []


@settings(*IDS)
def test_c1_delete(story: Story) -> None:
    """After all were deleted no file is left, in the pool or in any zone."""
    seen = story.after("delete")
    assert (seen.stored, set(seen.states.values())) == ([], {"Destroyed"})
    assert (seen.left, seen.bitmaps) == ([], [])
