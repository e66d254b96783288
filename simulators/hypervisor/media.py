"""Where the bytes of a disk or object are: a file or an NBD export; its size and identity."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from .errors import Refused
from .nbd_client import NbdClient

_QCOW2_MAGIC = b"QFI\xfb"


class Medium(Protocol):
    """An open disk."""

    size: int

    def read(self, offset: int, length: int) -> bytes:
        """Bytes at an offset."""

    def write(self, offset: int, data: bytes) -> None:
        """Writes; durable after ``flush``."""

    def flush(self) -> None:
        """Makes the writes durable."""

    def close(self) -> None:
        """Gives it back."""


class RawFile:
    """A raw image, opened for reading and writing."""

    def __init__(self, path: str) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.size = os.fstat(self._handle).st_size

    def read(self, offset: int, length: int) -> bytes:
        """Bytes at an offset."""
        return os.pread(self._handle, length, offset)

    def write(self, offset: int, data: bytes) -> None:
        """Writes to the page cache."""
        os.pwrite(self._handle, data, offset)

    def flush(self) -> None:
        """Makes the writes durable."""
        os.fdatasync(self._handle)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._handle)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAddress:
    """A file on storage that the host has mounted; ``format`` is "raw" or "qcow2"."""

    path: str
    format: str = "raw"

    def open(self) -> Medium:
        """Opens a raw file."""
        return RawFile(self.path)

    @property
    def guest_may_write(self) -> bool:
        """Simulated guests know raw disks only; their blocks would destroy a qcow2 file."""
        return self.format == "raw"

    def size(self) -> int:
        """Bytes that a host sees: the virtual size of a qcow2."""
        with Path(self.path).open("rb") as file:
            head = file.read(32)
        is_qcow2 = head.startswith(_QCOW2_MAGIC)
        if is_qcow2 != (self.format == "qcow2"):
            raise Refused(422, "wrong_format", f"{self.path} is not {self.format}")
        return int.from_bytes(head[24:32], "big") if is_qcow2 else Path(self.path).stat().st_size

    def identity(self) -> str:
        """The serial in ``<path>.serial`` if there is such a file, else the canonical path."""
        serial = Path(self.path + ".serial")
        return serial.read_text().strip() if serial.exists() else os.path.realpath(self.path)

    def delete(self) -> None:
        """What a broken forget does."""
        Path(self.path).unlink()

    def public(self) -> dict[str, Any]:
        """Without secrets."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class NbdAddress:
    """An NBD export. Arrays put a proof of the grant into its name, so it is not shown."""

    host: str
    port: int
    export: str
    guest_may_write: bool = True

    def __repr__(self) -> str:
        return f"NbdAddress({self.host}:{self.port})"

    def open(self) -> Medium:
        """Connects."""
        return NbdClient(self.host, self.port, self.export)

    def size(self) -> int:
        """Bytes that the server tells."""
        client = self.open()
        client.close()
        return client.size

    def identity(self) -> str:
        """The LUN's serial: the export name up to its first colon."""
        return self.export.partition(":")[0]

    def delete(self) -> None:
        """What a broken forget does: as far as a host can, it wipes the first MiB."""
        client = self.open()
        try:
            client.write(0, bytes(min(client.size, 2**20)))
            client.flush()
        finally:
            client.close()

    def public(self) -> dict[str, Any]:
        """Without the export's name."""
        return {"host": self.host, "port": self.port}


Address = FileAddress | NbdAddress


def parse_address(body: object) -> Address:
    """``{"path", "format"}`` or ``{"host", "port", "export"}``, else 400."""
    match body:
        case {"path": str(path), **rest} if set(rest) <= {"format"}:
            form = str(rest.get("format", "raw"))
            if not path.startswith("/") or form not in ("raw", "qcow2"):
                raise Refused(400, "bad_request", "an absolute path and the format raw or qcow2 are required")
            return FileAddress(path=path, format=form)
        case {"host": str(host), "port": int(port), "export": str(export), **rest} if not rest:
            return NbdAddress(host=host, port=port, export=export)
    raise Refused(400, "bad_request", "an address has path and format, or host, port and export")


def store_address(address: Address) -> dict[str, Any]:
    """The form for ``parse_address``, secrets included: for the state file only."""
    body = asdict(address)
    body.pop("guest_may_write", None)
    return body


def check(address: Address, identity: str | None, size: int | None) -> tuple[str, int]:
    """The identity and size of what is there.

    Raises:
        Refused: 404 when nothing is there, 422 when it is something else.
    """
    try:
        found_size = address.size()
        found = address.identity()
    except OSError as error:
        raise Refused(404, "no_such_storage", f"nothing answers at {address!r}") from error
    if identity is not None and found != identity:
        raise Refused(422, "wrong_identity", f"expected {identity}, found {found}")
    if size is not None and found_size != size:
        raise Refused(422, "wrong_size", f"expected {size} bytes, found {found_size}")
    return found, found_size
