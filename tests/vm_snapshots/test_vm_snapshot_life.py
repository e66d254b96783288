"""Creating, reverting to and deleting VM snapshots, as the guest's own files show it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bollard.core.spi import VmState
from vm_cloud import VM, Cloud, SimulatedCloud

# Who takes a disk-only snapshot of a running VM there.
KINDS = {
    "kvm files": ("KVM", ("file", "file"), "file"),
    "kvm array": ("KVM", ("array", "array"), "driver"),
    "kvm mixed": ("KVM", ("array", "file", "array2"), "driver"),
    "vmware": ("VMware", ("file", "file"), "hypervisor"),
    "xenserver": ("XenServer", ("file", "file"), "hypervisor"),
    "hyperv": ("Hyperv", ("file", "file"), "hypervisor"),
}


# One kind of cloud with its catalog there; the others would ask it the same.
KINDS["kvm mixed, postgresql"] = KINDS["kvm mixed"]
ON_POSTGRESQL = pytest.param("kvm mixed, postgresql", marks=[pytest.mark.real, pytest.mark.slow])

pytest_plugins = ["catalog_fixture"]


@pytest.fixture(params=[*list(KINDS)[:-1], ON_POSTGRESQL])
def kind(request) -> str:
    """One kind of cloud."""
    return request.param


@pytest.fixture
def cloud(tmp_path, kind, request) -> Iterator[SimulatedCloud]:
    """A cloud with a running VM."""
    personality, disks, _ = KINDS[kind]
    url = request.getfixturevalue("postgresql_url") if "postgresql" in kind else ""
    with SimulatedCloud(tmp_path, disks, personality=personality, catalog_url=url) as opened:
        opened.start()
        yield opened


def write_all(cloud: Cloud, name: str) -> None:
    """The guest writes a file of this name on each disk."""
    for disk in cloud.disks():
        cloud.write(name, f"{name} on {disk}", disk)


def names(cloud: Cloud) -> list[str]:
    """The names of the files that are on all disks; a disk with others is told."""
    found = [sorted(cloud.read(disk)) for disk in cloud.disks()]
    assert all(one == found[0] for one in found), found
    return found[0]


class TestOneSnapshot:
    """One snapshot, disks only."""

    def test_a_revert_brings_back_what_was_there(self, cloud: Cloud, kind):
        """Files written after the snapshot are gone, those before are there, on every disk."""
        write_all(cloud, "before")
        taken = cloud.take("s1")
        write_all(cloud, "after")
        cloud.revert("s1")
        assert cloud.state() is VmState.STOPPED
        cloud.start()

        assert taken.strategy == KINDS[kind][2]
        assert names(cloud) == ["before"]

    def test_a_deletion_changes_nothing_for_the_guest(self, cloud: Cloud):
        """All files are there afterwards, and nothing is left on any storage."""
        write_all(cloud, "before")
        cloud.take("s1")
        write_all(cloud, "after")
        cloud.delete("s1")
        write_all(cloud, "later")

        assert names(cloud) == ["after", "before", "later"]
        assert cloud.files() == []
        assert cloud.manager.list(VM) == []

    def test_a_stopped_vm_has_snapshots_too(self, cloud: Cloud):
        """Taken, reverted to and deleted while the VM is off."""
        write_all(cloud, "before")
        cloud.stop()
        cloud.take("s1")
        cloud.start()
        write_all(cloud, "after")
        cloud.stop()
        cloud.revert("s1")
        cloud.delete("s1")
        cloud.start()

        assert names(cloud) == ["before"]
        assert cloud.files() == []


class TestTrees:
    """Several snapshots."""

    def test_a_revert_begins_a_branch(self, cloud: Cloud):
        """Each snapshot of both branches still holds its instant."""
        for name in ("a", "b", "c"):
            write_all(cloud, name)
            cloud.take(name)
        cloud.revert("a")
        cloud.start()
        write_all(cloud, "d")
        cloud.take("d")

        tree = cloud.records.tree(VM)
        assert {node.id: node.parent for node in tree} == {"a": None, "b": "a", "c": "b", "d": "a"}
        assert [node.id for node in tree if node.current] == ["d"]
        for name, there in {"c": ["a", "b", "c"], "d": ["a", "d"], "b": ["a", "b"], "a": ["a"]}.items():
            cloud.revert(name)
            cloud.start()
            assert names(cloud) == there

    def test_deleting_one_in_the_middle_keeps_the_others(self, cloud: Cloud):
        """What stood on it still holds its instant, and so does what it stood on."""
        for name in ("a", "b", "c"):
            write_all(cloud, name)
            cloud.take(name)
        write_all(cloud, "now")
        cloud.delete("b")
        assert names(cloud) == ["a", "b", "c", "now"]
        for name, there in {"c": ["a", "b", "c"], "a": ["a"]}.items():
            cloud.revert(name)
            cloud.start()
            assert names(cloud) == there
        cloud.delete("a")
        cloud.delete("c")

        assert names(cloud) == ["a"]
        assert cloud.files() == []

    def test_merging_below_a_fork_keeps_both_sides(self, cloud: Cloud):
        """The root goes into what forks: the side that the VM is not on stands on the merged image, too."""
        for name in ("a", "b", "c"):
            write_all(cloud, name)
            cloud.take(name)
        cloud.revert("b")
        cloud.start()
        write_all(cloud, "d")
        cloud.take("d")
        cloud.delete("a")
        for name, there in {"c": ["a", "b", "c"], "d": ["a", "b", "d"], "b": ["a", "b"]}.items():
            cloud.revert(name)
            cloud.start()
            assert names(cloud) == there

    def test_deleting_on_a_branch_that_the_vm_left(self, cloud: Cloud):
        """The images are in no chain of the VM, and are merged all the same."""
        for name in ("a", "b", "c"):
            write_all(cloud, name)
            cloud.take(name)
        cloud.revert("a")
        cloud.start()
        write_all(cloud, "now")
        cloud.delete("b")
        assert names(cloud) == ["a", "now"]
        cloud.revert("c")
        cloud.start()
        assert names(cloud) == ["a", "b", "c"]
        cloud.delete("c")
        cloud.delete("a")
        assert cloud.files() == []
        assert names(cloud) == ["a", "b", "c"]

    def test_a_forked_snapshot_is_hidden_until_one_stands_on_it(self, cloud: Cloud, kind):
        """Its user no longer sees it; its image goes with the deletion that leaves it one."""
        for name in ("a", "b"):
            write_all(cloud, name)
            cloud.take(name)
        cloud.revert("a")
        cloud.delete("a")
        assert [one.id for one in cloud.manager.list(VM)] == ["b"]
        assert [one.parent for one in cloud.manager.list(VM)] == [None]
        left = [one.state for one in cloud.records.of_vm(VM)]
        assert left == (
            ["Ready"]
            if KINDS[kind][2] == "hypervisor" or "file" not in KINDS[kind][1]
            else ["Hidden", "Ready"]
        )
        cloud.delete("b")
        assert cloud.records.of_vm(VM) == []
        assert cloud.files() == []
        cloud.start()
        assert names(cloud) == ["a"]
