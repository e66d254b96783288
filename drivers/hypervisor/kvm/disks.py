"""Disks of VMs: attached and detached, hot and cold; shown; grown.

    attach   register -> XML with the object's id as serial number -> live and next start
    detach   ask the guest (again and again: one that boots does not hear) -> gone from libvirt's XML
             -> gone from QEMU's block nodes -> gone from the next start

A kill in between leaves a disk that is in one of the two definitions only; a repeat evens them out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import libvirt

from ....core.dataplane import probe
from ....core.dataplane.qemu_img import drop_inconsistent_bitmaps, run_qemu_img
from ....core.spi import (
    Busy,
    Call,
    FileLocation,
    Introduced,
    Introduction,
    InvalidArgument,
    Location,
    NbdLocation,
    NotFound,
    ResizesDisks,
    ShowsDisks,
    StorageError,
    Unavailable,
    Unsupported,
    VmDisk,
)
from ....transfer_objects.cloudstack.ids import native_id
from ....transfer_objects.ids import VmId
from .bitmaps import Bitmaps
from .chap import needs_secret, usage_of
from .connection import HostLink
from .domain_xml import (
    Element,
    disk_of_device,
    disk_of_object,
    disks_of,
    format_of,
    free_target,
    index_of,
    location_of,
    new_disk,
    object_of,
    parse,
    target_of,
    text_of,
)
from .errors import UNPLUGGING
from .machine import Machine
from .objects import KvmObjects
from .qmp import qmp_ask
from .waiting import wait_until

_LIVE, _CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG
_ASK_AGAIN = 2.0  # seconds: a guest that is just booting drops the request


class KvmDisks(KvmObjects, ShowsDisks, ResizesDisks):
    """The VMs' disks."""

    def vm_disks(self, vm: VmId, call: Call) -> Sequence[VmDisk]:
        """See `ShowsDisks.vm_disks`; what is neither file, NBD nor iSCSI (a block device) is left out."""
        machine = self._machine(vm, call)
        return list(self._shown(machine, machine.definition(call), call))

    def vms_with(self, object_id: str, call: Call) -> Sequence[VmId]:
        """See `ShowsDisks.vms_with`; of a running VM what it has now counts, not what it will start with."""
        found: dict[VmId, None] = {}
        silent: StorageError | None = None
        for link in self._links.values():
            try:
                found.update(dict.fromkeys(_having(link, object_id, call)))
            except Unavailable as error:
                silent = error
        if not found and silent is not None:
            raise silent
        return list(found)

    def _shown(self, machine: Machine, definition: Element, call: Call) -> Iterator[VmDisk]:
        active = machine.active(call)
        for disk in disks_of(definition):
            location, ours = location_of(disk), object_of(disk)
            if location is None:
                continue
            known = None
            if not active and ours and not isinstance(location, FileLocation):
                # libvirt cannot look, and the storage may have revoked it meanwhile.
                known = next(self._register.of_id(machine.link.host, ours), None)
            size = known.size if known is not None else size_of(machine, disk, call)
            yield VmDisk(device=target_of(disk), object_id=ours, location=location, size=size)

    def attach(self, vm: VmId, disk: Introduced, call: Call) -> str:
        """See `HypervisorDriver.attach`.

        Raises:
            InvalidArgument: the VM is on another host than the object.
        """
        known = self._known(disk)
        machine = self._machine(vm, call)
        if machine.link.host != disk.host:
            raise InvalidArgument(f"VM {vm} is on host {machine.link.host}, {disk.object_id} on {disk.host}")
        definitions = _definitions(machine, call)
        found = [disk_of_object(one, disk.object_id) for one in definitions.values()]
        there = next((one for one in found if one is not None), None)
        target = free_target(*definitions.values()) if there is None else target_of(there)
        missing = sum(flag for flag, one in zip(definitions, found, strict=True) if one is None)
        if missing:
            text = text_of(self._disk_xml(known, target))
            machine.act(call, lambda domain: domain.attachDeviceFlags(text, missing), "attaching a disk")
        return target

    def _disk_xml(self, known: Introduction, target: str) -> Element:
        secret = usage_of(known.kind, known.object_id) if needs_secret(known) else ""
        return new_disk(known.location, known.object_id, target, cache=self.options.cache, secret=secret)

    def detach(self, vm: VmId, disk: Introduced, call: Call) -> None:
        """See `HypervisorDriver.detach`.

        Raises:
            DeadlineExceeded: the guest does not let go; unknown, since it may do so later.
        """
        machine = self._machine(vm, call)
        for flag, definition in _definitions(machine, call).items():
            found = disk_of_object(definition, disk.object_id)
            if found is None:
                continue
            if flag == _LIVE:
                _unplug(machine, found, call)
            else:
                _detach(machine, found, _CONFIG, call)

    def resize_disk(self, vm: VmId, device: str, size: int, call: Call) -> None:
        """See `ResizesDisks.resize_disk`."""
        machine = self._machine(vm, call)
        disk = disk_named(machine, device, call)
        present = size_of(machine, disk, call)
        if size < present:
            raise InvalidArgument(f"{device} of VM {vm} has {present} bytes; a disk cannot shrink to {size}")
        if size == present:
            return
        if isinstance(location_of(disk), NbdLocation):
            raise Unsupported("an NBD disk cannot grow; attach it again with its new size")
        if machine.active(call):
            Bitmaps(machine, call).remove_inconsistent(device, call)
            flags = libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES
            machine.act(call, lambda domain: domain.blockResize(device, size, flags), "resizing a disk")
        else:
            _grow_image(disk, size, call)


