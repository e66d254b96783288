"""The change of a guest from the image that is merged to the one below it.

A libvirtd that is killed in the midst may start the VM with the merged image the next time, or forget the VM
while its QEMU runs on. The base has all then, and more: the merged image would hide what was written since.

<state>/<host>/begun/<vm>.pivoting        {device, top, base, format}, only while libvirt is at it
"""

from __future__ import annotations

import json
from pathlib import Path

from ....core.dataplane.os_errors import os_errors
from ....core.spi import Call, FileLocation
from .domain_xml import disk_of_device, location_of, point_disk
from .machine import Machine
from .marks import Mark
from .written import alias_of, written


def noted_pivot(device: str, top: FileLocation, base: FileLocation) -> str:
    """Return what is written down before a pivot."""
    told = {"device": device, "top": str(top.path), "base": str(base.path), "format": base.format}
    return json.dumps(told)


def settle_pivot(state: Path, machine: Machine, call: Call) -> None:
    """Let the VM start with the image that the guest wrote last.

    Of a running VM QEMU tells which it is. Of one that is off the younger image is: it was the job that
    wrote the base after each write of the guest, and after the pivot nobody wrote the other.
    """
    mark = Mark(state, machine, "pivoting")
    text = mark.read()
    if text is None:
        return
    told = json.loads(text)
    top, base = Path(told["top"]), FileLocation(path=Path(told["base"]), format=told["format"])
    definition = machine.definition(call, inactive=True)
    disk = disk_of_device(definition, told["device"])
    starts = location_of(disk) if disk is not None else None
    begins_with_top = isinstance(starts, FileLocation) and starts.path.resolve() == top
    if begins_with_top and _is_on(machine, told["device"], top, base.path, call):
        point_disk(definition, told["device"], base)
        machine.define(definition, call)
    mark.clear()


def _is_on(machine: Machine, device: str, top: Path, base: Path, call: Call) -> bool:
    if machine.active(call):
        disk = disk_of_device(machine.definition(call), device)
        now = written(machine, call).get(alias_of(disk)) if disk is not None else None
        return now is not None and now.file == base
    with os_errors(f"cannot ask how old {top} and {base} are"):
        return base.stat().st_mtime_ns >= top.stat().st_mtime_ns
