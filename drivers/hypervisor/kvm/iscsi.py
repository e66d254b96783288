"""Which LUN answers: a login, three questions and a logout, through libiscsi, QEMU's own initiator.

The kernel's initiator is not used: QEMU logs in by itself, so a disk needs neither a device nor a
session of the host. libiscsi is there wherever QEMU attaches iSCSI disks (Debian: qemu-block-extra).
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ....core.spi import (
    Call,
    DataLoss,
    IscsiLocation,
    NotFound,
    Outcome,
    Unauthenticated,
    Unavailable,
    Unsupported,
)

_LIBRARY = "libiscsi.so.7"
_NORMAL_SESSION = 2
_NO_DIRECTION, _READ = 0, 1
_CHECK_CONDITION, _UNIT_ATTENTION, _ILLEGAL_REQUEST = 2, 6, 5
_ATTEMPTS = 3  # a new session's first answers are "unit attention"
_SERIAL, _IDENTIFICATION = 0x80, 0x83  # VPD pages
_NAA = 3
_ANSWER = 252  # bytes; a multiple of four below 256, which old targets choke on


@dataclass(frozen=True, slots=True, kw_only=True)
class Lun:
    """What a LUN says of itself: size in bytes; its serial number and NAA names."""

    size: int
    identities: tuple[str, ...]


class _Sense(ctypes.Structure):
    _fields_ = (
        ("error_type", ctypes.c_ubyte),
        ("key", ctypes.c_int),
        ("ascq", ctypes.c_int),
        ("more", ctypes.c_uint),
    )


class _Data(ctypes.Structure):
    _fields_ = (("size", ctypes.c_int), ("data", ctypes.c_void_p))


class _Task(ctypes.Structure):
    """`struct scsi_task` of libiscsi 1.x (soname 7), up to what is read here."""

    _fields_ = (
        ("status", ctypes.c_int),
        ("cdb_size", ctypes.c_int),
        ("direction", ctypes.c_int),
        ("expected", ctypes.c_int),
        ("cdb", ctypes.c_ubyte * 16),
        ("residual_status", ctypes.c_int),
        ("residual", ctypes.c_size_t),
        ("sense", _Sense),
        ("datain", _Data),
    )


@functools.cache
def _libiscsi() -> Any:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise Unsupported(f"{_LIBRARY} is not installed (Debian: apt install qemu-block-extra)") from error
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("iscsi_create_context", pointer, (text,)),
        ("iscsi_destroy_context", number, (pointer,)),
        ("iscsi_set_targetname", number, (pointer, text)),
        ("iscsi_set_session_type", number, (pointer, number)),
        ("iscsi_set_initiator_username_pwd", number, (pointer, text, text)),
        ("iscsi_set_timeout", number, (pointer, number)),
        ("iscsi_set_noautoreconnect", None, (pointer, number)),
        ("iscsi_full_connect_sync", number, (pointer, text, number)),
        ("iscsi_logout_sync", number, (pointer,)),
        ("iscsi_get_error", text, (pointer,)),
        ("scsi_create_task", pointer, (number, pointer, number, number)),
        ("scsi_free_scsi_task", None, (pointer,)),
        ("iscsi_scsi_command_sync", pointer, (pointer, number, pointer, pointer)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def inspect_lun(location: IscsiLocation, call: Call) -> Lun:
    """Log in, ask, log out.

    Raises:
        NotFound: no such target or LUN.
        Unauthenticated: CHAP was refused.
        Unavailable: nobody answers at the portal.
    """
    with _session(location, call) as session:
        capacity = session.read(struct.pack(">BBQIBB", 0x9E, 0x10, 0, 32, 0, 0), 32)
        last, block = struct.unpack_from(">QI", capacity)
        return Lun(size=(last + 1) * block, identities=tuple(_identities(session)))


def _identities(session: _Session) -> Iterator[str]:
    """Yield what the LUN is known by: its serial number, then its NAA names in hexadecimal."""
    serial = session.vital_page(_SERIAL).decode("ascii", "replace").strip(" \0")
    if serial:
        yield serial
    rest = session.vital_page(_IDENTIFICATION)
    while len(rest) >= 4:
        kind, length = rest[1] & 0x0F, rest[3]
        if kind == _NAA:
            yield rest[4 : 4 + length].hex()
        rest = rest[4 + length :]


class _Session:
    """One login to one LUN."""

    def __init__(self, library: Any, context: Any, lun: int) -> None:
        self._library = library
        self._context = context
        self._lun = lun

    def vital_page(self, page: int) -> bytes:
        """Return the content of a VPD page; empty if the LUN has none such."""
        inquiry = struct.pack(">BBBHB", 0x12, 1, page, _ANSWER, 0)
        answer = self.read(inquiry, _ANSWER, optional=True)
        return answer[4 : 4 + int.from_bytes(answer[2:4], "big")]

    def read(self, command: bytes, length: int, *, optional: bool = False) -> bytes:
        """Send a command that reads."""
        for _ in range(_ATTEMPTS):
            status, key, answer = self._send(command, length)
            if status == 0:
                return answer
            if (status, key) == (_CHECK_CONDITION, _ILLEGAL_REQUEST) and optional:
                return b""
            if (status, key) != (_CHECK_CONDITION, _UNIT_ATTENTION):
                break
        raise DataLoss(
            f"the LUN refuses the command {command[0]:#x} (status {status:#x}, sense key {key:#x})"
        )

    def _send(self, command: bytes, length: int) -> tuple[int, int, bytes]:
        raw = (ctypes.c_ubyte * len(command))(*command)
        task = self._library.scsi_create_task(len(command), raw, _READ, length)
        done = self._library.iscsi_scsi_command_sync(self._context, self._lun, task, None)
        if not done:
            raise Unavailable("the iSCSI target does not answer", outcome=Outcome.NOT_APPLIED)
        try:
            seen = _Task.from_address(done)
            size = seen.datain.size if seen.datain.data else 0
            return seen.status, seen.sense.key, ctypes.string_at(seen.datain.data, size) if size > 0 else b""
        finally:
            self._library.scsi_free_scsi_task(done)


@contextmanager
def _session(location: IscsiLocation, call: Call) -> Iterator[_Session]:
    library = _libiscsi()
    context = library.iscsi_create_context(location.initiator.encode())
    if not context:
        raise Unavailable("libiscsi has no memory", outcome=Outcome.NOT_APPLIED)
    try:
        library.iscsi_set_targetname(context, location.target.encode())
        library.iscsi_set_session_type(context, _NORMAL_SESSION)
        if location.chap_secret is not None:
            user, secret = location.chap_user.encode(), location.chap_secret.reveal().encode()
            library.iscsi_set_initiator_username_pwd(context, user, secret)
        library.iscsi_set_timeout(context, max(1, int(call.remaining(30))))
        library.iscsi_set_noautoreconnect(context, 1)
        host, port = location.portal
        if library.iscsi_full_connect_sync(context, f"{host}:{port}".encode(), location.lun):
            raise _refused(location, (library.iscsi_get_error(context) or b"").decode(errors="replace"))
        try:
            yield _Session(library, context, location.lun)
        finally:
            library.iscsi_logout_sync(context)
    finally:
        library.iscsi_destroy_context(context)


def _refused(location: IscsiLocation, said: str) -> Exception:
    """Return why there is no session; libiscsi has words for it and no codes."""
    place = f"{location.portal[0]}:{location.portal[1]} {location.target} LUN {location.lun}"
    told = said.lower()
    if "auth" in told:
        return Unauthenticated(f"{place}: CHAP was refused")
    if "not found" in told or "not_supported" in told:
        return NotFound(f"{place}: no such target or LUN ({said[:200]})")
    return Unavailable(f"{place}: {said[:200]}", outcome=Outcome.NOT_APPLIED)
