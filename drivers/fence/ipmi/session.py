"""One IPMI session, in the child: log in, one command, end.

pyghmi says what went wrong as text. Its login knows RMCP+ status codes (IPMI 2.0, table 13-15), commands
have completion codes (table 5-2); both are turned into codes of the taxonomy here, and nowhere else.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pyghmi.exceptions import IpmiException
from pyghmi.ipmi.command import Command
from pyghmi.ipmi.private.session import Session

from ..wire import COMMAND, DONE, REFUSED, Problem, Stage

_CHASSIS, _GET_STATUS, _CONTROL = 0x00, 0x01, 0x02  # IPMI 2.0, section 28
_SWITCH = {"off": 0x00, "on": 0x01}  # table 28-4
_POWERED = 0x01  # bit 0 of the first byte of "Get Chassis Status", table 28-3

# Parts of pyghmi's texts; it keeps no codes of a failed login.
_LOGIN = (
    ("Incorrect password", "unauthenticated", "the BMC does not accept the password"),
    ("Unauthorized name", "unauthenticated", "the BMC does not know the user"),
    ("Invalid integrity check value", "unauthenticated", "the BMC does not accept the password"),
    ("Invalid RAKP4 integrity", "unauthenticated", "the BMC does not prove that it knows the password"),
    ("Invalid role", "permission_denied", "the user may not switch the power"),
    ("Unauthorized role", "permission_denied", "the user may not switch the power"),
    ("Insufficient resources", "busy", "the BMC has no session free"),
    ("No Cipher suite match", "unsupported", "the BMC has neither cipher suite 3 nor 17"),
    ("timeout", "unavailable", "the BMC does not answer"),
    ("None", "unavailable", "the BMC does not answer"),  # pyghmi forgets its own "timeout" on the way
    ("privelege level", "permission_denied", "the user may not switch the power"),  # so spelt, after RAKP 4
)
_REFUSAL = {
    0xC1: ("unsupported", "the BMC has no such command"),
    0xD4: ("permission_denied", "the user may not switch the power"),
}
# "Node busy" and "not supported in present state": many BMCs say so to "off" when it is off, or going off.
_NOT_NOW = (0xC0, 0xD5)


def exchange(request: Mapping[str, Any], stage: Stage) -> str:
    """Log in, read or switch, and return what `ConfirmedFence._ask` promises."""
    session = _login(request)
    try:
        return _act(session, request["act"], stage)
    finally:
        # BMCs have few sessions, and keep one that was left for a minute. If this fails, no answer changes.
        with suppress(IpmiException):
            session.ipmi_session.logout()


def _act(session: Command, act: str, stage: Stage) -> str:
    if act == "read":
        status = _command(session, _GET_STATUS, ())
        return "on" if status["data"][0] & _POWERED else "off"
    stage(COMMAND)
    done = _command(session, _CONTROL, (_SWITCH[act],))
    return REFUSED if done["code"] in _NOT_NOW else DONE


def _login(request: Mapping[str, Any]) -> Command:
    Session._got_rmcp_response = _accept_sha1(Session._got_rmcp_response)  # noqa: SLF001 - see there
    _find(request["host"], request["port"])
    try:
        where = {"bmc": request["host"], "port": request["port"], "privlevel": request["privilege"]}
        return Command(userid=request["username"], password=request["password"], **where)
    except IpmiException as error:
        raise _login_problem(str(error)) from error


def _find(host: str, port: int) -> None:
    """Tell a name without an address from a BMC that does not answer."""
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except UnicodeError as error:
        raise Problem("invalid_argument", "option 'host' is neither a name nor an address") from error
    except OSError as error:
        raise Problem("unavailable", "the BMC's name has no address") from error


def _login_problem(text: str) -> Problem:
    for part, code, message in _LOGIN:
        if part in text:
            return Problem(code, message)
    return Problem("unavailable", "the login to the BMC failed")


def _command(session: Command, command: int, data: tuple[int, ...]) -> dict[str, Any]:
    try:
        response: dict[str, Any] = session.raw_command(netfn=_CHASSIS, command=command, data=data)
    except IpmiException as error:
        raise Problem("unavailable", "the BMC stopped answering in the session") from error
    code = response["code"]
    if code == 0 or (command == _CONTROL and code in _NOT_NOW):
        return response
    if code in _REFUSAL:
        raise Problem(*_REFUSAL[code], certain=True)
    raise Problem("internal", f"the BMC answered with completion code {code:#04x}")


def _accept_sha1(original: Any) -> Any:
    """Read which hash the BMC chose.

    pyghmi offers SHA-256 and takes it for agreed; BMCs made with pyghmi (virtualbmc, fakebmc) accept the
    offer and answer with SHA-1, on which pyghmi 1.6.19 dies ("pack expected 32 items, got 20"). Table
    13-11: bytes 13 to 20 of a response without error are the algorithm that the BMC selected.
    """

    def got(self: Any, data: bytearray) -> Any:
        if len(data) > 16 and data[1] == 0 and data[16] == 1 and self.attemptedhash == 256:
            vars(self).update(attemptedhash=1, currhashlen=12, currhashlib=hashlib.sha1)
        return original(self, data)

    return got
