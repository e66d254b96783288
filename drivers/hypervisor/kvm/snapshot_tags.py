"""Internal snapshots as the images hold them: by name, on each disk, whether libvirt knows of them or not.

    running   through QEMU's monitor: it has the image, and its snapshot table in memory
    stopped   through qemu-img

One name may be there twice: libvirtd was killed during a snapshot, and the same one was taken again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ....core.dataplane.qemu_img import image_info, run_qemu_img
from ....core.spi import Call, FileLocation, StorageError, Unsupported
from .domain_xml import Element, disks_of, format_of, location_of, node_of, target_of
from .machine import Machine
from .qmp import qmp_act, qmp_ask


class SnapshotTags:
    """The internal snapshots of all disks of a VM that can hold one, on or off as it is now."""

    def __init__(self, machine: Machine, call: Call) -> None:
        self._machine = machine
        self.running = machine.active(call)
        disks = {target_of(one): one for one in disks_of(machine.definition(call))}
        self.disks = {device: disk for device, disk in disks.items() if _is_capable(disk)}
        self._incapable = sorted(set(disks) - set(self.disks))

    def check_capable(self) -> None:
        """Refuse a VM whose disks cannot all hold a snapshot.

        Raises:
            Unsupported: a disk is raw, or no file.
        """
        if self._incapable:
            named = ", ".join(self._incapable)
            raise Unsupported(f"VM {self._machine.vm}: {named} is no qcow2 file and cannot hold a snapshot")

    def all_tags(self, call: Call) -> Mapping[str, Sequence[str]]:
        """Return the names of the snapshots on each device."""
        if self.running:
            nodes = {node["node-name"]: node for node in self._nodes(call)}
            return {device: _tags(nodes[self.node(device)]["image"]) for device in self.disks}
        return {device: _tags(image_info(self._path(device), "qcow2", call)) for device in self.disks}

    def devices_with(self, tag: str, call: Call) -> set[str]:
        """Return the devices that have a snapshot of this name."""
        return {device for device, tags in self.all_tags(call).items() if tag in tags}

    def create(self, tag: str, call: Call) -> None:
        """Take one on all disks at one instant, or on none."""
        if self.running:
            actions = [
                {
                    "type": "blockdev-snapshot-internal-sync",
                    "data": {"device": self.node(device), "name": tag},
                }
                for device in self.disks
            ]
            qmp_act(self._machine, "transaction", call, actions=actions)
            return
        try:
            for device in self.disks:
                self._offline("-c", tag, device, call)
        except StorageError:
            self.remove(tag, call)
            raise

    def apply(self, tag: str, call: Call) -> None:
        """Put all disks of a VM that is off back; one after the other."""
        for device in self.disks:
            self._offline("-a", tag, device, call)

    def remove(self, tag: str, call: Call) -> None:
        """Remove all of this name from all disks."""
        for device, tags in self.all_tags(call).items():
            for _ in range(tags.count(tag)):
                if self.running:
                    node = self.node(device)
                    qmp_act(
                        self._machine, "blockdev-snapshot-delete-internal-sync", call, device=node, name=tag
                    )
                else:
                    self._offline("-d", tag, device, call)

    def node(self, device: str) -> str:
        """Return the name of QEMU's node for the image that a device writes to."""
        return node_of(self.disks[device])

    def _nodes(self, call: Call) -> list[dict[str, Any]]:
        nodes: list[dict[str, Any]] = qmp_ask(self._machine, "query-named-block-nodes", call, flat=True)
        return nodes

    def _path(self, device: str) -> Path:
        return path_of(self.disks[device])

    def _offline(self, act: str, tag: str, device: str, call: Call) -> None:
        run_qemu_img(["snapshot", "-q", act, tag, str(self._path(device))], call)


def _is_capable(disk: Element) -> bool:
    return format_of(disk) == "qcow2" and isinstance(location_of(disk), FileLocation)


def path_of(disk: Element) -> Path:
    """Return the file that a disk writes to."""
    location = location_of(disk)
    if not isinstance(location, FileLocation):
        raise Unsupported(f"disk {target_of(disk)} is no file")
    return location.path.resolve()


def _tags(image: Mapping[str, Any]) -> list[str]:
    return [one["name"] for one in image.get("snapshots", ())]