def _having(link: HostLink, object_id: str, call: Call) -> list[VmId]:
    def names(connection: Any) -> list[str]:
        having = []
        for domain in connection.listAllDomains():
            try:
                definition = parse(domain.XMLDesc())
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:  # it went since it was listed
                    raise
                continue
            if disk_of_object(definition, object_id) is not None:
                having.append(domain.name())
        return having

    found = link.ask(call, names, f"looking for the VM that has {object_id}")
    return [VmId(native_id(name)) for name in found]


def _definitions(machine: Machine, call: Call) -> dict[int, Element]:
    """Return what the VM has now, and what it will start with, by libvirt's flag for each."""
    found: dict[int, Element] = {}
    if machine.active(call):
        found[_LIVE] = machine.definition(call)
    if machine.persistent(call):
        found[_CONFIG] = machine.definition(call, inactive=True)
    return found


def disk_named(machine: Machine, device: str, call: Call) -> Element:
    """Return a disk as the VM has it now.

    Raises:
        NotFound: it has none of this name.
    """
    disk = disk_of_device(machine.definition(call), device)
    if disk is None:
        raise NotFound(f"VM {machine.vm} has no disk {device!r}")
    return disk


def _detach(machine: Machine, disk: Element, flag: int, call: Call) -> None:
    text = text_of(disk)
    with suppress(NotFound):
        machine.act(call, lambda domain: domain.detachDeviceFlags(text, flag), "detaching a disk")


def _unplug(machine: Machine, disk: Element, call: Call) -> None:
    """Ask the guest to let go of a disk until it has; see that QEMU has closed the image."""
    asked = 0.0

    def gone() -> bool:
        nonlocal asked
        if not machine.active(call) or disk_of_device(machine.definition(call), target_of(disk)) is None:
            return True
        if time.monotonic() - asked > _ASK_AGAIN:
            asked = time.monotonic()
            _ask_to_let_go(machine, disk, call)
        return False

    what = f"VM {machine.vm}: the guest does not let go of {target_of(disk)}"
    wait_until(gone, call, what)
    wait_until(lambda: not _is_open(machine, disk, call), call, what)


def _ask_to_let_go(machine: Machine, disk: Element, call: Call) -> None:
    try:
        _detach(machine, disk, _LIVE, call)
    except Busy as error:
        if UNPLUGGING not in error.message:  # a backup or a merge: nothing to wait for here
            raise


def _is_open(machine: Machine, disk: Element, call: Call) -> bool:
    """Tell whether QEMU has a block node of this disk: libvirt's XML forgets it a moment earlier."""
    if not machine.active(call):
        return False
    backend = f"libvirt-{index_of(disk)}-"
    nodes = qmp_ask(machine, "query-named-block-nodes", call, flat=True)
    return any(str(node.get("node-name", "")).startswith(backend) for node in nodes)


def size_of(machine: Machine, disk: Element, call: Call) -> int:
    """Return the bytes that the guest sees, or will see."""
    location: Location | None = location_of(disk)
    if isinstance(location, FileLocation) and not machine.active(call):
        return probe(location.path.resolve(), location.format).virtual_size
    device = target_of(disk)
    return int(machine.ask(call, lambda domain: domain.blockInfo(device)[0], "asking for a disk's size"))


def _grow_image(disk: Element, size: int, call: Call) -> None:
    location = location_of(disk)
    if not isinstance(location, FileLocation):
        raise Unsupported("only files of a stopped VM can grow here; others grow on their storage")
    path: Path = location.path.resolve()
    if location.format == "qcow2":
        drop_inconsistent_bitmaps(path, call)
    run_qemu_img(["resize", "-q", "-f", format_of(disk), str(path), str(size)], call)
