"""Killed before each call of a pool or hypervisor, and asked again: the same end, and nothing left.

`Killed` goes through every `except Exception`, and from then on no call reaches a driver.
The calls of a store are left out: tests/archive kills at each of them.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bollard.core.invoke import Invoker
from bollard.transfer_objects.commands import (
    AttachCommand,
    Command,
    CopyCommand,
    CreateObjectCommand,
    DettachCommand,
    ForgetObjectCmd,
    IntroduceObjectCmd,
    SnapshotAndCopyCommand,
)
from bollard.transfer_objects.details import Details
from bollard.transfer_objects.objects import VolumeObjectTO
from command_rig import ARRAY, FILES, NFS, Orders, disk, noise, snapshot, template, volume

Check = Callable[[Orders], None]
Prepared = tuple[Command, Check]
Prepare = Callable[[Orders, Callable[[str], str]], Prepared]


class Killed(BaseException):
    """The process is dead."""


class Killer:
    """Kills at the given step."""

    def __init__(self, at: int) -> None:
        self._left = at
        self.dead = False

    def step(self) -> None:
        """Go on, or die."""
        self._left -= 1
        self.dead = self.dead or self._left == 0
        if self.dead:
            raise Killed


def _holds(of: VolumeObjectTO, content: bytes) -> Check:
    def check(orders: Orders) -> None:
        assert orders.read(of) == content

    return check


def _copy_to_array(orders: Orders, name: Callable[[str], str]) -> Prepared:
    source, to = orders.make(volume(name("vol"), FILES)), volume(name("copy"), ARRAY)
    return CopyCommand(source=source, destination=to), _holds(to, noise(source.uuid))


def _snapshot_to_files(orders: Orders, name: Callable[[str], str]) -> Prepared:
    source, to = orders.make(volume(name("vol"), ARRAY)), volume(name("copy"), FILES)
    cut = orders.made(CreateObjectCommand(data=snapshot(1, source)))
    return CopyCommand(source=cut, destination=to), _holds(to, noise(source.uuid))


def _back_up(orders: Orders, name: Callable[[str], str]) -> Prepared:
    source = orders.make(volume(name("vol"), FILES))
    cut, there = orders.made(CreateObjectCommand(data=snapshot(1, source))), snapshot(1, source, NFS)

    def check(again: Orders) -> None:
        to = volume(name("back"), ARRAY)
        again.do(CopyCommand(source=there, destination=to))
        assert again.read(to) == noise(source.uuid)
        assert again.snapshots(source) == set()

    return CopyCommand(source=cut, destination=there), check


def _seed(orders: Orders, name: Callable[[str], str]) -> Prepared:
    source, image = orders.make(volume(name("vol"), FILES)), template(name("tpl"), NFS)
    orders.do(CopyCommand(source=source, destination=image))
    seed = template(str(image.uuid), ARRAY)

    def check(again: Orders) -> None:
        to = volume(name("root"), ARRAY)
        again.do(CopyCommand(source=seed, destination=to))
        assert again.read(to) == noise(source.uuid)

    return CopyCommand(source=image, destination=seed), check


def _luns(orders: Orders, name: Callable[[str], str]) -> Prepared:
    source, to = (
        orders.make(volume(name("vdi"), ARRAY)),
        orders.make(volume(name("lun"), ARRAY), noise("old")),
    )
    details = Details({"uuid": str(to.uuid)})

    def check(again: Orders) -> None:
        assert again.read(to) == noise(source.uuid)
        assert again.snapshots(source) == set()

    return SnapshotAndCopyCommand(source_vdi_uuid=source.uuid, destination_details=details), check


def _attach(orders: Orders, name: Callable[[str], str]) -> Prepared:
    of = orders.make(volume(name("vol"), ARRAY))

    def check(again: Orders) -> None:
        again.do(DettachCommand(disk=disk(of), vm_name="vm-2"))
        assert again.read(of) == noise(of.uuid)

    return AttachCommand(disk=disk(of), vm_name="vm-2"), check


def _dettach(orders: Orders, name: Callable[[str], str]) -> Prepared:
    of = orders.make(volume(name("vol"), ARRAY))
    orders.do(AttachCommand(disk=disk(of), vm_name="vm-2"))
    return DettachCommand(disk=disk(of), vm_name="vm-2"), _holds(of, noise(of.uuid))


def _introduce(orders: Orders, name: Callable[[str], str]) -> Prepared:
    of = orders.make(volume(name("vol"), ARRAY))

    def check(again: Orders) -> None:
        again.do(ForgetObjectCmd(data=of))
        assert again.read(of) == noise(of.uuid)

    return IntroduceObjectCmd(data=of), check


PREPARE: dict[str, Prepare] = {
    "copy to an array": _copy_to_array,
    "snapshot to files": _snapshot_to_files,
    "back up": _back_up,
    "seed": _seed,
    "snapshot and copy": _luns,
    "attach": _attach,
    "dettach": _dettach,
    "introduce": _introduce,
}


@pytest.mark.slow
@pytest.mark.parametrize("what", PREPARE)
def test_killed_at_each_step(again, name, monkeypatch, what):
    """Whatever the step, the same command afterwards ends as if nothing had happened, and leaves nothing."""
    died, at = True, 0
    while died:
        at += 1
        orders = again()
        command, check = PREPARE[what](orders, name)
        died = _killed(orders, command, at, monkeypatch)
        orders = again()
        orders.do(command)
        check(orders)
        assert orders.leftovers() == [], f"killed at step {at}"
    assert at > 4, "there must have been steps"


def _killed(orders: Orders, command: Command, at: int, monkeypatch) -> bool:
    """Execute until the given step; tell whether it came to that."""
    killer, run = Killer(at), Invoker.run

    def stepping(self, operation, *args, **more):
        if killer.dead or not operation.startswith("store."):
            killer.step()
        return run(self, operation, *args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Invoker, "run", stepping)
        try:
            orders.do(command)
        except Killed:
            return True
    return False
