"""Overlays that libvirtd was putting on when it was killed: QEMU may have them, and libvirt not know it.

                       QEMU writes to   libvirt believes   the overlay's file
    not yet            base             base               goes, and what QEMU has opened of it
    done, not noted    overlay          base               is merged back into the base, and goes
    done               overlay          overlay            stays

libvirt cannot be told what QEMU has, so QEMU is brought back to what libvirt believes. Until then every
further overlay is refused as "busy", and who believes libvirt removes the file that the guest writes to.

<state>/<host>/begun/<vm>.overlaying        {device: path}, written before the act
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....core.dataplane.os_errors import os_errors
from ....core.spi import (
    Call,
    DataLoss,
    FileLocation,
    Internal,
    NotFound,
    Outcome,
    StorageError,
    Unavailable,
)
from .chains import chain_of, position, stored_chain
from .domain_xml import Element, disk_of_device, disks_of, location_of, node_of
from .machine import Machine
from .marks import Mark
from .merging import merge_aside
from .qmp import qmp_act, qmp_ask
from .vm_snapshots import wait_for_job
from .waiting import goes_on, wait_until
from .written import Written, alias_of, written

_RESCUE = 30.0  # seconds to put things right after a failure; they may come on top of the deadline
_NODES = re.compile(r"libvirt-(\d+)-(format|storage)")  # libvirt's names for QEMU's nodes of disk images


@contextmanager
def noted(state: Path, machine: Machine, overlays: Mapping[str, FileLocation]) -> Iterator[None]:
    """Write down which overlays are put on now; after a failure remove what the VM does not write to."""
    mark = Mark(state, machine, "overlaying")
    mark.set(json.dumps({device: str(one.path) for device, one in overlays.items()}))
    try:
        yield
    except StorageError as error:
        if not goes_on(error):
            with suppress(StorageError):
                if not settle_overlays(state, machine, Call.within(_RESCUE)):
                    error.outcome = Outcome.NOT_APPLIED
        raise
    mark.clear()


def settle_overlays(state: Path, machine: Machine, call: Call) -> bool:
    """End what was begun with overlays; tell whether some of them are in place."""
    mark = Mark(state, machine, "overlaying")
    told = mark.read()
    if told is None:
        return False
    # QEMU before libvirt: what QEMU had then, and libvirt does not know when its job is over, is astray.
    qemu = _Qemu.now(machine, call)
    wait_for_job(machine, call)
    definition = machine.definition(call)
    in_place = False
    for device, path in json.loads(told).items():
        disk, overlay = disk_of_device(definition, device), FileLocation(path=Path(path), format="qcow2")
        if disk is None:
            continue
        if image_of(disk) == overlay.path:
            in_place = True
            continue
        if qemu is not None:
            qemu.bring_back(disk, device, overlay, call)
            qemu.close_unknown(definition, call)
        else:
            _merge_left_behind(machine, disk, overlay, call)
        with os_errors(f"cannot remove {overlay.path}"):
            overlay.path.unlink(missing_ok=True)
    mark.clear()
    return in_place


def image_of(disk: Element) -> Path | None:
    """Return the file that libvirt believes a disk is written to."""
    location = location_of(disk)
    return location.path.resolve() if isinstance(location, FileLocation) else None


@dataclass(frozen=True, slots=True)
class _Qemu:
    """What QEMU has open.

    Attributes:
        written: per device's alias the file that is written, and its node.
        nodes: the names of all nodes.
    """

    machine: Machine
    written: Mapping[str, Written]
    nodes: frozenset[str]

    @classmethod
    def now(cls, machine: Machine, call: Call) -> _Qemu | None:
        """Ask; None if the VM is off."""
        if not machine.active(call):
            return None
        nodes = qmp_ask(machine, "query-named-block-nodes", call, flat=True)
        return cls(machine, written(machine, call), frozenset(str(one["node-name"]) for one in nodes))

    def bring_back(self, disk: Element, device: str, overlay: FileLocation, call: Call) -> None:
        """Merge an overlay that libvirt does not know into the image that libvirt believes in."""
        now = self.written.get(alias_of(disk))
        if now is None or now.file != overlay.path:
            return
        job = f"bollard-{device}"
        if job not in self._jobs(call):
            told = {"job-id": job, "device": now.node, "base-node": node_of(disk)}
            qmp_act(self.machine, "block-commit", call, **told)
        what = f"VM {self.machine.vm}: bringing {device} back"
        wait_until(lambda: self._jobs(call).get(job) in (None, "ready"), call, what)
        if job in self._jobs(call):
            qmp_act(self.machine, "job-complete", call, id=job)
        wait_until(lambda: job not in self._jobs(call), call, what)
        if written(self.machine, call)[alias_of(disk)].file == overlay.path:
            raise Unavailable(
                f"VM {self.machine.vm} writes {device} to {overlay.path}, of which libvirt does not know, "
                "and it could not be merged. Free space or mend the storage, then repeat it"
            )

    def close_unknown(self, definition: Element, call: Call) -> None:
        """Let QEMU close the images that libvirt does not know: it would give their names to others."""
        known = {one.get("index") for disk in disks_of(definition) for one in disk.iter()}
        for layer in ("format", "storage"):  # the upper one first
            for name in self.nodes:
                found = _NODES.fullmatch(name)
                if found and found[2] == layer and found[1] not in known:
                    with suppress(Internal):  # QEMU keeps what is in use: somebody knows it
                        qmp_act(self.machine, "blockdev-del", call, **{"node-name": name})

    def _jobs(self, call: Call) -> dict[str, str]:
        jobs: list[dict[str, Any]] = qmp_ask(self.machine, "query-jobs", call)
        return {job["id"]: job["status"] for job in jobs}


def _merge_left_behind(machine: Machine, disk: Element, overlay: FileLocation, call: Call) -> None:
    """Keep what the guest wrote to an overlay before QEMU died, unless it has gone on without it since."""
    base = chain_of(machine, disk, call)[0]
    if _stands_on(overlay, base, call):
        with os_errors(f"cannot ask how old {overlay.path} is"):
            gone_on = base.path.stat().st_mtime_ns > overlay.path.stat().st_mtime_ns
        if not gone_on:
            merge_aside(overlay, base, call)


def _stands_on(overlay: FileLocation, base: FileLocation, call: Call) -> bool:
    with suppress(NotFound, DataLoss):  # not there, or not even whole: nobody wrote to it
        return position(stored_chain(overlay, call)[1:2], base) is not None
    return False
