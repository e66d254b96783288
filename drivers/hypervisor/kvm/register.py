"""The register of introduced objects: which host knows what, and where that is.

    <state>/<host>/introduced/<kind>.<id>.json      mode 0600: an NBD export's name may be a proof

Why files of ours and no object of libvirt's: a storage pool is a directory (one pool per directory, and
a refresh probes every image in it); its iSCSI pools log the kernel in, where QEMU needs no session at
all; nothing of libvirt's stands for an NBD export. A definition that never runs would hold anything as
metadata, but every orchestrator would list it as a VM. A file appears and goes in one rename, survives
libvirtd, and costs 0.1 ms.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ....core.dataplane.os_errors import os_errors
from ....core.spi import (
    DataLoss,
    FileLocation,
    Introduction,
    InvalidArgument,
    IscsiLocation,
    Location,
    NbdLocation,
    ObjectKind,
)
from ....transfer_objects.ids import ID_RULE, HostId, is_valid_id
from ....transfer_objects.secret import Secret
from .drafts import draft_of, draft_path, drop_dead_draft


class Register:
    """What the hosts know. Every process that has the same directory sees the same."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def find(self, host: HostId, kind: ObjectKind, object_id: str) -> Introduction | None:
        """Return what the host knows under this id."""
        return _read(self._path(host, kind, object_id))

    def of_id(self, host: HostId, object_id: str) -> Iterator[Introduction]:
        """Return what the host knows under this id, of whatever kind."""
        for kind in ObjectKind:
            found = self.find(host, kind, object_id)
            if found is not None:
                yield found

    def all(self, host: HostId, kind: ObjectKind) -> Iterator[Introduction]:
        """Yield what the host knows of a kind, by id."""
        directory = self._state / host / "introduced"
        for path in sorted(directory.glob(f"{kind}.*.json")):
            found = _read(path)
            if found is not None:  # else it was forgotten just now
                yield found

    def keep(self, what: Introduction) -> None:
        """Write it down; when this returns it survives a power cut."""
        path = self._path(what.host, what.kind, what.object_id)
        write_whole(path, json.dumps(_to_json(what)).encode())

    def drop(self, host: HostId, kind: ObjectKind, object_id: str) -> None:
        """Strike it out; fine if it is not there."""
        strike_out(self._path(host, kind, object_id))

    def _path(self, host: HostId, kind: ObjectKind, object_id: str) -> Path:
        if not is_valid_id(object_id):
            raise InvalidArgument(f"object id {object_id!r} is not valid: {ID_RULE}")
        return self._state / host / "introduced" / f"{kind}.{object_id}.json"


def write_whole(path: Path, content: bytes) -> None:
    """Write a private file so that it is there wholly or not at all; see drafts.py."""
    with os_errors(f"cannot write {path}"):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with draft_of(path) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            draft_path(path).replace(path)
        _sync_directory(path.parent)


def strike_out(path: Path) -> None:
    """Remove what `write_whole` wrote, or was killed at; fine if there is nothing."""
    with os_errors(f"cannot strike out {path}"):
        path.unlink(missing_ok=True)
        drop_dead_draft(path)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read(path: Path) -> Introduction | None:
    try:
        with os_errors(f"cannot read {path}"):
            raw = json.loads(path.read_bytes()) if path.exists() else None
        return None if raw is None else _from_json(raw)
    except (ValueError, KeyError, TypeError) as error:
        raise DataLoss(f"the register's entry {path} is damaged") from error


def _to_json(what: Introduction) -> dict[str, Any]:
    return {
        "kind": what.kind,
        "object_id": what.object_id,
        "host": what.host,
        "identity": what.identity,
        "size": what.size,
        "location": _location_to_json(what.location),
    }


def _location_to_json(location: Location) -> dict[str, Any]:
    """Tell where it is. A CHAP secret is not written: libvirt keeps it, as one that nobody can read."""
    match location:
        case FileLocation():
            told: dict[str, Any] = {"file": str(location.path), "format": location.format}
        case NbdLocation(address=Path() as path):
            told = {"nbd": str(path), "export": location.export.reveal(), "size": location.size}
        case NbdLocation(address=(host, port)):
            told = {"nbd": [host, port], "export": location.export.reveal(), "size": location.size}
        case IscsiLocation(portal=(host, port)):
            told = {
                "iscsi": [host, port],
                "target": location.target,
                "lun": location.lun,
                "initiator": location.initiator,
                "chap_user": location.chap_user,
                "size": location.size,
            }
    return told | {"read_only": location.read_only}


def _from_json(raw: dict[str, Any]) -> Introduction:
    return Introduction(
        kind=ObjectKind(raw["kind"]),
        object_id=raw["object_id"],
        host=HostId(raw["host"]),
        identity=raw["identity"],
        size=raw["size"],
        location=_location_from_json(raw["location"]),
    )


def _location_from_json(raw: dict[str, Any]) -> Location:
    read_only = raw["read_only"]
    if "file" in raw:
        return FileLocation(path=Path(raw["file"]), format=raw["format"], read_only=read_only)
    if "nbd" in raw:
        place = raw["nbd"]
        address = Path(place) if isinstance(place, str) else (place[0], place[1])
        export = Secret(raw["export"])
        return NbdLocation(address=address, export=export, size=raw["size"], read_only=read_only)
    return IscsiLocation(
        portal=(raw["iscsi"][0], raw["iscsi"][1]),
        target=raw["target"],
        lun=raw["lun"],
        initiator=raw["initiator"],
        chap_user=raw["chap_user"],
        size=raw["size"],
        read_only=read_only,
    )
