"""A listening socket that keeps so many strangers at a time: the oldest makes room for the next.

    accept ─> stranger ── TLS handshake ──> known: a connection of the protocol, which has its own bounds

Before its handshake is over a connection belongs to nobody whom uvicorn counts, and it has a minute. A
process has a thousand descriptors: whoever reaches the port could take those that the catalog is opened with.
"""

from __future__ import annotations

import socket
from contextlib import suppress

STRANGERS = 128


class Door(socket.socket):
    """Made of a listening socket, which it takes over."""

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(listener.family, listener.type, listener.proto, fileno=listener.detach())
        self._strangers: dict[int, socket.socket] = {}

    def accept(self) -> tuple[socket.socket, object]:
        """Take the next one; asyncio calls this."""
        connection, address = super().accept()
        self._strangers = {number: one for number, one in self._strangers.items() if one.fileno() == number}
        if len(self._strangers) >= STRANGERS:
            oldest = self._strangers.pop(next(iter(self._strangers)))
            with suppress(OSError):  # it has gone by itself
                oldest.shutdown(socket.SHUT_RDWR)  # asyncio has it, and closes it when it reads the end
        self._strangers[connection.fileno()] = connection
        return connection, address

    def knows(self, number: int) -> None:
        """The connection with this descriptor is no stranger any more."""
        self._strangers.pop(number, None)
