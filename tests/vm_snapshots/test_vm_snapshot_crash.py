"""A management server that dies between two steps: the next one asks the backends, and nothing is left."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bollard.core.spi import VmState
from bollard.core.vm_snapshots.states import ACTIVE, State
from bollard.transfer_objects.ids import VmSnapshotId
from vm_cloud import VM, SimulatedCloud, call
from vm_deaths import dying

KINDS = {
    "files": ("KVM", ("file", "file")),
    "mixed": ("KVM", ("array", "file")),
    "hypervisor": ("VMware", ("file", "file")),
}
_numbers = itertools.count(1)
STEPS = 400  # more than any of the operations has


@pytest.fixture(scope="module", params=list(KINDS))
def cloud(request):
    """A cloud for all deaths of one kind; in memory where that can be had, for its thousands of fsyncs."""
    personality, disks = KINDS[request.param]
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a directory of its own in it
    with (
        tempfile.TemporaryDirectory(dir=memory) as directory,
        SimulatedCloud(Path(directory), disks, personality=personality) as opened,
    ):
        yield opened


def write_all(cloud: SimulatedCloud, name: str) -> None:
    """The guest writes a file on each disk."""
    for disk in range(len(cloud.volumes)):
        cloud.write(name, name, disk)


def names(cloud: SimulatedCloud) -> set[str]:
    """The files on all disks: the same on each, whatever died when."""
    if cloud.state() is VmState.STOPPED:
        cloud.start()
    found = [set(cloud.read(disk)) for disk in range(len(cloud.volumes))]
    assert all(one == found[0] for one in found), found
    return found[0]


def synced(cloud: SimulatedCloud) -> None:
    """After a sync nothing is under way and no guest is frozen; a second one finds nothing to do."""
    for ended in cloud.sync.all(call()):
        assert ended.error == "", ended
    assert cloud.sync.all(call()) == []
    assert not [one for one in cloud.records.of_vm(VM) if one.state in ACTIVE]
    assert cloud.records.tree(VM).problems() == []
    if cloud.state() is VmState.RUNNING:
        assert not cloud.frozen()


def empty(cloud: SimulatedCloud) -> None:
    """All snapshots can be deleted, and then no file and no snapshot is left anywhere."""
    for one in cloud.manager.list(VM):
        cloud.delete(one.id)
    assert cloud.records.of_vm(VM) == []
    assert cloud.files() == []


def die_everywhere(
    cloud: SimulatedCloud,
    monkeypatch,
    prepare: Callable[[str], None],
    act: Callable[[str], object],
    check: Callable[[str], None],
) -> int:
    """Run `act` on prepared clouds, dying one step later each time, until it survives; returns the deaths."""
    for at in range(1, STEPS):
        name = f"s{next(_numbers)}"  # ids are never used twice
        if cloud.state() is VmState.STOPPED:
            cloud.start()
        prepare(name)
        with dying(cloud, monkeypatch, at) as mortal:
            act(name)
        synced(cloud)
        check(name)
        empty(cloud)
        if not mortal.dead:
            return at - 1
    raise AssertionError("it has more steps than expected")


@pytest.mark.slow
@pytest.mark.parametrize("quiesce", [False, True])
def test_a_creation_is_whole_or_undone(cloud, monkeypatch, quiesce):
    """A Ready one holds its instant; of another one nothing is left. The guest keeps every file."""

    def check(name: str) -> None:
        found = cloud.records.find(VmSnapshotId(name))
        state = None if found is None else found.state
        assert state in (None, State.READY, State.ERROR, State.REMOVED)
        assert f"before-{name}" in names(cloud)
        write_all(cloud, f"after-{name}")
        if state is State.READY:
            cloud.revert(name)
            assert f"before-{name}" in names(cloud)
            assert f"after-{name}" not in names(cloud)
        else:
            if state is State.ERROR:
                cloud.delete(name)
            assert cloud.files() == []
            cloud.take(f"again-{name}")

    deaths = die_everywhere(
        cloud,
        monkeypatch,
        lambda name: write_all(cloud, f"before-{name}"),
        lambda name: cloud.take(name, quiesce=quiesce),
        check,
    )
    assert deaths >= 10


@pytest.mark.slow
def test_a_revert_is_whole_or_has_not_begun(cloud, monkeypatch):
    """All disks are the snapshot's, or all are as they were; it can be done again."""

    def prepare(name: str) -> None:
        write_all(cloud, f"before-{name}")
        cloud.take(name)
        write_all(cloud, f"after-{name}")
        cloud.take(f"child-{name}")
        write_all(cloud, f"later-{name}")

    def check(name: str) -> None:
        there = {one for one in names(cloud) if one.endswith(f"-{name}")}
        assert there in ({f"before-{name}"}, {f"before-{name}", f"after-{name}", f"later-{name}"})
        current = cloud.records.tree(VM).current()
        assert current is not None
        assert current.id == (name if len(there) == 1 else f"child-{name}")
        cloud.revert(f"child-{name}")
        assert {f"before-{name}", f"after-{name}"} <= names(cloud)
        assert f"later-{name}" not in names(cloud)
        cloud.revert(name)
        assert f"after-{name}" not in names(cloud)

    deaths = die_everywhere(cloud, monkeypatch, prepare, cloud.revert, check)
    assert deaths >= 10


