"""What libvirt says, in the words of the taxonomy.

    libvirtError ── its code, where that tells enough ──────> class, outcome
                └── else QEMU's words, which it passes on ──> class, outcome
                └── else ───────────────────────────────────> Internal, unknown

libvirt has one code for "QEMU said no" (OPERATION_FAILED, INTERNAL_ERROR), so QEMU's English decides
between a full disk and a locked image, as it does everywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import libvirt

from ....core.spi import (
    Busy,
    Conflict,
    Internal,
    InUse,
    InvalidArgument,
    NotFound,
    Outcome,
    OutOfCapacity,
    PermissionDenied,
    StorageError,
    Unauthenticated,
    Unavailable,
    Unsupported,
)

_NOT, _UNKNOWN = Outcome.NOT_APPLIED, Outcome.UNKNOWN
_AGENT_COMMAND_TIMEOUT = 111  # a name that bindings for libvirt 9.0 lack
_HEAD, _TAIL = 100, 200  # characters of libvirt's words that are passed on

# Refused before anything was done, unless the reason says otherwise.
_CODES: Mapping[int, tuple[type[StorageError], Outcome]] = {
    libvirt.VIR_ERR_NO_DOMAIN: (NotFound, _NOT),
    libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT: (NotFound, _NOT),
    libvirt.VIR_ERR_NO_DOMAIN_CHECKPOINT: (NotFound, _NOT),
    libvirt.VIR_ERR_NO_DOMAIN_BACKUP: (NotFound, _NOT),
    libvirt.VIR_ERR_NO_SECRET: (NotFound, _NOT),
    libvirt.VIR_ERR_DEVICE_MISSING: (NotFound, _NOT),
    # A bitmap that the checkpoint needs is missing or was not closed properly: it is lost.
    libvirt.VIR_ERR_CHECKPOINT_INCONSISTENT: (NotFound, _NOT),
    libvirt.VIR_ERR_DOM_EXIST: (Conflict, _NOT),
    libvirt.VIR_ERR_INVALID_ARG: (InvalidArgument, _NOT),
    libvirt.VIR_ERR_XML_ERROR: (InvalidArgument, _NOT),
    libvirt.VIR_ERR_XML_DETAIL: (InvalidArgument, _NOT),
    # "domain is not running" and the like: the VM is in a state that forbids it.
    libvirt.VIR_ERR_OPERATION_INVALID: (InvalidArgument, _NOT),
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED: (Unsupported, _NOT),
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED: (Unsupported, _NOT),
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED: (Unsupported, _NOT),
    libvirt.VIR_ERR_NO_SUPPORT: (Unsupported, _NOT),
    # "cannot acquire state change lock": it waited 30 s for another job, and did nothing.
    libvirt.VIR_ERR_OPERATION_TIMEOUT: (Busy, _NOT),
    libvirt.VIR_ERR_BLOCK_COPY_ACTIVE: (Busy, _NOT),
    libvirt.VIR_ERR_RESOURCE_BUSY: (InUse, _NOT),
    libvirt.VIR_ERR_AUTH_FAILED: (Unauthenticated, _NOT),
    libvirt.VIR_ERR_AUTH_CANCELLED: (Unauthenticated, _NOT),
    libvirt.VIR_ERR_AUTH_UNAVAILABLE: (Unauthenticated, _NOT),
    libvirt.VIR_ERR_ACCESS_DENIED: (PermissionDenied, _NOT),
    libvirt.VIR_ERR_OPERATION_DENIED: (PermissionDenied, _NOT),
    libvirt.VIR_ERR_NO_CONNECT: (Unavailable, _NOT),
    # The agent was not there, or it has the command and has not answered: before 9.1 one code for both.
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE: (Unavailable, _UNKNOWN),
    _AGENT_COMMAND_TIMEOUT: (Unavailable, _UNKNOWN),
    libvirt.VIR_ERR_AGENT_UNSYNCED: (Unavailable, _NOT),
    libvirt.VIR_ERR_OPERATION_ABORTED: (Unavailable, _UNKNOWN),
}

UNPLUGGING = "already in the process of unplug"
"""What QEMU says of a device whose guest has been asked to let go, and has not yet."""

# QEMU opens images before it does anything with them: what it cannot open has not changed.
_WORDS: Sequence[tuple[str, type[StorageError], Outcome]] = (
    ('Failed to get "', InUse, _NOT),
    ("Failed to get shared", InUse, _NOT),
    ("Failed to lock byte", InUse, _NOT),
    ("No space left on device", OutOfCapacity, _UNKNOWN),
    ("Disk quota exceeded", OutOfCapacity, _UNKNOWN),
    (UNPLUGGING, Busy, _NOT),
    ("is busy", Busy, _NOT),
    ("No such file or directory", NotFound, _NOT),
    ("Permission denied", PermissionDenied, _NOT),
    ("Connection refused", Unavailable, _NOT),
    ("Requested export not available", NotFound, _NOT),
    # iSCSI: the status of the login response in decimal (RFC 7143, 11.13.5), as libiscsi says it.
    ("(513)", Unauthenticated, _NOT),
    ("(514)", PermissionDenied, _NOT),
    ("(515)", NotFound, _NOT),
    ("(516)", NotFound, _NOT),
    ("iSCSI: Failed to connect", Unavailable, _NOT),
    ("Input/output error", Unavailable, _UNKNOWN),
)

# Said with the code for "unsupported", though it is over when the merge or backup is.
_BLOCK_JOB = "active block job"

# The connection to libvirtd, not libvirtd: it may or may not have got the request.
_TRANSPORT = (libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE)
_TRANSPORT_CODES = (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_ERR_RPC)


def is_lost(error: libvirt.libvirtError) -> bool:
    """Tell whether the connection broke: then a question may be asked again on a new one."""
    return error.get_error_domain() in _TRANSPORT and error.get_error_code() in _TRANSPORT_CODES


def translate(error: libvirt.libvirtError, what: str, outcome: Outcome | None = None) -> StorageError:
    """Return the error as one of the taxonomy.

    Args:
        error: libvirt's.
        what: the act, for the message.
        outcome: what is known whatever the error is: a question never changes anything.
    """
    said = str(error.get_error_message() or error)
    kind, known = _judge(error, said)
    return kind(f"{what}: {_shortened(said)}", outcome=outcome or known)


def _shortened(said: str) -> str:
    """Keep both ends: a QEMU that does not start repeats its arguments before it says why."""
    return said if len(said) <= _HEAD + _TAIL else f"{said[:_HEAD]} ... {said[-_TAIL:]}"


def _judge(error: libvirt.libvirtError, said: str) -> tuple[type[StorageError], Outcome]:
    if is_lost(error):
        return Unavailable, _UNKNOWN
    if _BLOCK_JOB in said:
        return Busy, _NOT
    code = error.get_error_code()
    if code in _CODES:
        return _CODES[code]
    for words, kind, outcome in _WORDS:
        if words in said:
            return kind, outcome
    return Internal, _UNKNOWN
