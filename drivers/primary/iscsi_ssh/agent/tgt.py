"""tgtd's control socket, spoken to as tgtadm does.

Not through tgtadm: it takes a CHAP password on its command line only, where every user of the array reads it.
The protocol is that of tgt's usr/tgtadm.h, read off tgtadm 1.0.85 byte by byte: one request per connection.

    mode u32 | op u32 | lld 64s | len u32 | tid i32 | sid u64 | lun u64 | cid u32 | host u32 |
    device type u32 | account direction u32 | pack u32 | force u32 | parameters, NUL at the end

    error u32 | len u32 | text
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .errors import Refused

_REQUEST = struct.Struct("<II64sIiQQIIIIII")
_ANSWER = struct.Struct("<II")
_NEW, _DELETE, _SHOW, _BIND, _UNBIND, _UPDATE = range(6)
_TARGET, _DEVICE, _CONNECTION, _ACCOUNT = 1, 2, 6, 7
_NO_LUN = 2**64 - 1
LUN = 1

NO_TARGET, NO_LUN, NO_SESSION, NO_CONNECTION = 4, 5, 6, 7
TARGET_EXISTS, ACL_EXISTS, ACL_MISSING, NO_USER, TARGET_ACTIVE, LUN_ACTIVE = 9, 12, 13, 15, 19, 20
_WORDS = {
    2: "out of memory",
    NO_TARGET: "no such target",
    NO_LUN: "no such LUN",
    TARGET_EXISTS: "the target exists",
    14: "the account exists",
    17: "invalid request",
    TARGET_ACTIVE: "the target is active",
    LUN_ACTIVE: "the LUN is active",
    23: "unknown parameter",
}


class TgtError(Exception):
    """tgtd says no.

    Args:
        number: enum tgtadm_errno.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"tgtd: {_WORDS.get(number, f'error {number}')}")
        self.number = number


@dataclass(slots=True, kw_only=True)
class Target:
    """A target as tgtd shows it; `lun` is the file of LUN 1, `sessions` are (session, connection)."""

    tid: int
    name: str
    lun: str = ""
    serial: str = ""
    read_only: bool = False
    sessions: list[tuple[int, int]] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)
    initiators: list[str] = field(default_factory=list)


class Tgt:
    """The daemon behind a control socket.

    Args:
        path: the socket, with tgtd's ".0" at the end if it has one.
        timeout: seconds for one request.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        self._path = path
        self._timeout = timeout

    def pid(self) -> int:
        """Return tgtd's pid, from the kernel: who listens on the socket."""
        with self._connect() as sock:
            # A request goes with it: tgtd 1.0.85 may spin on a connection that ends without one.
            sock.sendall(_request(_ACCOUNT, _SHOW))
            _answered(sock)
            peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", peer)[0])

    def targets(self, prefix: str = "") -> list[Target]:
        """Return the targets whose names begin so."""
        return [t for t in parse_targets(self._ask(_request(_TARGET, _SHOW))) if t.name.startswith(prefix)]

    def find(self, name: str) -> Target | None:
        """Return the target of that name."""
        return next((target for target in self.targets(name) if target.name == name), None)

    def new_target(self, name: str) -> Target:
        """Make a target; nobody can log in before an initiator is allowed."""
        taken = {target.tid for target in self.targets()}
        tid = next(number for number in range(1, 2**31) if number not in taken)
        self._ask(_request(_TARGET, _NEW, f"targetname={name}", tid=tid))
        return Target(tid=tid, name=name)

    def delete_target(self, tid: int) -> None:
        """Delete a target; one with a session gives TARGET_ACTIVE."""
        self._ask(_request(_TARGET, _DELETE, tid=tid))

    def new_lun(self, tid: int, file: Path) -> None:
        """Put a file behind LUN 1."""
        self._ask(_request(_DEVICE, _NEW, f"path={file}", tid=tid, lun=LUN))

    def update_lun(self, tid: int, parameters: str) -> None:
        """Change LUN 1."""
        self._ask(_request(_DEVICE, _UPDATE, f"targetOps {parameters},", tid=tid, lun=LUN))

    def delete_lun(self, tid: int) -> None:
        """Delete LUN 1; while a command works on it, it is LUN_ACTIVE."""
        self._ask(_request(_DEVICE, _DELETE, tid=tid, lun=LUN))

    def allow(self, tid: int, initiator: str) -> None:
        """Let an initiator log in."""
        self._ask(_request(_TARGET, _BIND, f"initiator-name={initiator}", tid=tid), fine=(ACL_EXISTS,))

    def forbid(self, tid: int, initiator: str) -> None:
        """Let an initiator log in no more; its open sessions stay."""
        self._ask(_request(_TARGET, _UNBIND, f"initiator-name={initiator}", tid=tid), fine=(ACL_MISSING,))

    def kick(self, tid: int, session: int, connection: int) -> None:
        """Begin to end a connection; it is over when `targets` no longer shows it."""
        gone = (NO_TARGET, NO_SESSION, NO_CONNECTION)
        self._ask(_request(_CONNECTION, _DELETE, tid=tid, sid=session, cid=connection), fine=gone)

    def accounts(self) -> set[str]:
        """Return the CHAP users."""
        shown = self._ask(_request(_ACCOUNT, _SHOW))
        return {line.strip() for line in shown.splitlines()[1:] if line.strip()}

    def new_account(self, user: str, secret: str) -> None:
        """Make a CHAP account."""
        self._ask(_request(_ACCOUNT, _NEW, f"user={user},password={secret}"))

    def delete_account(self, user: str) -> None:
        """Delete a CHAP account, which also unbinds it from all targets."""
        self._ask(_request(_ACCOUNT, _DELETE, f"user={user}"), fine=(NO_USER,))

    def bind_account(self, tid: int, user: str) -> None:
        """Demand this account of who logs in to the target."""
        self._ask(_request(_ACCOUNT, _BIND, f"user={user}", tid=tid))

    # -- protocol --------------------------------------------------------------------------------------

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self._timeout)
        try:
            sock.connect(str(self._path))
        except OSError as error:
            sock.close()
            raise Refused("unavailable", "tgtd does not run on the array", "unknown") from error
        return sock

    def _ask(self, request: bytes, fine: tuple[int, ...] = ()) -> str:
        with self._connect() as sock:
            sock.sendall(request)
            error, text = _answered(sock)
        if error not in (0, *fine):
            raise TgtError(error)
        return text


