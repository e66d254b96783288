"""Merging images of a chain.

    running   a block job, which the guest writes through; at the top it ends with a pivot
    stopped   qemu-img commit, then the image above, or the definition, is pointed to the base
    aside     what a revert left beside the VM's chain: qemu-img commit

A merge that breaks off leaves the chain as it was, and a repeat goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import libvirt

from ....core.spi import Call, FileLocation, InvalidArgument, Outcome, StorageError, Unavailable
from .chains import chain_of, index_in_chain, position, stored_chain
from .disks import disk_named
from .domain_xml import Element, disk_of_device, point_disk, target_of
from .machine import Machine
from .qemu_img import image_info, run_qemu_img
from .waiting import wait_until

_PIVOT = libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT
_STUCK, _LOOK = 5.0, 0.1  # seconds at its end after which a job is given up; between two looks


def merge_live(
    machine: Machine, disk: Element, chain: Sequence[FileLocation], upper: int, lower: int, call: Call
) -> None:
    """Run a block job to its end; one that a killed or late call left is gone on with."""
    device = target_of(disk)
    active = upper == 0
    if _is_stuck(machine, device, call):
        _abort(machine, device)
        wait_until(lambda: not _job(machine, device, call), call, f"VM {machine.vm}: a merge does not end")
    if not _job(machine, device, call):
        top, base = index_in_chain(disk, upper), index_in_chain(disk, lower)
        flags = libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE if active else 0
        machine.act(call, lambda domain: domain.blockCommit(device, base, top, 0, flags), "merging")
    try:
        wait_until(lambda: _ready_or_gone(machine, device, call), call, f"VM {machine.vm}: the merge goes on")
    except StorageError:
        if call.cancelled():
            _abort(machine, device)
        raise
    if active and _job(machine, device, call):
        machine.act(call, lambda domain: domain.blockJobAbort(device, _PIVOT), "ending the merge")
    wait_until(lambda: not _job(machine, device, call), call, f"VM {machine.vm}: the merge does not end")
    _check_merged(machine, device, chain[upper], call)


def _job(machine: Machine, device: str, call: Call) -> dict[str, Any]:
    job: dict[str, Any] = machine.ask(
        call, lambda domain: domain.blockJobInfo(device, 0), "asking for the merge"
    )
    return job


def _ready_or_gone(machine: Machine, device: str, call: Call) -> bool:
    job = _job(machine, device, call)
    if not job:
        return True
    call.progress(job["cur"], job["end"])
    disk = disk_of_device(machine.definition(call), device)
    mirror = disk.find("mirror") if disk is not None else None
    return mirror is not None and mirror.get("ready") == "yes"


def _is_stuck(machine: Machine, device: str, call: Call) -> bool:
    """Tell whether a job has done all and is never told to be ready: libvirtd was dead when QEMU said so."""
    end = call.clock() + _STUCK
    while call.clock() < end:
        job = _job(machine, device, call)
        if not job or job["cur"] < job["end"] or _ready_or_gone(machine, device, call):
            return False
        time.sleep(_LOOK)
    return True


def _abort(machine: Machine, device: str) -> None:
    """End the job without a pivot: the guest goes on writing where it wrote."""
    with suppress(StorageError):
        machine.act(Call.within(30), lambda domain: domain.blockJobAbort(device, 0), "giving the merge up")


def _check_merged(machine: Machine, device: str, merged: FileLocation, call: Call) -> None:
    """Look whether the merged image has left the chain: a failed job just vanishes."""
    if position(chain_of(machine, disk_named(machine, device, call), call), merged) is not None:
        raise Unavailable(
            f"VM {machine.vm}: the merge of {device} broke off; the guest writes where it wrote before. "
            "Free space or mend the storage, then repeat it",
            outcome=Outcome.NOT_APPLIED,
        )


def merge_stopped(
    machine: Machine, disk: Element, chain: Sequence[FileLocation], upper: int, lower: int, call: Call
) -> None:
    """Copy down, then take the merged images out of the chain; a repeat after a kill does both again."""
    top, base = chain[upper], chain[lower]
    _copy_down(top, base, call)
    if upper == 0:
        definition = machine.definition(call, inactive=True)
        point_disk(definition, target_of(disk), base)
        machine.define(definition, call)
        return
    _rebase(chain[upper - 1], base, call)


def merge_aside(top: FileLocation, base: FileLocation, call: Call) -> None:
    """Copy down what a revert left beside the VM's chain: nobody has it open, whether the VM runs or not.

    A repeat after a kill copies the same once more.
    """
    if position(stored_chain(top, call), base) is None:
        raise InvalidArgument(f"{base.path} is not below {top.path}")
    _copy_down(top, base, call)


def _copy_down(top: FileLocation, base: FileLocation, call: Call) -> None:
    _fit(top, base, call)
    run_qemu_img(["commit", "-q", "-d", "-f", top.format, "-b", str(base.path), str(top.path)], call)


def _rebase(image: FileLocation, base: FileLocation, call: Call) -> None:
    backing = ["-b", str(base.path), "-F", base.format]
    run_qemu_img(["rebase", "-q", "-u", "-f", image.format, *backing, str(image.path)], call)


def move_dependent(image: FileLocation, top: FileLocation, base: FileLocation, call: Call) -> None:
    """Make an image stand on the base if it still stands on what was merged into it."""
    info = image_info(image.path, image.format, call)
    if os.path.realpath(info.get("full-backing-filename", "/")) == os.path.realpath(top.path):
        _rebase(image, FileLocation(path=base.path.resolve(), format=base.format), call)


def _fit(top: FileLocation, base: FileLocation, call: Call) -> None:
    """Grow the base to the size of what is merged into it; qemu-img does so for one level only."""
    wanted = image_info(top.path, top.format, call)["virtual-size"]
    if image_info(base.path, base.format, call)["virtual-size"] < wanted:
        run_qemu_img(["resize", "-q", "-f", base.format, str(base.path), str(wanted)], call)
