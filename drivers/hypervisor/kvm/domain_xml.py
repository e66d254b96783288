"""Disks in libvirt's XML: read, made, found again. Made with ElementTree, never with text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, count, product
from pathlib import Path
from string import ascii_lowercase
from xml.etree import ElementTree

from ....core.spi import (
    DiskFormat,
    FileLocation,
    Internal,
    IscsiLocation,
    Location,
    NbdLocation,
)
from ....transfer_objects.ids import is_valid_id
from ....transfer_objects.secret import Secret

Element = ElementTree.Element


def parse(text: str) -> Element:
    """Return XML of libvirt's as an element."""
    try:
        return ElementTree.fromstring(text)  # noqa: S314 - libvirt wrote it
    except ElementTree.ParseError as error:
        raise Internal("libvirt sent what is not XML") from error


def text_of(element: Element) -> str:
    """Return an element as libvirt wants it."""
    return ElementTree.tostring(element, encoding="unicode")


def sub(parent: Element, tag: str, text: str | None = None, **attributes: str) -> Element:
    """Append a child."""
    child = ElementTree.SubElement(parent, tag, attributes)
    child.text = text
    return child


def disks_of(definition: Element) -> list[Element]:
    """Return the disks (no CD-ROMs, no floppies) in the order of their devices."""
    found = [one for one in definition.iterfind("devices/disk") if one.get("device", "disk") == "disk"]
    return sorted(found, key=lambda disk: (len(target_of(disk)), target_of(disk)))


def target_of(disk: Element) -> str:
    """Return the device name ("vda")."""
    target = disk.find("target")
    name = target.get("dev") if target is not None else None
    if name is None:
        raise Internal("libvirt shows a disk without a target")
    return name


def object_of(disk: Element) -> str:
    """Return the id of the object that was attached through Bollard; "" if it was not."""
    serial = disk.findtext("serial", "")
    return serial if is_valid_id(serial) else ""


def disk_of_object(definition: Element, object_id: str) -> Element | None:
    """Return the disk that an object is."""
    return next((disk for disk in disks_of(definition) if disk.findtext("serial") == object_id), None)


def disk_of_device(definition: Element, device: str) -> Element | None:
    """Return the disk with this target."""
    return next((disk for disk in disks_of(definition) if target_of(disk) == device), None)


def free_target(*definitions: Element) -> str:
    """Return the first device name that is in none of the definitions: vda .. vdz, vdaa .."""
    used = {str(target.get("dev")) for one in definitions for target in one.iterfind("devices/disk/target")}
    endings = chain.from_iterable(product(ascii_lowercase, repeat=length) for length in count(1))
    return next(name for ending in endings if (name := "vd" + "".join(ending)) not in used)


def format_of(disk: Element) -> DiskFormat:
    """Return the format of the image that is written now."""
    driver = disk.find("driver")
    return "qcow2" if driver is not None and driver.get("type") == "qcow2" else "raw"


def node_of(disk: Element) -> str:
    """Return the name of QEMU's node for the image that a disk of a running VM writes to."""
    return f"libvirt-{index_of(disk)}-format"


def index_of(disk: Element) -> str:
    """Return libvirt's number of that image."""
    source = disk.find("source")
    index = source.get("index") if source is not None else None
    if index is None:
        raise Internal(f"libvirt shows no index for disk {target_of(disk)}")
    return index


def location_of(disk: Element) -> Location | None:
    """Return where a disk's image is; None for what has no such place (a block device, a volume)."""
    source = disk.find("source")
    if source is None:
        return None
    read_only = disk.find("readonly") is not None
    kind = disk.get("type")
    if kind == "file":
        return FileLocation(path=Path(source.get("file", "")), format=format_of(disk), read_only=read_only)
    if kind == "network" and source.get("protocol") == "nbd":
        return _nbd_of(source, read_only=read_only)
    if kind == "network" and source.get("protocol") == "iscsi":
        return _iscsi_of(source, read_only=read_only)
    return None


def _nbd_of(source: Element, *, read_only: bool) -> Location | None:
    host = source.find("host")
    if host is None:
        return None
    socket = host.get("socket")
    address = Path(socket) if socket else (host.get("name", ""), int(host.get("port", "10809")))
    return NbdLocation(address=address, export=Secret(source.get("name", "")), read_only=read_only)


def _iscsi_of(source: Element, *, read_only: bool) -> Location | None:
    host, initiator = source.find("host"), source.find("initiator/iqn")
    if host is None:
        return None
    target, _, lun = source.get("name", "").partition("/")
    return IscsiLocation(
        portal=(host.get("name", ""), int(host.get("port", "3260"))),
        target=target,
        lun=int(lun or 0),
        initiator=(initiator.get("name") or "") if initiator is not None else "",
        read_only=read_only,
    )


def point_disk(definition: Element, device: str, image: FileLocation) -> None:
    """Make a disk of a definition start with another image."""
    disk = disk_of_device(definition, device)
    source = disk.find("source") if disk is not None else None
    driver = disk.find("driver") if disk is not None else None
    if disk is None or source is None or driver is None:
        raise Internal(f"the definition has no file for {device}")
    source.set("file", str(image.path))
    driver.set("type", image.format)
    for old in disk.findall("backingStore"):
        disk.remove(old)


def files_of(disk: Element) -> Iterator[Path]:
    """Yield the files of a disk's chain as far as libvirt shows it, the one that is written first."""
    for source in disk.iter("source"):
        if source.get("file"):
            yield Path(str(source.get("file")))


def new_disk(location: Location, object_id: str, target: str, *, cache: str, secret: str) -> Element:
    """Return the XML of a disk.

    Args:
        location: the image.
        object_id: becomes the serial number, by which the disk is found again.
        target: device name.
        cache: QEMU's cache mode.
        secret: usage name of the libvirt secret with the CHAP password; "" for none.
    """
    network = not isinstance(location, FileLocation)
    disk = ElementTree.Element("disk", {"type": "network" if network else "file", "device": "disk"})
    driver = location.format if isinstance(location, FileLocation) else "raw"
    sub(disk, "driver", name="qemu", type=driver, cache=cache, discard="unmap")
    disk.append(_source(location, secret))
    sub(disk, "target", dev=target, bus="virtio")
    sub(disk, "serial", object_id)
    if location.read_only:
        sub(disk, "readonly")
    return disk


def _source(location: Location, secret: str) -> Element:
    source = ElementTree.Element("source")
    match location:
        case FileLocation(path=path):
            source.set("file", str(path))
        case NbdLocation(address=address, export=export):
            source.attrib.update(protocol="nbd", name=export.reveal())
            if isinstance(address, Path):
                sub(source, "host", transport="unix", socket=str(address))
            else:
                sub(source, "host", name=address[0], port=str(address[1]))
        case IscsiLocation(portal=(host, port)):
            source.attrib.update(protocol="iscsi", name=f"{location.target}/{location.lun}")
            sub(source, "host", name=host, port=str(port))
            sub(sub(source, "initiator"), "iqn", name=location.initiator)
            if secret:
                auth = sub(source, "auth", username=location.chap_user)
                sub(auth, "secret", type="iscsi", usage=secret)
    return source