# Arrays have no chains, so that in a mixed VM the middle and the leaf are what they are among files.
_DELETIONS = [
    (kind, which)
    for kind in KINDS
    for which in ("root", "middle", "leaf", "hidden")
    if kind != "mixed" or which in ("root", "hidden")
]


@pytest.mark.slow
@pytest.mark.parametrize(("cloud", "which"), _DELETIONS, indirect=["cloud"])
def test_a_deletion_goes_on(cloud, monkeypatch, which):
    """It is gone after the sync, the guest has all its files, the others hold their instants."""

    def prepare(name: str) -> None:
        for part in ("root", "middle", "leaf"):
            write_all(cloud, f"{part}-{name}")
            cloud.take(f"{part}-{name}")
        if which == "hidden":  # two stand on the root: the present branch and the one that is left
            cloud.revert(f"root-{name}")
            cloud.start()
            cloud.take(f"hidden-{name}")
        write_all(cloud, f"now-{name}")

    def act(name: str) -> None:
        cloud.delete(f"{'root' if which == 'hidden' else which}-{name}")
        if which == "hidden":
            cloud.delete(f"hidden-{name}")

    def check(name: str) -> None:
        assert f"now-{name}" in names(cloud)
        act(name)
        assert f"now-{name}" in names(cloud)
        gone = {f"root-{name}", f"hidden-{name}"} if which == "hidden" else {f"{which}-{name}"}
        left = [one.id for one in cloud.manager.list(VM)]
        assert not gone & set(left)
        for part in (one for one in ("middle", "leaf", "root") if f"{one}-{name}" in left):
            cloud.revert(f"{part}-{name}")
            assert f"{part}-{name}" in names(cloud)
            assert f"now-{name}" not in names(cloud)

    deaths = die_everywhere(cloud, monkeypatch, prepare, act, check)
    assert deaths >= 6


@pytest.mark.slow
@pytest.mark.parametrize("at", [6, 8, 9])
def test_a_sync_may_die_as_well(cloud, monkeypatch, at):
    """Whatever step it dies at, the next one ends what both left."""

    def prepare(name: str) -> None:
        write_all(cloud, f"before-{name}")
        with dying(cloud, monkeypatch, at):
            cloud.take(name, quiesce=True)

    def check(name: str) -> None:
        assert f"before-{name}" in names(cloud)
        found = cloud.records.find(VmSnapshotId(name))
        if found is None or found.state is not State.READY:
            assert cloud.files() == []

    deaths = die_everywhere(cloud, monkeypatch, prepare, lambda _: cloud.sync.all(call()), check)
    assert deaths >= 2
