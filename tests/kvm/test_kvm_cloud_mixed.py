"""Mixed on real guests: disks on different storages in one snapshot, and a tree of different kinds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bollard.core.spi import LimitExceeded, Unsupported, VmState
from kvm_cloud import KvmCloud
from kvm_lab.polling import until
from vm_cloud import VM

pytest_plugins = ["kvm_cloud_fixture"]
pytestmark = [pytest.mark.real(root=True), pytest.mark.slow]

# The second disk gets a number only after the first has it for good.
_WRITER = (
    "i=0; while :; do i=$((i+1)); "
    "for d in 0 1; do echo $i >>/mnt/vol-$d/log; sync /mnt/vol-$d/log; done; done >/dev/null 2>&1 &"
)


def last(cloud: KvmCloud, disk: int) -> int:
    """The last number on a disk."""
    return int(cloud.guest.shell(f"tail -n 1 {cloud.place(disk)}/log"))


def test_a_file_and_an_array_disk_show_one_instant(open_cloud: Callable[..., KvmCloud]) -> None:
    """Dependent writes across qcow2 and NBD are never torn; the guest thaws, and the time is told."""
    cloud = open_cloud(disks=("file", "array"))
    cloud.guest.shell(_WRITER)
    until(lambda: cloud.guest.shell("test -s /mnt/vol-1/log && echo yes; true"), 60, "the writer")
    with pytest.raises(Unsupported):
        cloud.take("m", memory=True)
    taken = cloud.take("s1")
    assert (taken.strategy, taken.quiesced) == ("driver", True)
    assert 0 < taken.frozen_seconds < 10
    assert not cloud.frozen()
    seen = last(cloud, 1)
    until(lambda: last(cloud, 1) > seen, 60, "the guest to write on")
    cloud.revert("s1")
    cloud.start()
    first, second = last(cloud, 0), last(cloud, 1)
    assert 0 <= first - second <= 1
    assert second <= seen
    cloud.delete("s1")
    assert cloud.files() == []


def test_any_mix_of_memory_and_disk_only_is_one_tree(open_cloud: Callable[..., KvmCloud]) -> None:
    """Branches of both kinds come back exactly, one is current at each moment, and there is a maximum."""
    cloud = open_cloud(hooks={"max_per_vm": lambda _: 4})
    held: dict[str, tuple[set[str], str]] = {}

    def take(name: str, *, memory: bool) -> None:
        cloud.write(name, name, 0)
        cloud.write(name, name, 1)
        cloud.remember(name)
        files = set(cloud.read())
        if not memory:
            cloud.stop()
        assert cloud.take(name, memory=memory).strategy == "hypervisor"
        held[name] = files, name if memory else ""

    def come_back(name: str) -> None:
        cloud.revert(name)
        running = cloud.state() is VmState.RUNNING
        assert running == bool(held[name][1])
        if not running:
            cloud.start()
        assert (set(cloud.read()), cloud.memory()) == held[name]
        assert set(cloud.read(1)) == held[name][0]
        assert [one.id for one in cloud.manager.list(VM) if one.current] == [name]
        assert cloud.records.tree(VM).problems() == []

    take("a", memory=True)
    take("b", memory=False)
    cloud.start()
    take("c", memory=True)
    come_back("b")
    take("d", memory=True)
    with pytest.raises(LimitExceeded):
        cloud.take("e", memory=True)
    parents = {one.id: one.parent for one in cloud.manager.list(VM)}
    assert parents == {"a": None, "b": "a", "c": "b", "d": "b"}
    for name in ("c", "a", "d"):
        come_back(name)
    cloud.delete("b")
    parents = {one.id: one.parent for one in cloud.manager.list(VM)}
    assert parents == {"a": None, "c": "a", "d": "a"}
    for name in ("c", "d"):
        come_back(name)
    for name in ("d", "c", "a"):
        cloud.delete(name)
    assert cloud.files() == []
