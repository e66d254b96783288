"""Frames of RMCP, RMCP+ and IPMI messages (IPMI 2.0, sections 13.6 to 13.28), and how they are sealed.

06 00 FF 07 | 00 seq sid len          | message                    before a login (IPMI 1.5 framing)
06 00 FF 07 | 06 type sid seq len(2)  | payload                    the login
06 00 FF 07 | 06 C0   sid seq len(2)  | IV AES(message) | FF.. padlen 07 | authcode     in a session

message: rsAddr netFn/LUN sum | rqAddr seq/LUN command data... sum
"""

from __future__ import annotations

import hmac
import os
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

HEADER = b"\x06\x00\xff\x07"  # RMCP 1.0, no sequence number, class IPMI
PLAIN, PLUS = 0x00, 0x06  # authentication types: none (IPMI 1.5), RMCP+
IPMI, OPEN, OPENED, RAKP1, RAKP2, RAKP3, RAKP4 = 0x00, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15
ENCRYPTED, AUTHENTICATED = 0x80, 0x40
_TYPE = 0x3F
_BMC = 0x20  # its address on the IPMB
_BLOCK = 16


class BadFrame(ValueError):
    """A datagram that is not for us, cut off, or whose seal is broken; a BMC drops it."""


@dataclass(frozen=True, slots=True)
class Suite:
    """A cipher suite (table 22-20).

    Attributes:
        authentication, integrity: their numbers on the wire.
        digest: hashlib's name of the hash.
        size: bytes of an authcode.
    """

    authentication: int
    integrity: int
    digest: str
    size: int

    def mac(self, key: bytes, data: bytes) -> bytes:
        """The whole HMAC."""
        return hmac.new(key, data, self.digest).digest()


SUITES = {1: Suite(1, 1, "sha1", 12), 3: Suite(3, 4, "sha256", 16)}  # suites 3 and 17


@dataclass(frozen=True, slots=True)
class Frame:
    """A datagram without its framing; `session` is 0 outside of one."""

    kind: int
    session: int
    payload: bytes
    plus: bool


@dataclass(frozen=True, slots=True)
class Message:
    """An IPMI request."""

    netfn: int
    command: int
    data: bytes
    requester: int
    sequence: int

    @property
    def asks(self) -> tuple[int, int]:
        """Network function and command."""
        return self.netfn, self.command


@dataclass(slots=True)
class Seal:
    """The keys of one session and the numbers of its frames (section 13.31)."""

    suite: Suite
    integrity_key: bytes
    cipher_key: bytes
    console: int
    sequence: int = 0

    @classmethod
    def of(cls, suite: Suite, sik: bytes, console: int) -> Seal:
        """Derive both keys from the session integrity key."""
        k1, k2 = (suite.mac(sik, bytes([n]) * 20) for n in (1, 2))
        return cls(suite, k1, k2[:_BLOCK], console)

    def close(self, payload: bytes) -> bytes:
        """Return a sealed datagram."""
        self.sequence += 1
        pad = -(len(payload) + 1) % _BLOCK
        iv = os.urandom(_BLOCK)
        cipher = Cipher(algorithms.AES(self.cipher_key), modes.CBC(iv)).encryptor()
        hidden = iv + cipher.update(payload + bytes(range(1, pad + 1)) + bytes([pad])) + cipher.finalize()
        head = struct.pack(
            "<BBIIH", PLUS, IPMI | ENCRYPTED | AUTHENTICATED, self.console, self.sequence, len(hidden)
        )
        fill = -(len(head) + len(hidden) + 2) % 4
        covered = head + hidden + b"\xff" * fill + bytes([fill, 0x07])
        return HEADER + covered + self.suite.mac(self.integrity_key, covered)[: self.suite.size]

    def open(self, datagram: bytes) -> bytes:
        """Return the message of a sealed datagram.

        Raises:
            BadFrame: it is not sealed, or not with our keys.
        """
        covered, code = datagram[len(HEADER) : -self.suite.size], datagram[-self.suite.size :]
        both = ENCRYPTED | AUTHENTICATED
        if len(covered) < 12 + 2 * _BLOCK or covered[1] & both != both:
            raise BadFrame("not sealed")
        if not hmac.compare_digest(self.suite.mac(self.integrity_key, covered)[: self.suite.size], code):
            raise BadFrame("sealed with another key")
        (length,) = struct.unpack_from("<H", covered, 10)
        hidden = covered[12 : 12 + length]
        if len(hidden) != length or length % _BLOCK:
            raise BadFrame("cut off")
        cipher = Cipher(algorithms.AES(self.cipher_key), modes.CBC(hidden[:_BLOCK])).decryptor()
        plain = cipher.update(hidden[_BLOCK:]) + cipher.finalize()
        return plain[: -1 - plain[-1]]


def parse(datagram: bytes) -> Frame:
    """Take a datagram apart; a sealed payload is not opened.

    Raises:
        BadFrame: it is not IPMI.
    """
    try:
        if datagram[:4] != HEADER:
            raise BadFrame("not IPMI over RMCP")
        if datagram[4] == PLAIN:
            session, length = struct.unpack_from("<IB", datagram, 9)
            return Frame(IPMI, session, _exactly(datagram[14:], length), plus=False)
        if datagram[4] != PLUS:
            raise BadFrame("an authentication of IPMI 1.5")
        kind, session, _, length = struct.unpack_from("<BIIH", datagram, 5)
        return Frame(kind & _TYPE, session, _exactly(datagram[16:], length), plus=True)
    except (struct.error, IndexError) as error:
        raise BadFrame("cut off") from error


def _exactly(data: bytes, length: int) -> bytes:
    if len(data) < length:
        raise BadFrame("cut off")
    return data[:length]


def plain(payload: bytes) -> bytes:
    """Return a datagram of IPMI 1.5 outside of a session."""
    return HEADER + struct.pack("<BIIB", PLAIN, 0, 0, len(payload)) + payload


def plus(kind: int, payload: bytes) -> bytes:
    """Return a datagram of RMCP+ that is not sealed: a step of the login."""
    return HEADER + struct.pack("<BBIIH", PLUS, kind, 0, 0, len(payload)) + payload


def request(payload: bytes) -> Message:
    """Read an IPMI request.

    Raises:
        BadFrame: too short, or a sum is wrong.
    """
    if len(payload) < 7 or sum(payload[:3]) % 256 or sum(payload[3:]) % 256:
        raise BadFrame("not an IPMI message")
    return Message(payload[1] >> 2, payload[5], payload[6:-1], payload[3], payload[4])


def response(to: Message, code: int, data: bytes = b"") -> bytes:
    """Return the IPMI response to a request (figure 13-4).

    Args:
        to: the request.
        code: the completion code, 0 for done.
        data: what follows it.
    """
    head = bytes([to.requester, (to.netfn + 1) << 2 | to.sequence & 0x03])
    body = bytes([_BMC, to.sequence & 0xFC, to.command, code]) + data
    return head + _sum(head) + body + _sum(body)


def _sum(data: bytes) -> bytes:
    return bytes([-sum(data) % 256])
