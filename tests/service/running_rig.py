"""A VM that runs with its disk on a pool of files, and what a test of the snapshot service looks at in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bollard.core.service.from_snapshot_revert import revert
from bollard.core.spi import FileLocation
from vm_cloud import VM, SimulatedCloud, call

from .service_rig import Cloud
from .test_service_guests import S1, cloud_over

Both = tuple[SimulatedCloud, Cloud]


@contextmanager
def running(directory: Path) -> Iterator[Both]:
    """A running VM with one disk on a pool of files, on which it has one file."""
    with cloud_over(directory, "file") as (vms, cloud):
        vms.write("before", "the cut")
        yield vms, cloud


def overlays(vms: SimulatedCloud) -> list[str]:
    """The files of cuts that are under way, or were left."""
    return sorted(path.name for path in (vms.directory / "pool").rglob("*.cut.*"))


def live(vms: SimulatedCloud) -> str:
    """The file that the guest writes to."""
    [disk] = vms.driver.vm_disks(VM, call())
    assert isinstance(disk.location, FileLocation)
    return disk.location.path.name


def during(target: object, name: str, act: Callable[[], Any]) -> None:
    """Let something happen just before a driver's call."""
    method = getattr(target, name)
    vars(target)[name] = lambda *args, **more: (act(), method(*args, **more))[1]


def files_of(vms: SimulatedCloud, cloud: Cloud) -> set[str]:
    """What a guest finds on the volume after it was reverted to the snapshot."""
    vms.stop()
    revert(cloud.ctx, S1, call())
    vms.start()
    return set(vms.read())


def clean(vms: SimulatedCloud, cloud: Cloud) -> None:
    """Nothing is left of any cut, and the guest writes to its own file."""
    assert (overlays(vms), live(vms)) == ([], "vol-0.raw")
    assert not vms.frozen()
    assert cloud.leftovers() == []
