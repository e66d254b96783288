"""A disk-only revert that dies: the VM has one file, and no other one stays that nobody knows of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bollard.core.commands.reverting import KIND
from bollard.core.invoke import Invoker
from bollard.core.service.recovery import open_services
from bollard.core.spi import Call, FileLocation, ShowsDisks, Unavailable
from bollard.transfer_objects.commands import (
    AttachCommand,
    CreateDiskOnlyVmSnapshotCommand,
    DettachCommand,
    NewVolumePath,
    RevertDiskOnlyVmSnapshotCommand,
)
from bollard.transfer_objects.enums import VMSnapshotType
from bollard.transfer_objects.ids import VmId
from bollard.transfer_objects.objects import VMSnapshotTO, VolumeObjectTO
from command_rig import RAW, Orders, disk, snapshot, volume

VM = "vm-2"


class Killed(BaseException):
    """The process is dead."""


class Reverted:
    """A volume of a stopped VM with a disk-only snapshot, and the command that reverts to it."""

    def __init__(self, orders: Orders, name: Callable[[str], str]) -> None:
        self.of: VolumeObjectTO = orders.make(volume(name("vol"), RAW))
        orders.do(AttachCommand(disk=disk(self.of), vm_name=VM))
        self.own = self.image(orders)
        target = VMSnapshotTO(snapshot_name=name("vs"), snapshot_type=VMSnapshotType.DISK)
        paths = (NewVolumePath(volume=self.of, path="next.raw"),)
        orders.do(CreateDiskOnlyVmSnapshotCommand(target=target, vm_name=VM, volumes_and_new_paths=paths))
        to = snapshot(1, self.of, path=self.own.name)
        self.command = RevertDiskOnlyVmSnapshotCommand(vm_name=VM, snapshots=(to,))

    def image(self, orders: Orders) -> Path:
        """The file that the VM has the volume in."""
        driver = orders.site.hypervisor().driver
        assert isinstance(driver, ShowsDisks)
        [found] = [one for one in driver.vm_disks(VmId(VM), Call()) if one.object_id == self.of.uuid]
        assert isinstance(found.location, FileLocation)
        return found.location.path

    def files(self) -> set[Path]:
        """The volume's own file and all overlays."""
        return {self.own, *self.own.parent.glob(f"{self.of.uuid}.*.raw")}

    def clean(self, orders: Orders) -> bool:
        """Whether the snapshot and the file above it are there, and nothing else, in the journal neither."""
        return self.files() == {self.own, self.image(orders)} and orders.leftovers() == []


@pytest.fixture
def reverted(again: Callable[[], Orders], name: Callable[[str], str]) -> Iterator[Callable[[], Reverted]]:
    """A function that makes such a volume, which the VM has until the end."""
    made: list[Reverted] = []

    def make() -> Reverted:
        made.append(Reverted(again(), name))
        return made[-1]

    yield make
    for one in made:
        again().do(DettachCommand(disk=disk(one.of), vm_name=VM))


def _struck(
    orders: Orders, one: Reverted, monkeypatch: Any, at: int, error: BaseException, when: str
) -> bool:
    """Revert, with the error before or after a step, from the switch on; a dead process makes no more."""
    run, seen, dead = Invoker.run, [0], isinstance(error, Killed)

    def stepping(self: Any, operation: str, *args: Any, **more: Any) -> Any:
        if seen[0] or operation == "overlay.switch":  # until then nothing is changed
            seen[0] += 1
        if (seen[0] == at and when == "before") or (dead and seen[0] > at):
            raise error
        result = run(self, operation, *args, **more)
        if seen[0] == at:
            raise error
        return result

    with monkeypatch.context() as patched:
        patched.setattr(Invoker, "run", stepping)
        with contextlib.suppress(Killed):
            orders.ask(one.command)
    return seen[0] >= at


def _sync(orders: Orders) -> list[str]:
    with open_services(orders.site) as services:
        return [one.problem for one in services.sync().run(Call.within(30)).ended]


CASES = {
    "killed before": ("before", Killed(), "the repeat"),
    "killed after": ("after", Killed(), "the repeat"),
    "killed after, then a sync": ("after", Killed(), "a sync"),
    "failed after": ("after", Unavailable("away"), "the repeat"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("when", "error", "ended_by"), CASES.values(), ids=CASES)
def test_struck_at_each_step(again, reverted, monkeypatch, when, error, ended_by):
    """Whatever the step: the repeat, or a sync, leaves the snapshot and the file that the VM has, alone."""
    at, left, struck = 0, 0, True
    while struck:
        at += 1
        one = reverted()
        struck = _struck(again(), one, monkeypatch, at, error, when)
        orders = again()
        left += len(one.files()) > 2 or orders.leftovers() != []
        if ended_by == "the repeat":
            orders.do(one.command)
        else:
            assert set(_sync(orders)) <= {""}
        assert one.clean(orders), f"{when} step {at}"
        orders.do(one.command)
        assert one.clean(orders)
        orders.do(DettachCommand(disk=disk(one.of), vm_name=VM))
    assert at > 2
    assert left, "some of them left something"


def test_what_cannot_be_told_stays(again, reverted):
    """If the VM has the volume in neither file, both stay, and the sync says so until it is known again."""
    one, orders = reverted(), again()
    present = one.image(orders)
    other = present.with_name(f"{one.of.uuid}.other.raw")
    other.write_bytes(b"x")
    fields = {"vm": VM, "store": "raw", "pool": orders.site.pool("raw").info.identity}
    names = {"old": other.name, "new": f"{one.of.uuid}.third.raw", "needed": ""}
    journal = orders.site.mover().journal
    journal.begin(KIND, **fields, **names, volume=str(one.of.uuid)).release()
    assert "neither" in _sync(orders)[0]
    orders.do(one.command)
    assert other.exists()
    [entry] = journal.abandoned()
    other.unlink()
    entry.done()
    assert one.clean(orders)
