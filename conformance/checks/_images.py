"""What checks of images above images share: overlays put on, and seen from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from ...core.spi import FileLocation, Overlays, ShowsDisks
from ...transfer_objects.ids import VmId
from ..host_lab import HostLab
from ..host_objects import TestObject
from ..lab import must

Disks = Mapping[str, TestObject]


def overlays_of(lab: HostLab) -> Overlays:
    """Return the driver as what it declares to be."""
    return cast("Overlays", lab.driver)


def places_of(disks: Disks) -> Mapping[str, FileLocation]:
    """Return where each disk's image is, as the driver wants to be told."""
    return {device: thing.location for device, thing in disks.items()}


def add_overlays(lab: HostLab, vm: VmId, disks: Disks, *, quiesce: bool = False) -> Disks:
    """Put a new overlay on each disk."""
    above = {device: lab.overlay(thing) for device, thing in disks.items()}
    overlays_of(lab).add_overlays(vm, places_of(above), lab.call(), quiesce=quiesce)
    return above


def switch_to(lab: HostLab, bases: Disks) -> Disks:
    """Put the stopped VM's disks on new overlays over other images."""
    above = {device: lab.overlay(thing) for device, thing in bases.items()}
    overlays_of(lab).switch_images(lab.place.stopped_vm, places_of(above), places_of(bases), lab.call())
    return above


def must_write_to(lab: HostLab, vm: VmId, disks: Disks) -> None:
    """Fail unless these are the images of a VM; a driver that does not show disks is believed."""
    if isinstance(lab.driver, ShowsDisks):
        told = {disk.device: disk.location for disk in lab.driver.vm_disks(vm, lab.call())}
        for device, thing in disks.items():
            found = told.get(device)
            must(thing.is_at(found), f"{device} of VM {vm} is {found}, not {thing.path}")


def written_by_guest(lab: HostLab, count: int) -> Disks:
    """Attach objects to the running VM, whose guest writes to each of them."""
    disks = lab.attached(lab.place.vm, count)
    for thing in disks.values():
        must(lab.guest_writes(thing), "the guest does not write to each of its disks")
    return disks
