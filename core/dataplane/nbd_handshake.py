"""The opening of an NBD connection: fixed newstyle, up to NBD_OPT_GO.

    server                             client
    NBDMAGIC IHAVEOPT flags       ->
                                  <-   flags
                                  <-   STARTTLS             only if a TLS context was given
                                  <-   STRUCTURED_REPLY     a refusal only costs the extents
                                  <-   SET_META_CONTEXT     base:allocation, or a bitmap
    INFO size, flags, block sizes ->
                                  <-   GO
    ACK                           ->                        transmission begins

The export name may be a proof of access, so no error carries it, nor any text of the server: servers
like to repeat the name in their message.
"""

from __future__ import annotations

import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ...transfer_objects.secret import Secret
from ..spi.errors import (
    InvalidArgument,
    NotFound,
    Outcome,
    PermissionDenied,
    StorageError,
    Unavailable,
    Unsupported,
)
from .nbd_wire import (
    MAX_STRING,
    OPTION_MAGIC,
    OPTION_REPLY_MAGIC,
    SERVER_MAGIC,
    ExportFlag,
    Info,
    Option,
    OptionReply,
    Wire,
    nonsense,
)

_FIXED_NEWSTYLE = 1
_NO_ZEROES = 2
# An honest reply to an option is a name or a few numbers.
_MAX_REPLY = 64 * 1024
# An honest server sends a handful of INFO replies; an endless stream of them is an attack.
_MAX_REPLIES = 64

_REFUSALS: dict[int, tuple[type[StorageError], str]] = {
    OptionReply.ERR_UNSUP: (Unsupported, "does not know the option"),
    OptionReply.ERR_POLICY: (PermissionDenied, "forbids it"),
    OptionReply.ERR_INVALID: (InvalidArgument, "finds the request invalid"),
    OptionReply.ERR_PLATFORM: (Unsupported, "cannot do it on its platform"),
    OptionReply.ERR_TLS_REQD: (PermissionDenied, "wants TLS"),
    OptionReply.ERR_UNKNOWN: (NotFound, "has no such export"),
    OptionReply.ERR_SHUTDOWN: (Unavailable, "is shutting down"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What was agreed on.

    Attributes:
        size: bytes.
        minimum: block size in bytes that offsets and lengths must be multiples of.
        maximum: bytes of payload that one request may have.
        structured: replies come as chunks.
        context: the server's number for the meta context that was asked for; None: it has none such.
    """

    size: int
    flags: ExportFlag
    minimum: int
    maximum: int
    structured: bool
    context: int | None


def negotiate(
    wire: Wire, name: Secret, context: bytes, *, tls: ssl.SSLContext | None, hostname: str | None
) -> Export:
    """Choose the export `name` with a meta context, and enter the transmission phase.

    Raises:
        NotFound: the server has no such export.
        PermissionDenied: it wants TLS, or its policy forbids the export.
        Unsupported: it is older than NBD_OPT_GO (2016), or has no TLS where TLS was asked for.
        Unavailable: it broke off or did not answer.
        Internal: it breaks the protocol.
    """
    encoded = name.reveal().encode(errors="surrogatepass")  # an encoding error would quote it
    if len(encoded) > MAX_STRING:
        raise InvalidArgument(f"the export's name has more than {MAX_STRING} bytes")
    _greet(wire)
    if tls is not None:
        _ask(wire, Option.STARTTLS)
        wire.start_tls(tls, hostname or "localhost")
    structured = _accepted(wire, Option.STRUCTURED_REPLY)
    number = _meta_context(wire, encoded, context) if structured else None
    return _go(wire, encoded, structured=structured, context=number)


def _greet(wire: Wire) -> None:
    magic, option_magic, flags = struct.unpack(">QQH", wire.receive(18, outcome=Outcome.NOT_APPLIED))
    if magic != SERVER_MAGIC:
        raise nonsense("its greeting is not NBD's")
    if option_magic != OPTION_MAGIC or not flags & _FIXED_NEWSTYLE:
        raise Unsupported("the NBD server is too old: it has no fixed newstyle handshake")
    answer = flags & (_FIXED_NEWSTYLE | _NO_ZEROES)
    wire.send(struct.pack(">I", answer), outcome=Outcome.NOT_APPLIED)


def _replies(wire: Wire, option: Option, payload: bytes) -> Iterator[tuple[int, bytes]]:
    """Send an option and yield the replies before the final ACK; raise if it ends with a refusal."""
    header = struct.pack(">QII", OPTION_MAGIC, option, len(payload))
    wire.send(header + payload, outcome=Outcome.NOT_APPLIED)
    for _ in range(_MAX_REPLIES):
        head = wire.receive(20, outcome=Outcome.NOT_APPLIED)
        magic, echo, kind, length = struct.unpack(">QIII", head)
        if magic != OPTION_REPLY_MAGIC or echo != option or length > _MAX_REPLY:
            raise nonsense(f"its reply to {option.name} is not one")
        data = wire.receive(length, outcome=Outcome.NOT_APPLIED)
        if kind & 2**31:
            error, reason = _REFUSALS.get(kind, (Unsupported, f"refuses with {kind - 2**31}"))
            raise error(f"the NBD server {reason} ({option.name})", outcome=Outcome.NOT_APPLIED)
        if kind == OptionReply.ACK:
            return
        yield kind, data
    raise nonsense(f"its reply to {option.name} does not end")


def _ask(wire: Wire, option: Option, payload: bytes = b"") -> list[tuple[int, bytes]]:
    return list(_replies(wire, option, payload))


def _accepted(wire: Wire, option: Option) -> bool:
    try:
        _ask(wire, option)
    except (Unsupported, InvalidArgument):
        return False
    return True


def _meta_context(wire: Wire, name: bytes, context: bytes) -> int | None:
    """Return the number of a meta context, or None. That the export is missing, GO will tell."""
    query = struct.pack(">I", len(context)) + context
    payload = struct.pack(">I", len(name)) + name + struct.pack(">I", 1) + query
    try:
        replies = _ask(wire, Option.SET_META_CONTEXT, payload)
    except (Unsupported, InvalidArgument, NotFound):
        return None
    for kind, data in replies:
        if kind == OptionReply.META_CONTEXT and data[4:] == context:
            return int.from_bytes(data[:4], "big")
    return None


def _go(wire: Wire, name: bytes, *, structured: bool, context: int | None) -> Export:
    payload = struct.pack(">I", len(name)) + name + struct.pack(">HH", 1, Info.BLOCK_SIZE)
    size, flags = None, ExportFlag(0)
    minimum, maximum = 1, 32 * 1024 * 1024  # what the specification lets a client assume
    for kind, data in _ask(wire, Option.GO, payload):
        info = int.from_bytes(data[:2], "big") if kind == OptionReply.INFO else -1
        if info == Info.EXPORT and len(data) == 12:
            size, raw_flags = struct.unpack(">QH", data[2:])
            flags = ExportFlag(raw_flags)
        elif info == Info.BLOCK_SIZE and len(data) == 14:
            minimum, _, maximum = struct.unpack(">III", data[2:])
    if size is None or size >= 2**63:
        raise nonsense("it does not tell the size of the export")
    if not 0 < minimum <= 65536 or minimum & (minimum - 1) or maximum < minimum:
        raise nonsense("its block sizes make no sense")
    return Export(
        size=size,
        flags=flags,
        minimum=minimum,
        maximum=maximum,
        structured=structured,
        context=context,
    )
