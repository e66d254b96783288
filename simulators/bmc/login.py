"""The login of RMCP+ (IPMI 2.0, sections 13.17 to 13.24): four messages after the offer of ciphers.

console                         BMC
  │ open session: ciphers        │
  │ ───────────────────────────▶ │  status 11h: none of them
  │ RAKP 1: random, role, name   │
  │ ───────────────────────────▶ │  status 0Dh: no such name, 0Ah: not that role
  │ ◀─────────────────────────── │  RAKP 2: random, GUID, HMAC with the user's password
  │ RAKP 3: HMAC, or a status    │  a console with the wrong password sees so in RAKP 2
  │ ───────────────────────────▶ │  status 0Fh
  │ ◀─────────────────────────── │  RAKP 4: HMAC with the session's key
"""

from __future__ import annotations

import hmac
import os
import struct
from dataclasses import dataclass, field

from .defects import BmcDefects
from .rmcp import OPENED, RAKP2, RAKP4, SUITES, BadFrame, Seal, Suite, plus

ADMINISTRATOR = 4
_OK, _NO_RESOURCES, _UNAUTHORIZED_ROLE, _UNAUTHORIZED_NAME, _BAD_INTEGRITY, _NO_SUITE = (
    0,
    1,
    0x0A,
    0x0D,
    0x0F,
    0x11,
)
_AES_CBC_128 = 1
_ROLE = 0x0F  # bit 4 of the same byte says how the name is looked up


@dataclass(frozen=True, slots=True)
class User:
    """An account. `privilege`: 2 user, 3 operator, 4 administrator (table 22-28); switching takes 3."""

    password: str = field(repr=False)
    privilege: int = ADMINISTRATOR


@dataclass(slots=True)
class Session:
    """One console, from its offer on. `seal` is there when it has logged in."""

    number: int
    console: int
    suite: Suite
    privilege: int = 0
    seal: Seal | None = None
    expected: bytes = b""
    final: bytes = b""
    sik: bytes = field(default=b"", repr=False)


class Logins:
    """All sessions of a BMC.

    Args:
        users: by name.
        defects: looked at with each step.
    """

    def __init__(self, users: dict[str, User], defects: BmcDefects) -> None:
        self._users = users
        self._defects = defects
        self._guid = os.urandom(16)
        self.sessions: dict[int, Session] = {}

    def open(self, payload: bytes) -> bytes:
        """Answer an offer of ciphers."""
        if len(payload) < 32:
            raise BadFrame("cut off")
        (console,) = struct.unpack_from("<I", payload, 4)
        suite, status = self._suite(payload), _OK
        if self._defects.take("no_free_session") or 0 < self._defects.few_sessions <= len(self.sessions):
            status = _NO_RESOURCES
        elif suite is None:
            status = _NO_SUITE
        if status or suite is None:
            return plus(OPENED, bytes([payload[0], status, 0, 0]) + payload[4:8])
        number = struct.unpack("<I", os.urandom(4))[0] | 1  # 0 would mean "no session"
        self.sessions[number] = Session(number, console, suite)
        chosen = (suite.authentication, suite.integrity, _AES_CBC_128)
        algorithms = b"".join(bytes([kind, 0, 0, 8, value, 0, 0, 0]) for kind, value in enumerate(chosen))
        head = bytes([payload[0], _OK, ADMINISTRATOR, 0]) + payload[4:8]
        return plus(OPENED, head + struct.pack("<I", number) + algorithms)

    def _suite(self, payload: bytes) -> Suite | None:
        authentication, integrity, confidentiality = payload[12], payload[20], payload[28]
        suite = SUITES.get(authentication)
        if suite is None or (suite.integrity, _AES_CBC_128) != (integrity, confidentiality):
            return None
        return SUITES[1] if self._defects.answers_sha1 else suite

    def rakp1(self, payload: bytes) -> bytes | None:
        """Answer a name; None stands for silence."""
        session = self._session(payload, 28)
        role, length = payload[24], payload[27]
        name = payload[28 : 28 + length]
        user = self._users.get(name.decode(errors="replace"))
        if user is None and self._defects.ignore_unknown_user:
            return None
        head = struct.pack("<BBHI", payload[0], _OK, 0, session.console)
        if user is None:
            return plus(RAKP2, _refused(head, _UNAUTHORIZED_NAME))
        if role & _ROLE > user.privilege and not self._defects.late_role:
            return plus(RAKP2, _refused(head, _UNAUTHORIZED_ROLE))
        return plus(RAKP2, head + self._prove(session, user, payload[8:24], bytes([role, length]) + name))

    def _prove(self, session: Session, user: User, theirs: bytes, who: bytes) -> bytes:
        """Return our random number, GUID and HMAC; note what RAKP 3 must bring."""
        ours, key, mac = os.urandom(16), user.password.encode(), session.suite.mac
        console, number = struct.pack("<I", session.console), struct.pack("<I", session.number)
        session.privilege = min(who[0] & _ROLE or user.privilege, user.privilege)
        session.sik = mac(key, theirs + ours + who)
        session.expected = mac(key, ours + console + who)
        session.final = mac(session.sik, theirs + number + self._guid)[: session.suite.size]
        return ours + self._guid + mac(key, console + number + theirs + ours + self._guid + who)

    def rakp3(self, payload: bytes) -> bytes | None:
        """Answer the console's proof; None when it brings a refusal of ours."""
        session = self._session(payload, 8)
        if payload[1] != _OK or not session.expected:
            self.sessions.pop(session.number, None)
            return None
        right = hmac.compare_digest(payload[8:], session.expected)
        head = struct.pack("<BBHI", payload[0], _OK if right else _BAD_INTEGRITY, 0, session.console)
        if not right:
            return plus(RAKP4, head)
        session.seal = Seal.of(session.suite, session.sik, session.console)
        return plus(RAKP4, head + session.final)

    def _session(self, payload: bytes, least: int) -> Session:
        if len(payload) < least:
            raise BadFrame("cut off")
        try:
            return self.sessions[struct.unpack_from("<I", payload, 4)[0]]
        except KeyError as error:
            raise BadFrame("no such session") from error


def _refused(head: bytes, status: int) -> bytes:
    return head[:1] + bytes([status]) + head[2:]
