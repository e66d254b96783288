"""Dirty bitmaps as the images hold them, whole or broken, whether libvirt knows of them or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import libvirt

from ....core.dataplane.qemu_img import image_info, run_qemu_img
from ....core.spi import Call, NotFound
from .domain_xml import Element, disks_of, format_of, node_of, target_of
from .machine import Machine
from .qmp import qmp_act, qmp_ask
from .snapshot_tags import path_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Bitmap:
    """One bitmap of a disk's image.

    Attributes:
        whole: it has seen each write since it began.
        inconsistent: a QEMU that was killed left it; nobody can use it any more.
    """

    name: str
    whole: bool
    inconsistent: bool


class Bitmaps:
    """The bitmaps of a VM's disks, on or off as it is now."""

    def __init__(self, machine: Machine, call: Call) -> None:
        self._machine = machine
        self.running = machine.active(call)
        definition = machine.definition(call)
        self._disks = {target_of(one): one for one in disks_of(definition) if format_of(one) == "qcow2"}

    def of(self, device: str, call: Call) -> Mapping[str, Bitmap]:
        """Return the bitmaps of a device by name."""
        disk = self._disks.get(device)
        if disk is None:
            return {}
        found = _online(self._node(disk, call)) if self.running else _offline(disk, call)
        return {one.name: one for one in found}

    def remove(self, device: str, name: str, call: Call) -> None:
        """Remove one; fine if it is not there."""
        if name not in self.of(device, call):
            return
        disk = self._disks[device]
        if self.running:
            node = node_of(disk)
            qmp_act(self._machine, "block-dirty-bitmap-remove", call, node=node, name=name)
        else:
            run_qemu_img(["bitmap", "--remove", "-f", "qcow2", str(path_of(disk)), name], call)

    def remove_inconsistent(self, device: str, call: Call) -> None:
        """Remove what nobody can use any more: QEMU resizes no disk that has such a bitmap."""
        for one in self.of(device, call).values():
            if one.inconsistent:
                self.remove(device, one.name, call)

    def remove_all(self, call: Call) -> None:
        """Remove all from all disks, with libvirt's checkpoints: what they tell is no longer true."""
        drop_checkpoints(self._machine, call)
        for device in self._disks:
            for name in self.of(device, call):
                self.remove(device, name, call)

    def _node(self, disk: Element, call: Call) -> dict[str, Any]:
        wanted = node_of(disk)
        nodes = qmp_ask(self._machine, "query-named-block-nodes", call, flat=True)
        return next((node for node in nodes if node["node-name"] == wanted), {})


def drop_checkpoints(machine: Machine, call: Call) -> None:
    """Make libvirt forget the checkpoints of a VM, leaves first; their bitmaps stay."""

    def drop(domain: Any) -> None:
        flags = libvirt.VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL
        for checkpoint in reversed(domain.listAllCheckpoints(flags)):
            checkpoint.delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)

    with suppress(NotFound):
        machine.act(call, drop, "forgetting its checkpoints")


def _online(node: dict[str, Any]) -> Iterator[Bitmap]:
    for one in node.get("dirty-bitmaps", ()):
        broken = bool(one.get("inconsistent", False))
        whole = not broken and one.get("recording", True)
        if one.get("name"):
            yield Bitmap(name=one["name"], whole=whole, inconsistent=broken)


def _offline(disk: Element, call: Call) -> Iterator[Bitmap]:
    info = image_info(path_of(disk), "qcow2", call)
    for one in info.get("format-specific", {}).get("data", {}).get("bitmaps", ()):
        broken = "in-use" in one["flags"]
        yield Bitmap(name=one["name"], whole=not broken, inconsistent=broken)
