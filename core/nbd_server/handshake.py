"""From the first byte of a connection to the export that it is about."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Callable

from .export import Export
from .protocol import (
    ALLOCATION,
    ALLOCATION_ID,
    MAGIC,
    MAX_OPTION,
    MAX_PAYLOAD,
    OPTION,
    OPTION_MAGIC,
    OPTION_REPLY,
    OPTION_REPLY_MAGIC,
    PREFERRED_BLOCK,
    WRITABLE,
    Gone,
    Opt,
    Rep,
    TxFlag,
    Wire,
    split_queries,
    split_string,
    text,
)


class Handshake:
    """Option haggling up to NBD_OPT_GO or NBD_OPT_EXPORT_NAME.

    Args:
        wire: the connection.
        select: opens an export by its name; None: there is none for this client.
        offer: how to go on under TLS, or None.
        tls_required: refuse everything but STARTTLS in the clear.
    """

    def __init__(
        self,
        wire: Wire,
        select: Callable[[str], Export | None],
        offer: ssl.SSLContext | None,
        *,
        tls_required: bool,
    ) -> None:
        self._wire = wire
        self._select = select
        self._offer = offer
        self._tls_required = tls_required
        self._no_zeroes = False
        self._tls = False
        self.structured = False
        self.allocation_for: str | None = None

    def run(self) -> Export:
        """The export that the client settled on; raises Gone when it leaves."""
        self._wire.send(struct.pack(">QQH", MAGIC, OPTION_MAGIC, 3))
        flags = int.from_bytes(self._wire.recv(4), "big")
        if flags & ~3 or not flags & 1:
            raise Gone
        self._no_zeroes = bool(flags & 2)
        while True:
            magic, option, length = OPTION.unpack(self._wire.recv(OPTION.size))
            if magic != OPTION_MAGIC or length > MAX_OPTION:
                raise Gone
            export = self._option(option, self._wire.recv(length))
            if export is not None:
                return export

    def _option(self, option: int, data: bytes) -> Export | None:
        if self._tls_required and not self._tls and option not in (Opt.STARTTLS, Opt.ABORT):
            if option == Opt.EXPORT_NAME:
                raise Gone
            self._reply(option, Rep.ERR_TLS_REQD)
            return None
        if option == Opt.EXPORT_NAME:
            return self._export_name(data)
        if option in (Opt.INFO, Opt.GO):
            return self._info(option, data)
        if option in (Opt.LIST_META_CONTEXT, Opt.SET_META_CONTEXT):
            self._meta_context(option, data)
        else:
            self._plain_option(option, data)
        return None

    def _plain_option(self, option: int, data: bytes) -> None:
        if option == Opt.ABORT:
            self._reply(option, Rep.ACK)
            raise Gone
        known = option in (Opt.LIST, Opt.STRUCTURED_REPLY) or (option == Opt.STARTTLS and self._offer)
        if not known:
            self._reply(option, Rep.ERR_UNSUP)
        elif data or (option == Opt.STARTTLS and self._tls):
            self._reply(option, Rep.ERR_INVALID)
        else:
            self._reply(option, Rep.ACK)  # LIST: an empty list, exports are not for everybody's eyes
            self.structured |= option == Opt.STRUCTURED_REPLY
            if option == Opt.STARTTLS and self._offer:
                self._start_tls(self._offer)

    def _start_tls(self, context: ssl.SSLContext) -> None:
        self._wire.start_tls(context)
        self._tls = True
        self.structured = False  # what was said in the clear may have been forged
        self.allocation_for = None

    def _export_name(self, data: bytes) -> Export:
        export = self._select(text(data))
        if export is None:
            raise Gone  # the old option has no way to say why
        head = struct.pack(">QH", export.backend.size(), _export_flags(export))
        self._wire.send(head if self._no_zeroes else head + bytes(124))
        return export

    def _info(self, option: int, data: bytes) -> Export | None:
        name, rest = split_string(data)
        wanted = len(rest) // 2 - 1
        if name is None or wanted < 0 or len(rest) % 2 or int.from_bytes(rest[:2], "big") != wanted:
            self._reply(option, Rep.ERR_INVALID)
            return None
        export = self._select(name)
        if export is None:
            self._reply(option, Rep.ERR_UNKNOWN)
            return None
        self._reply(option, Rep.INFO, struct.pack(">HQH", 0, export.backend.size(), _export_flags(export)))
        self._reply(option, Rep.INFO, struct.pack(">HIII", 3, export.block, PREFERRED_BLOCK, MAX_PAYLOAD))
        self._reply(option, Rep.ACK)
        return export if option == Opt.GO else None

    def _meta_context(self, option: int, data: bytes) -> None:
        name, rest = split_string(data)
        queries = split_queries(rest)
        if name is None or queries is None or not (self.structured or option == Opt.LIST_META_CONTEXT):
            self._reply(option, Rep.ERR_INVALID)
            return
        if self._select(name) is None:
            self._reply(option, Rep.ERR_UNKNOWN)
            return
        setting = option == Opt.SET_META_CONTEXT
        matched = ALLOCATION in queries or (not setting and (not queries or b"base:" in queries))
        if setting:
            self.allocation_for = name if matched else None
        if matched:
            context = struct.pack(">I", ALLOCATION_ID if setting else 0) + ALLOCATION
            self._reply(option, Rep.META_CONTEXT, context)
        self._reply(option, Rep.ACK)

    def _reply(self, option: int, kind: Rep, data: bytes = b"") -> None:
        self._wire.send(OPTION_REPLY.pack(OPTION_REPLY_MAGIC, option, kind, len(data)), data)


def _export_flags(export: Export) -> int:
    return WRITABLE | (TxFlag.READ_ONLY if export.read_only else TxFlag(0))