def _request(
    mode: int,
    op: int,
    parameters: str = "",
    *,
    tid: int = -1,
    sid: int = 0,
    lun: int = _NO_LUN,
    cid: int = 0,
) -> bytes:
    text = parameters.encode() + b"\0" if parameters else b""
    size = _REQUEST.size + len(text)
    return _REQUEST.pack(mode, op, b"iscsi", size, tid, sid, lun, cid, 0, 0, 0, 0, 0) + text


def _answered(sock: socket.socket) -> tuple[int, str]:
    error, length = _ANSWER.unpack(_receive(sock, _ANSWER.size))
    return error, _receive(sock, max(0, length - _ANSWER.size)).rstrip(b"\0").decode(errors="replace")


def _receive(sock: socket.socket, size: int) -> bytes:
    parts, left = [], size
    while left:
        part = sock.recv(min(left, 65536))
        if not part:
            raise Refused("unavailable", "tgtd broke the connection", "unknown")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


_LINES = re.compile(
    r"Target (?P<tid>\d+): (?P<name>\S+)$"
    r"|    (?P<section>\S.*):$"
    r"|        LUN: (?P<lun>\d+)$"
    r"|        I_T nexus: (?P<session>\d+)$"
    r"|            Connection: (?P<connection>\d+)$"
    r"|            SCSI SN: (?P<serial>\S+)$"
    r"|            Readonly: (?P<readonly>\w+)$"
    r"|            Backing store path: (?P<path>.+)$"
    r"|        (?P<word>\S+)$"
)


def parse_targets(shown: str) -> list[Target]:
    """Read what `tgtadm --op show --mode target` shows."""
    found: list[Target] = []
    section = lun = session = ""
    for match in _matches(shown):
        if match["tid"]:
            found.append(Target(tid=int(match["tid"]), name=match["name"]))
            continue
        target = found[-1]
        section, lun = match["section"] or section, match["lun"] or lun
        session = match["session"] or session
        if match["connection"]:
            target.sessions.append((int(session), int(match["connection"])))
        elif match["word"] and section == "Account information":
            target.accounts.append(match["word"])
        elif match["word"] and section == "ACL information":
            target.initiators.append(match["word"])
        elif lun == str(LUN):
            target.lun = match["path"] or target.lun
            target.serial = match["serial"] or target.serial
            target.read_only = target.read_only or match["readonly"] == "Yes"
    return found


def _matches(shown: str) -> Iterator[re.Match[str]]:
    for line in shown.splitlines():
        match = _LINES.match(line)
        if match:
            yield match
