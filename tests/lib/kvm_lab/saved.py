r"""Booted clones: the saved state of one guest, restored under other names.

A save file of libvirt is a header of numbers, XML, QEMU's features ("cookie"), padding, and QEMU's stream:

    0       16        20       24            28           32         36      92    92+cookie   92+length
    │ magic │ version │ length │ was running │ compressed │ cookie │ unused │ XML\0 │ cookie ... │ stream

libvirt refuses to restore a file under another name or uuid, so the XML in the file is changed. The guest
in it has no disks; each clone gets its own afterwards, hot.
"""

from __future__ import annotations

import shutil
import struct
import uuid
from pathlib import Path
from xml.etree.ElementTree import fromstring, tostring

_HEADER = 92
_NUMBERS = struct.Struct("<IIII")
_NUMBERS_AT = 20


def write_clone(saved: Path, clone: Path, name: str, domain_id: uuid.UUID, console: Path) -> None:
    """Copy a save file under another name, uuid and console, ready for `virConnect.restore`."""
    with saved.open("rb") as source, clone.open("wb") as target:
        header = bytearray(source.read(_HEADER))
        length, was_running, compressed, cookie = _NUMBERS.unpack_from(header, _NUMBERS_AT)
        old = source.read(length)
        xml = _renamed(old[: cookie - 1].decode(), name, domain_id, console).encode() + b"\0"
        data = xml + old[cookie:]
        _NUMBERS.pack_into(header, _NUMBERS_AT, len(data), was_running, compressed, len(xml))
        target.write(header + data)
        shutil.copyfileobj(source, target, 1 << 20)


def _renamed(xml: str, name: str, domain_id: uuid.UUID, console: Path) -> str:
    domain = fromstring(xml)  # noqa: S314 - libvirt wrote it
    for tag, text in (("name", name), ("uuid", str(domain_id))):
        element = domain.find(tag)
        assert element is not None, xml
        element.text = text
    for source in domain.findall("devices/serial/source") + domain.findall("devices/console/source"):
        source.set("path", str(console))
    for channel in domain.findall("devices/channel"):
        for source in channel.findall("source"):
            channel.remove(source)  # libvirt names the socket after the VM
    return tostring(domain, encoding="unicode")
