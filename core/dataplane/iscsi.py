"""LUNs as block sources and sinks: a private qemu-nbd with libiscsi inside, spoken to over NBD.

    us ── NBD, private unix socket ──> qemu-nbd ── iSCSI over TCP ──> portal, target, LUN

- The kernel is not asked: no session of the host, no device that another process could open, and what
  we started ends with us.
- The CHAP secret goes over as an open file in memory. QEMU reads it from /proc/self/fd/N; on a command
  line everybody could.
- What is allocated is asked with GET LBA STATUS; zeros become UNMAP where the LUN is thin.
- QEMU repeats a request whose session broke, for as long as it lives, and the write lands once the access
  is given back (seen 14 s later). So a server that does not end in order soon is killed, and what it
  had not written goes with it: nothing was promised before `flush`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from ...transfer_objects.secret import Secret
from ..spi.errors import (
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from ..spi.location import IscsiLocation
from .nbd import DEFAULT_TIMEOUT
from .nbd_source import NbdSink, NbdSource
from .qemu_nbd import PrivateServer, Reasons

_NO_NAME = Secret("")
_SPARSE = ("--discard=unmap", "--detect-zeroes=unmap")
# Seconds. A logout takes milliseconds; a target that does not answer it has cut us off.
_PATIENCE = 2.0
# RFC 3720, 3.2.6: names have at most 223 bytes of these characters, "iqn.", "eui." or "naa." in front.
_NAME = re.compile(r"(?:iqn|eui|naa)\.[a-z0-9.:-]{1,219}", re.IGNORECASE)
_LAST_LUN = 16383

# What libiscsi and QEMU say, with the status of the login response (RFC 3720, 10.13.5) in decimal.
_REASONS: Reasons = (
    ("(513)", Unauthenticated),  # 0x0201 authentication failed
    ("authentication", Unauthenticated),
    ("(514)", PermissionDenied),  # 0x0202 not allowed for this initiator
    ("(515)", NotFound),  # 0x0203 target not found, also to whom the ACL hides it
    ("(516)", NotFound),  # 0x0204 target removed
    ("LOGICAL_UNIT_NOT_SUPPORTED", NotFound),
    ("write protected", PermissionDenied),
    ("read-only", PermissionDenied),
    ("unknown driver", Unsupported),
    ("block-iscsi.so", Unsupported),
)


def open_iscsi_source(location: IscsiLocation, *, timeout: float = DEFAULT_TIMEOUT) -> NbdSource:
    """Open a LUN for reading.

    Args:
        location: where it is, and as whom to log in.
        timeout: seconds that the target may stand still.

    Raises:
        InvalidArgument: a name that is none, or a secret without a user.
        NotFound: no such target or LUN, or not for this initiator.
        Unauthenticated: the target refuses the CHAP name or secret.
        DataLoss: the LUN has another size than the location says.
        Unavailable: the portal cannot be reached, or does not answer in time.
        Unsupported: qemu-nbd or its iSCSI module is not installed.
    """
    server = _serve(location, ["--read-only"], timeout)
    try:
        return NbdSource(server, _NO_NAME, size=location.size, timeout=timeout)
    except Unavailable as error:
        raise server.explain(error) from error


def open_iscsi_sink(location: IscsiLocation, *, timeout: float = DEFAULT_TIMEOUT) -> NbdSink:
    """Open a LUN for writing; raises as `open_iscsi_source`, and PermissionDenied if it is read-only."""
    server = _serve(location, _SPARSE, timeout)
    try:
        return NbdSink(server, _NO_NAME, size=location.size, timeout=timeout)
    except Unavailable as error:
        raise server.explain(error) from error


def _serve(location: IscsiLocation, arguments: Sequence[str], timeout: float) -> PrivateServer:
    options = ",".join(f"{key}={value}" for key, value in _options(location, timeout).items())
    fds = [_in_memory(location.chap_secret)] if location.chap_secret else []
    try:
        return PrivateServer(
            f"{location.target} LUN {location.lun}",
            fds,
            lambda moved: [*_secret_objects(moved), *arguments, "--image-opts", options],
            reasons=_REASONS,
            timeout=timeout,
            patience=_PATIENCE,
        )
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


def _options(location: IscsiLocation, timeout: float) -> dict[str, str]:
    """Return QEMU's options; every value is checked, so that none of them can bring a comma along."""
    for name in (location.target, location.initiator):
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"{name!r} is no iSCSI name (RFC 3720)")
    if not 0 <= location.lun <= _LAST_LUN:
        raise InvalidArgument(f"LUN must be 0 to {_LAST_LUN}, got {location.lun}")
    if bool(location.chap_user) != bool(location.chap_secret):
        raise InvalidArgument("CHAP needs both, a user and a secret")
    login = {
        "file.user": location.chap_user.replace(",", ",,"),
        "file.password-secret": "chap",
    }
    return {
        "driver": "raw",
        "file.driver": "iscsi",
        "file.transport": "tcp",
        "file.portal": _portal(location.portal),
        "file.target": location.target,
        "file.lun": str(location.lun),
        "file.initiator-name": location.initiator,
        "file.timeout": str(max(1, int(timeout))),
        **(login if location.chap_user else {}),
    }


def _portal(portal: tuple[str, int]) -> str:
    host, port = portal
    if not re.fullmatch(r"[A-Za-z0-9.:-]+", host):
        raise InvalidArgument(f"{host!r} is no host name or address")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _in_memory(secret: Secret) -> int:
    """Return an open file that holds the secret and has no name anywhere."""
    fd = os.memfd_create("chap-secret")
    os.write(fd, secret.reveal().encode())
    return fd


def _secret_objects(fds: Sequence[int]) -> list[str]:
    return [word for fd in fds for word in ("--object", f"secret,id=chap,format=raw,file=/proc/self/fd/{fd}")]
