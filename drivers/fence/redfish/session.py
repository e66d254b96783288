"""One exchange over Redfish, in the child: find the system, read or switch it, end.

Basic authentication: a session of Redfish's own would stay on the BMC when the child is killed, and BMCs
have few. One try for each request: sushy's default waits 27 s for a port that is closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import sushy
from sushy import auth, exceptions

from ..wire import COMMAND, DONE, REFUSED, Problem, Stage

# ForceOff cuts the power; GracefulShutdown asks a system that may be frozen (DSP2046, ResetType).
_SWITCH = {"off": sushy.ResetType.FORCE_OFF, "on": sushy.ResetType.ON}
_FORBIDDEN = 403
_CONFLICT = (400, 409)  # "not in this state"; many BMCs say so to ForceOff when it is off


def exchange(request: Mapping[str, Any], stage: Stage) -> str:
    """Read or switch, and return what `ConfirmedFence._ask` promises."""
    try:
        return _exchange(request, stage)
    except exceptions.HTTPError as error:
        _raise_status(error)
    except exceptions.ConnectionError as error:
        tls = "certificate verify failed" in str(error).lower()
        reason = "its certificate is not trusted" if tls else "no connection, or no answer in time"
        raise Problem("unavailable", f"the BMC cannot be asked: {reason}") from error
    except exceptions.SushyError as error:
        raise Problem("internal", "the BMC's answer is not Redfish") from error


def _exchange(request: Mapping[str, Any], stage: Stage) -> str:
    basic = auth.BasicAuth(username=request["username"], password=request["password"])
    root = sushy.Sushy(
        request["url"],
        verify=request["verify"],
        auth=basic,
        server_side_retries=1,
        read_timeout=request["timeout"],
        connect_timeout=request["timeout"],
    )
    system = _system(root, request["system"])
    if request["act"] == "read":
        return _power(system)
    stage(COMMAND)
    try:
        system.reset_system(_SWITCH[request["act"]])
    except (exceptions.InvalidParameterValueError, exceptions.MissingActionError) as error:
        raise Problem("unsupported", "the BMC does not offer to cut or give power", certain=True) from error
    except exceptions.HTTPError as error:
        if error.status_code in _CONFLICT:
            return REFUSED
        raise
    return DONE


def _system(root: Any, name: str) -> Any:
    if name:
        return root.get_system(f"{root.json['Systems']['@odata.id']}/{name}")
    found = root.get_system_collection().members_identities
    if len(found) != 1:
        raise Problem("invalid_argument", f"option 'system' is needed: the BMC has {len(found)} systems")
    return root.get_system(found[0])


def _power(system: Any) -> str:
    if system.power_state is None:
        raise Problem("internal", "the BMC does not tell the power state")
    return str(system.power_state.value).lower()


def _raise_status(error: exceptions.HTTPError) -> NoReturn:
    if isinstance(error, exceptions.AccessError):
        if error.status_code == _FORBIDDEN:
            raise Problem("permission_denied", "the user may not do this", certain=True) from error
        reason = "the BMC does not accept the username or the password"
        raise Problem("unauthenticated", reason, certain=True) from error
    if isinstance(error, exceptions.ResourceNotFoundError):
        raise Problem("not_found", "the BMC has no such system", certain=True) from error
    if isinstance(error, exceptions.ServerSideError):
        raise Problem("unavailable", f"the BMC answered with status {error.status_code}") from error
    raise Problem("internal", f"the BMC answered with status {error.status_code}") from error
