"""The commands of a session, and the two that are answered before one."""

from __future__ import annotations

from .chassis import Chassis
from .defects import BmcDefects
from .login import Session
from .rmcp import Message, response


class Ask:
    """Network function and command of a request (appendix G)."""

    AUTHENTICATION = (0x06, 0x38)  # Get Channel Authentication Capabilities
    CIPHERS = (0x06, 0x54)  # Get Channel Cipher Suites
    DEVICE_ID = (0x06, 0x01)
    PRIVILEGE = (0x06, 0x3B)  # Set Session Privilege Level
    CLOSE = (0x06, 0x3C)
    STATUS = (0x00, 0x01)  # Get Chassis Status
    CONTROL = (0x00, 0x02)  # Chassis Control


_OPERATOR = 3  # the least privilege that may switch
_INVALID_COMMAND, _NOT_ALLOWED, _NOT_NOW, _INVALID_FIELD, _TOO_HIGH = 0xC1, 0xD4, 0xD5, 0xCC, 0x81

_CHANNEL = 1
_CAPABILITIES = bytes([_CHANNEL, 0x80, 0x04, 0x02, 0, 0, 0, 0])  # table 22-15: RMCP+ only, users with names
_SUITES = bytes([_CHANNEL, 0xC0, 3, 0x01, 0x41, 0x81, 0xC0, 17, 0x03, 0x44, 0x81])  # table 22-19
_DEVICE = bytes([0x20, 1, 2, 0, 2, 0x80, 0, 0, 0, 0, 0])  # table 20-2: a BMC with a chassis, IPMI 2.0


def discover(message: Message) -> bytes | None:
    """Answer what may be asked without a login; None stands for silence."""
    if message.asks == Ask.AUTHENTICATION:
        return response(message, 0, _CAPABILITIES)
    if message.asks == Ask.CIPHERS:
        # Asked in steps of 16 bytes; the second step is empty.
        first = len(message.data) > 2 and message.data[2] & 0x3F == 0
        return response(message, 0, _SUITES if first else _SUITES[:1])
    return None


class Commands:
    """What a session may ask.

    Args:
        chassis: what it switches.
        defects: looked at with each command.
    """

    def __init__(self, chassis: Chassis, defects: BmcDefects) -> None:
        self._chassis = chassis
        self._defects = defects

    def answer(self, session: Session, message: Message) -> bytes | None:
        """Answer a request of a session; None stands for silence."""
        match message.asks:
            case Ask.DEVICE_ID:
                return response(message, 0, _DEVICE)
            case Ask.PRIVILEGE:
                return _privilege(session, message)
            case Ask.CLOSE:
                return response(message, 0)
            case Ask.STATUS:
                return response(message, 0, bytes([int(self._chassis.reading()), 0, 0]))
            case Ask.CONTROL:
                return self._control(session, message)
        return response(message, _INVALID_COMMAND)

    def _control(self, session: Session, message: Message) -> bytes | None:
        if session.privilege < _OPERATOR:
            return response(message, _NOT_ALLOWED)
        if self._defects.refuse_power:
            return response(message, _NOT_NOW)
        if message.data not in (b"\x00", b"\x01"):  # table 28-4: down, up; the others are not simulated
            return response(message, _INVALID_FIELD)
        self._chassis.switch(on=message.data == b"\x01")
        return None if self._defects.take("lose_power_reply") else response(message, 0)


def _privilege(session: Session, message: Message) -> bytes:
    wanted = message.data[0] if message.data else 0
    if wanted > session.privilege:
        return response(message, _TOO_HIGH)
    session.privilege = wanted or session.privilege
    return response(message, 0, bytes([session.privilege]))
