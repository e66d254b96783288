"""Random histories of writing, taking, reverting, deleting, stopping, starting and dying."""

from __future__ import annotations

import tempfile
import zlib
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bollard.core.spi import VmState
from bollard.core.vm_snapshots.states import State
from bollard.transfer_objects.ids import VmSnapshotId
from vm_cloud import VM, SimulatedCloud, call
from vm_deaths import dying

NEVER = 10_000  # steps


class AnyHistory(RuleBasedStateMachine):
    """A VM in files beside a model: what the guest has, and what each snapshot holds."""

    disks: tuple[str, ...] = ("file", "file")

    def __init__(self) -> None:
        super().__init__()
        memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a directory of its own in it
        self.directory = tempfile.TemporaryDirectory(dir=memory)
        self.cloud = SimulatedCloud(Path(self.directory.name), self.disks)
        self.cloud.__enter__()
        self.cloud.start()
        self.guest: set[str] = set()
        self.held: dict[str, set[str]] = {}
        self.count = 0
        self.patch = pytest.MonkeyPatch()

    def name(self, prefix: str) -> str:
        """A new name."""
        self.count += 1
        return f"{prefix}{self.count}"

    def pick(self, data) -> str:
        """Any snapshot."""
        return data.draw(st.sampled_from(sorted(self.held)))

    def running(self) -> None:
        """Make sure that the guest can be asked."""
        if self.cloud.state() is VmState.STOPPED:
            self.cloud.start()

    @rule()
    def write(self):
        """The guest writes a file on each disk."""
        self.running()
        name = self.name("f")
        for disk in range(len(self.disks)):
            self.cloud.write(name, name, disk)
        self.guest.add(name)

    @rule(at=st.integers(1, 12) | st.just(NEVER))
    def take(self, at):
        """A snapshot, or what a death leaves of one."""
        if len(self.held) >= 6:
            return
        name = self.name("s")
        with dying(self.cloud, self.patch, at):
            self.cloud.take(name)
        self.cloud.sync.all(call())
        found = self.cloud.records.find(VmSnapshotId(name))
        if found is not None and found.state is State.READY:
            self.held[name] = set(self.guest)
        elif found is not None:
            self.cloud.delete(name)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), at=st.integers(1, 20) | st.just(NEVER))
    def revert(self, data, at):
        """The guest has what the snapshot holds, or what it had if somebody died before."""
        name, before = self.pick(data), self.guest
        with dying(self.cloud, self.patch, at) as mortal:
            self.cloud.revert(name)
        self.cloud.sync.all(call())
        self.running()
        self.guest = set(self.cloud.read(0))
        assert self.guest == self.held[name] or (mortal.dead and self.guest == before)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), at=st.integers(1, 30) | st.just(NEVER))
    def delete(self, data, at):
        """It is gone, if need be at the second attempt."""
        name = self.pick(data)
        with dying(self.cloud, self.patch, at):
            self.cloud.delete(name)
        self.cloud.sync.all(call())
        self.cloud.delete(name)
        del self.held[name]

    @rule()
    def stop(self):
        """Off."""
        self.cloud.stop()

    @invariant()
    def all_is_as_the_model_says(self):
        """The same files on all disks, the same snapshots, a whole tree."""
        self.running()
        for disk in range(len(self.disks)):
            assert set(self.cloud.read(disk)) == self.guest
        assert sorted(one.id for one in self.cloud.manager.list(VM)) == sorted(self.held)
        assert self.cloud.records.tree(VM).problems() == []

    def teardown(self):
        """Any survivor restores exactly; at the end no file is left."""
        try:
            for name, held in self.held.items():
                self.cloud.revert(name)
                self.cloud.start()
                for disk in range(len(self.disks)):
                    assert set(self.cloud.read(disk)) == held
            for name in sorted(self.held, key=lambda one: zlib.crc32(one.encode())):
                self.cloud.delete(name)
            assert self.cloud.records.of_vm(VM) == []
            assert self.cloud.files() == []
        finally:
            self.cloud.__exit__()
            self.directory.cleanup()


AnyHistory.TestCase.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
TestAnyHistory = pytest.mark.slow(AnyHistory.TestCase)
