"""What QEMU writes to, whatever libvirt believes: a killed libvirtd may not have noted the last change."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ....core.spi import Call, FileLocation
from .domain_xml import Element, disk_of_device, disks_of, point_disk, target_of
from .machine import Machine
from .qmp import qmp_ask


class Written(NamedTuple):
    """The file that a disk is written to, and QEMU's node for it."""

    file: Path
    node: str


def written(machine: Machine, call: Call) -> Mapping[str, Written]:
    """Return what a running VM writes to, by the alias of the disk."""
    found = {}
    for one in qmp_ask(machine, "query-block", call):
        image = one.get("inserted")
        for alias in one.get("qdev", "").split("/") if image else ():
            found[alias] = Written(Path(os.path.realpath(image["file"])), str(image["node-name"]))
    return found


def alias_of(disk: Element) -> str:
    """Return the name by which libvirt told QEMU of a disk."""
    alias = disk.find("alias")
    return alias.get("name", "") if alias is not None else ""


def mirror_of(machine: Machine, device: str, call: Call) -> Element | None:
    """Return what libvirt shows of the merge of a disk that the guest writes to."""
    disk = disk_of_device(machine.definition(call), device)
    return disk.find("mirror") if disk is not None else None


def corrected(machine: Machine, definition: Element, call: Call) -> Element:
    """Return a definition as it is in truth, where libvirt does not know that a merge has ended."""
    for disk in disks_of(definition):
        mirror = disk.find("mirror")
        source = mirror.find("source") if mirror is not None else None
        if source is None:
            continue
        path = Path(os.path.realpath(source.get("file", "")))
        now = written(machine, call).get(alias_of(disk))
        if now is not None and now.file == path:
            form = mirror.find("format") if mirror is not None else None
            raw = form is None or form.get("type") != "qcow2"
            point_disk(definition, target_of(disk), FileLocation(path=path, format="raw" if raw else "qcow2"))
    return definition
