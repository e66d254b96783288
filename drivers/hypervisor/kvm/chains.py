"""The files that a disk is made of, from the one that is written down to the last that it stands on.

    vda ──> overlay2 ──> overlay1 ──> base
            top                       bottom

Of a running VM libvirt knows the chain; of a stopped one the images' headers tell it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ....core.dataplane import probe
from ....core.dataplane.os_errors import os_errors
from ....core.dataplane.qemu_img import image_info
from ....core.spi import (
    Call,
    DataLoss,
    DiskFormat,
    FileLocation,
    Internal,
    OutOfCapacity,
    Unsupported,
)
from .domain_xml import Element, format_of, index_of, location_of, target_of
from .machine import Machine

_LONGEST = 64  # images; more than that is a loop
_RESERVE = 1.05  # of what must fit: metadata of the image comes on top


def chain_of(machine: Machine, disk: Element, call: Call) -> Sequence[FileLocation]:
    """Return a disk's images, the one that is written first.

    Raises:
        Unsupported: it is no file.
    """
    location = location_of(disk)
    if not isinstance(location, FileLocation):
        raise Unsupported(f"disk {target_of(disk)} of VM {machine.vm} is no file")
    top = FileLocation(path=location.path.resolve(), format=location.format)
    return _live_chain(disk) if machine.active(call) else stored_chain(top, call)


def _live_chain(disk: Element) -> Sequence[FileLocation]:
    chain: list[FileLocation] = []
    level: Element | None = disk
    while level is not None:
        source = level.find("source")
        if source is None:
            break
        driver = level.find("format")
        form = format_of(level) if level is disk else _format(driver)
        chain.append(FileLocation(path=Path(source.get("file", "")).resolve(), format=form))
        level = level.find("backingStore")
    return chain


def _format(element: Element | None) -> DiskFormat:
    return "qcow2" if element is not None and element.get("type") == "qcow2" else "raw"


def stored_chain(top: FileLocation, call: Call) -> Sequence[FileLocation]:
    """Return the images that an image stands on, itself first, as their headers tell."""
    chain = [top]
    while chain[-1].format == "qcow2":
        info = image_info(chain[-1].path, "qcow2", call)
        backing, form = info.get("full-backing-filename"), info.get("backing-filename-format")
        if backing is None:
            break
        if form not in ("raw", "qcow2"):  # never guess: a raw image could pretend to be another
            raise DataLoss(f"{chain[-1].path} does not say what format its backing file has")
        if len(chain) == _LONGEST:
            raise DataLoss(f"{top.path} stands on more than {_LONGEST} images")
        chain.append(FileLocation(path=Path(backing).resolve(), format=form))
    return chain


def check_space(directory: Path, needed: int, what: str) -> None:
    """Refuse to begin what would not fit: a full file system would pause the guest.

    Raises:
        OutOfCapacity: naming both sizes.
    """
    with os_errors(f"cannot ask how full {directory} is"):
        free = shutil.disk_usage(directory).free
    if free < needed * _RESERVE:
        raise OutOfCapacity(f"{what} needs {needed} bytes and 5 % more in {directory}, where {free} are free")


def allocated(images: Sequence[FileLocation]) -> int:
    """Return the bytes that these images occupy: as much may have to go into the one below."""
    return sum(probe(image.path, image.format).allocated for image in images)


def position(chain: Sequence[FileLocation], wanted: FileLocation) -> int | None:
    """Return where in a chain an image is; None if it is not in there."""
    path = Path(os.path.realpath(wanted.path))
    return next((at for at, image in enumerate(chain) if image.path == path), None)


def index_in_chain(disk: Element, at: int) -> str:
    """Return libvirt's name ("vda[2]") for the image at a position of a running VM's chain."""
    return f"{target_of(disk)}[{_index(disk, at)}]"


def node_in_chain(disk: Element, at: int) -> str:
    """Return the name of QEMU's node for that image."""
    return f"libvirt-{_index(disk, at)}-format"


def _index(disk: Element, at: int) -> str:
    level: Element | None = disk
    for _ in range(at):
        level = level.find("backingStore") if level is not None else None
    # libvirt puts it into the source of the image that is written, and beside the source of the others.
    index = index_of(disk) if level is disk else level.get("index") if level is not None else None
    if index is None:
        raise Internal(f"libvirt shows no index for image {at} of {target_of(disk)}")
    return index
