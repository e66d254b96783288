"""What really lies at a location: the host must find the identity and the size that it was told.

    file    identity = canonical path; size from the image's own header, read without opening it in QEMU
    NBD     identity = the export's name, or its part before ":"; size from the handshake. NBD tells no
            more: that the server admits this name is the proof
    iSCSI   identity = the LUN's serial number or NAA; size from READ CAPACITY    (iscsi.py)

The driver looks from where it runs, so a host's files must be reachable under the same paths here: it
runs on the host, or mounts what the host mounts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from pathlib import Path
from typing import NamedTuple

from ....core.dataplane import NbdClient, SocketEndpoint, probe
from ....core.spi import (
    Call,
    DataLoss,
    FileLocation,
    Introduction,
    InvalidArgument,
    IscsiLocation,
    Location,
    NbdLocation,
    RbdLocation,
    Unsupported,
)
from .iscsi import inspect_lun


class _Found(NamedTuple):
    """What lies there; `shown` tells its identity without what is secret."""

    location: Location
    size: int
    identities: tuple[str, ...]
    shown: str


def verified(what: Introduction, call: Call) -> Introduction:
    """Return the introduction with its location made canonical.

    Raises:
        NotFound: nothing is there.
        DataLoss: something else is there, or it has another size (not applied).
    """
    if what.size <= 0 or not what.identity:
        raise InvalidArgument("an introduction needs identity and size")
    match what.location:
        case FileLocation():
            found = _file(what.location)
        case NbdLocation():
            found = _nbd(what.location, call)
        case IscsiLocation():
            found = _iscsi(what.location, call)
        case RbdLocation():
            raise Unsupported("this driver introduces files, NBD exports and iSCSI LUNs, not RBD images")
    if what.identity not in found.identities:
        raise DataLoss(f"host {what.host} finds {found.shown} as {what.object_id}, not {what.identity!r}")
    if found.size != what.size:
        raise DataLoss(f"host {what.host} finds {found.size} bytes as {what.object_id}, not {what.size}")
    return dataclasses.replace(what, location=found.location)


def place_of(location: Location) -> str:
    """Return where it is as one text, without what is secret."""
    match location:
        case FileLocation(path=path):
            return str(path)
        case NbdLocation():
            return _nbd_place(location)
        case IscsiLocation(portal=(host, port), target=target, lun=lun):
            return f"iscsi://{host}:{port}/{target}/{lun}"
        case RbdLocation(pool=pool, image=image):
            return f"rbd:{pool}/{image}"


def _nbd_place(location: NbdLocation) -> str:
    """Return where an export is; its name may be a proof of a grant, so a digest stands for it."""
    digest = hashlib.sha256(location.export.reveal().encode()).hexdigest()[:16]
    if isinstance(location.address, Path):
        return f"nbd+unix:{location.address}#{digest}"
    return f"nbd://{location.address[0]}:{location.address[1]}#{digest}"


def _file(location: FileLocation) -> _Found:
    if not location.path.is_absolute():
        raise InvalidArgument("the location's path must be absolute")
    path = location.path.resolve()
    info = probe(path, location.format)
    if info.data_file is not None or info.encrypted:
        raise InvalidArgument(f"{path} keeps its data elsewhere or is encrypted by its format")
    if info.corrupt:
        raise DataLoss(f"{path} is marked as corrupt; `qemu-img check -r all` may repair it")
    canonical = dataclasses.replace(location, path=path)
    return _Found(canonical, info.virtual_size, (str(path),), repr(str(path)))


def _nbd(location: NbdLocation, call: Call) -> _Found:
    seconds = call.remaining(60)
    client = NbdClient(SocketEndpoint(location.address, timeout=seconds), location.export, timeout=seconds)
    with contextlib.closing(client):
        size = client.export.size
    if location.size not in (None, size):
        raise DataLoss(f"the export has {size} bytes, not {location.size}")
    export, place = location.export.reveal(), _nbd_place(location)
    return _Found(location, size, (export, export.partition(":")[0], place), place)


def _iscsi(location: IscsiLocation, call: Call) -> _Found:
    lun = inspect_lun(location, call)
    if location.size not in (None, lun.size):
        raise DataLoss(f"the LUN has {lun.size} bytes, not {location.size}")
    return _Found(location, lun.size, lun.identities, " or ".join(map(repr, lun.identities)))
