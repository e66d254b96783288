"""Merging images of a chain.

    running   a block job, which the guest writes through; at the top it ends with a pivot
    stopped   qemu-img commit, then the image above, or the definition, is pointed to the base
    aside     what a revert left beside the VM's chain: qemu-img commit

A merge that breaks off leaves the chain as it was, and a repeat goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import libvirt

from ....core.dataplane.qemu_img import image_info, run_qemu_img
from ....core.spi import (
    Call,
    FileLocation,
    Internal,
    InvalidArgument,
    Outcome,
    StorageError,
    Unavailable,
)
from .chains import (
    allocated,
    chain_of,
    check_space,
    index_in_chain,
    node_in_chain,
    position,
    stored_chain,
)
from .disks import disk_named
from .domain_xml import Element, point_disk, target_of
from .machine import Machine
from .marks import Mark
from .pivots import noted_pivot
from .qmp import qmp_act, qmp_ask
from .waiting import wait_until
from .written import alias_of, mirror_of, written

_PIVOT = libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT
_ACTIVE = libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT
_JUST_ENDING, _LOOK = 2.0, 0.1  # seconds that libvirt may need to note the end of a job; between two looks
_WRITES = "libvirt-tmp-activewrite"  # libvirt's name for this bitmap


def merge_live(
    machine: Machine,
    disk: Element,
    chain: Sequence[FileLocation],
    upper: int,
    lower: int,
    call: Call,
    *,
    mark: Mark,
) -> None:
    """Run a block job to its end; one that a killed or late call left is gone on with.

    Args:
        mark: is set while the guest changes over to the base; see pivots.py.
    """
    job = _Job(machine, target_of(disk))
    if upper == 0 and job.is_forgotten(call):
        _end_forgotten(machine, disk, chain[lower], call)
        return
    # A mirror that was there a moment ago, and no job now: libvirt has just noted its end.
    if not job.info(call) and disk.find("mirror") is None:
        top, base = index_in_chain(disk, upper), index_in_chain(disk, lower)
        flags = libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE if upper == 0 else 0
        machine.act(call, lambda domain: domain.blockCommit(job.device, base, top, 0, flags), "merging")
    try:
        wait_until(lambda: job.ready_or_gone(call), call, f"VM {machine.vm}: the merge goes on")
    except StorageError:
        if call.cancelled():
            job.give_up()
        raise
    if upper == 0 and job.info(call):
        mark.set(noted_pivot(job.device, chain[0], chain[lower]))
        job.pivot(node_in_chain(disk, lower), call)
    wait_until(lambda: not job.info(call), call, f"VM {machine.vm}: the merge does not end")
    mark.clear()
    _check_merged(machine, job.device, chain[upper : lower + 1], call)


class _Job:
    """The block job of a disk.

    A pivot needs the mirror that libvirt shows. A libvirtd that was killed just when it began the job has
    none after its restart: it refuses the pivot for ever, and libvirt 9.0 follows a null pointer as soon as
    the job is aborted. But it copes with a job that ends well, and QEMU can be told to end it well.

    One that was killed while the job ended shows the mirror until QEMU ends, and no job.
    """

    def __init__(self, machine: Machine, device: str) -> None:
        self.device = device
        self._machine = machine

    def info(self, call: Call) -> dict[str, Any]:
        """Return what libvirt tells of it; nothing if there is none."""
        told: dict[str, Any] = self._machine.ask(
            call, lambda domain: domain.blockJobInfo(self.device, 0), "asking for the merge"
        )
        return told

    def ready_or_gone(self, call: Call) -> bool:
        """Tell whether it waits for its pivot, or has ended."""
        told = self.info(call)
        if not told:
            return True
        call.progress(told["cur"], told["end"])
        if self._is_orphan(told, call):
            return self._status(call) == "ready"
        mirror = mirror_of(self._machine, self.device, call)
        return mirror is not None and mirror.get("ready") == "yes"

    def is_forgotten(self, call: Call) -> bool:
        """Tell whether libvirt waits for a job that has ended long ago."""
        end = call.clock() + _JUST_ENDING
        while not self.info(call) and mirror_of(self._machine, self.device, call) is not None:
            if call.clock() >= end:
                return True
            time.sleep(_LOOK)
        return False

    def pivot(self, base: str, call: Call) -> None:
        """Let the guest write to the base from now on.

        Args:
            base: its node.
        """
        told = self.info(call)
        if not self._is_orphan(told, call):
            self._machine.act(
                call, lambda domain: domain.blockJobAbort(self.device, _PIVOT), "ending the merge"
            )
            return
        with suppress(Internal):  # it is there already
            # As libvirt does: it notes what is written until libvirt has merged the bitmaps, too.
            bitmap = {"node": base, "name": _WRITES, "persistent": False}
            qmp_act(self._machine, "block-dirty-bitmap-add", call, **bitmap)
        qmp_act(self._machine, "job-complete", call, id=self._name(call))

    def give_up(self) -> None:
        """End it without a pivot: the guest goes on writing where it wrote."""
        with suppress(StorageError):
            call = Call.within(30)
            if not self._is_orphan(self.info(call), call):
                self._machine.act(
                    call, lambda domain: domain.blockJobAbort(self.device, 0), "giving the merge up"
                )

    def _is_orphan(self, told: Mapping[str, Any], call: Call) -> bool:
        """Tell whether it is a job at the top of which libvirt has lost the mirror."""
        mirror = mirror_of(self._machine, self.device, call)
        return told.get("type") == _ACTIVE and mirror is None and self._name(call) != ""

    def _name(self, call: Call) -> str:
        return next(iter(self._jobs(call)), "")

    def _status(self, call: Call) -> str:
        return next(iter(self._jobs(call).values()), "")

    def _jobs(self, call: Call) -> dict[str, str]:
        jobs: list[dict[str, Any]] = qmp_ask(self._machine, "query-jobs", call)
        ours = f"commit-{self.device}-"  # as libvirt calls it
        return {job["id"]: job["status"] for job in jobs if job["id"].startswith(ours)}


def _end_forgotten(machine: Machine, disk: Element, base: FileLocation, call: Call) -> None:
    """Bring what libvirt starts the VM with the next time to where the guest writes; until then it is lost.

    libvirt would start it with the merged image above the base, which has changed since.
    """
    now = written(machine, call).get(alias_of(disk))
    if now is None or now.file != base.path:
        raise Unavailable(
            f"VM {machine.vm}: libvirt waits for a merge of {target_of(disk)} that has ended without "
            "success. Stop the VM and start it, then repeat the merge",
            outcome=Outcome.NOT_APPLIED,
        )
    definition = machine.definition(call, inactive=True)
    point_disk(definition, target_of(disk), base)
    machine.define(definition, call)


def _check_merged(machine: Machine, device: str, merged: Sequence[FileLocation], call: Call) -> None:
    """Look whether the merged image has left the chain: a failed job just vanishes, with its reason."""
    *gone, base = merged
    if position(chain_of(machine, disk_named(machine, device, call), call), gone[0]) is not None:
        check_space(base.path.parent, allocated(gone), "the merge, which broke off,")
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
