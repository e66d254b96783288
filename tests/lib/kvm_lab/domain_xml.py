"""The XML of domains and disks that the lab defines."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

from .guest_image import GuestImage

# Halves the time to boot under TCG: no mitigations, no self tests, no timers calibrated, no code patched.
_CMDLINE = (
    "console=ttyS0 quiet panic=-1 mitigations=off nokaslr no_timer_check tsc=reliable "
    "noreplace-smp cryptomgr.notests rcupdate.rcu_expedited=1"
)
_AGENT = "org.qemu.guest_agent.0"
_SERIAL = 20  # characters that virtio-blk has for it


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk from a file.

    Attributes:
        serial: how the guest finds it, at most 20 characters; it is mounted at /mnt/<serial>.
        error_policy: what happens at an I/O error: "stop" pauses the VM, "report" tells the guest,
            "enospace" pauses when storage is full and reports otherwise (QEMU's default).
    """

    path: Path
    serial: str
    format: str = "qcow2"
    error_policy: str = ""

    def __post_init__(self) -> None:
        assert len(self.serial) <= _SERIAL, f"QEMU cuts the serial {self.serial} at {_SERIAL} characters"

    def xml(self, device: str) -> str:
        """Return the XML to attach it with, as `device` ("vda")."""
        return tostring(_disk(self, device), encoding="unicode")


def domain_xml(
    name: str,
    disks: Sequence[Disk],
    *,
    image: GuestImage | None,
    memory_mib: int,
    console: Path,
    domain_id: uuid.UUID | None = None,
) -> str:
    """Return the XML of a VM with virtio disks vda, vdb ... and a channel for the guest agent.

    Args:
        image: what it boots; None for a VM that is never meant to run.
        console: file that gets what the guest prints.
    """
    # type kvm starts on machines with nested PVM and then crawls for minutes: TCG always.
    domain = Element("domain", type="qemu")
    _text(domain, "name", name)
    _text(domain, "uuid", str(domain_id or uuid.uuid4()))
    _text(domain, "memory", str(memory_mib), unit="MiB")
    _text(domain, "vcpu", "1")
    boot = SubElement(domain, "os")
    # Not q35: there a disk can only be plugged into a port that was there at the start.
    _text(boot, "type", "hvm", arch="x86_64", machine="pc")
    if image:
        _text(boot, "kernel", str(image.kernel))
        _text(boot, "initrd", str(image.initramfs))
        _text(boot, "cmdline", _CMDLINE)
    _add_features(domain)
    devices = SubElement(domain, "devices")
    _text(devices, "emulator", "/usr/bin/qemu-system-x86_64")
    devices.extend(_disk(disk, device_name(number)) for number, disk in enumerate(disks))
    _add_devices(devices, console)
    return tostring(domain, encoding="unicode")


def device_name(number: int) -> str:
    """Return the name of the n-th disk: vda, vdb ..."""
    return f"vd{chr(ord('a') + number)}"


def _add_features(domain: Element) -> None:
    features = SubElement(domain, "features")
    SubElement(features, "acpi")  # plugs disks and shuts down
    SubElement(features, "apic")
    # Translated code. With 16 MiB QEMU translates the same kernel over and over: all is 4 times slower.
    _text(SubElement(features, "tcg"), "tb-cache", "128", unit="MiB")


def _add_devices(devices: Element, console: Path) -> None:
    SubElement(devices, "controller", type="usb", model="none")
    SubElement(devices, "controller", type="virtio-serial", index="0")
    channel = SubElement(devices, "channel", type="unix")
    SubElement(channel, "target", type="virtio", name=_AGENT)
    serial = SubElement(devices, "serial", type="file")
    SubElement(serial, "source", path=str(console), append="on")
    SubElement(serial, "target", port="0")
    SubElement(devices, "memballoon", model="none")


def _disk(disk: Disk, device: str) -> Element:
    element = Element("disk", type="file", device="disk")
    driver = SubElement(element, "driver", name="qemu", type=disk.format, discard="unmap")
    if disk.error_policy:
        driver.set("error_policy", disk.error_policy)
    SubElement(element, "source", file=str(disk.path))
    SubElement(element, "target", dev=device, bus="virtio")
    _text(element, "serial", disk.serial)
    return element


def _text(parent: Element, tag: str, text: str, **attributes: str) -> None:
    SubElement(parent, tag, attributes).text = text
