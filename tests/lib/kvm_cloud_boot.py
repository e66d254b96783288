"""Guests that are up in a second with the disks that they have now, since booting takes five and more.

    once     a guest with n disks ── unmounts them ── is saved ── image
    a start  image + what the VM's disks are now ──> where libvirt keeps hibernated VMs ── driver.start_vm

QEMU opens the disks' images anew, and the guest mounts them anew: only the kernel was up before.
"""

from __future__ import annotations

import copy
import shutil
import struct
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring, tostring

import libvirt

from kvm_lab.guests import Guest

_HEADER = 92  # bytes; see kvm_lab.saved
_NUMBERS = struct.Struct("<IIII")
_NUMBERS_AT = 20
_UNMOUNT = "cd /; umount /mnt/* && sync && echo 3 >/proc/sys/vm/drop_caches"
_MOUNT = "for disk in /sys/block/vd*; do ACTION=add SUBSYSTEM=block DEVNAME=${disk##*/} /sbin/on-uevent; done"


def save_unmounted(guest: Guest, image: Path) -> None:
    """Save a guest whose disks are plugged in and used by nobody; the VM is off then."""
    guest.shell(_UNMOUNT)
    guest.domain.save(str(image))


def hibernate(guest: Guest, image: Path) -> None:
    """Let the next start of a VM that is off go on from the image, with the disks that it has now."""
    # libvirt looks for this very file at each start, and removes it when the VM is up.
    place = guest.host.root / "lib" / "qemu" / "save" / f"{guest.name}.save"
    domain = fromstring(guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))  # noqa: S314 - libvirt's own
    with image.open("rb") as source, place.open("wb") as target:
        header = bytearray(source.read(_HEADER))
        length, was_running, compressed, cookie = _NUMBERS.unpack_from(header, _NUMBERS_AT)
        old = source.read(length)
        xml = tostring(_with_disks(fromstring(old[: cookie - 1]), domain)) + b"\0"  # noqa: S314 - idem
        data = xml + old[cookie:]
        _NUMBERS.pack_into(header, _NUMBERS_AT, len(data), was_running, compressed, len(xml))
        target.write(header + data)
        shutil.copyfileobj(source, target, 1 << 20)


def mount(guest: Guest) -> None:
    """Let the guest mount its disks."""
    guest.shell(_MOUNT)


def _with_disks(saved: Element, domain: Element) -> Element:
    """Return the saved VM's XML with name, id, console and disks of the VM that shall go on from it."""
    present, wanted = saved.find("devices"), domain.find("devices")
    assert present is not None
    assert wanted is not None
    for tag in ("name", "uuid"):
        (old,), (new,) = saved.findall(tag), domain.findall(tag)
        old.text = new.text
    for tag in ("disk", "serial", "console", "channel"):
        for old in present.findall(tag):
            present.remove(old)
        present.extend(copy.deepcopy(wanted.findall(tag)))
    return saved
