"""Where orchestrators come in: so many strangers at a time, the oldest of whom makes room for the next.

    accept ─> stranger ─ handshake ─> session
                 └ too many: the one who has waited longest is turned away

Who has not shown a certificate costs a file descriptor, and a process has a thousand: without a bound anybody
who reaches the port could take those that images and databases are opened with.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable

_log = logging.getLogger("bollard.agent")

STRANGERS = 64
_PAUSE = 0.5
"""Seconds before another attempt when the system has no descriptor left."""

Welcome = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Door:
    """Listens at one socket.

    Args:
        listener: bound and listening; closed with the door.
        context: None: whoever comes is let in, without TLS.
        seconds: for a handshake.
        welcome: serves who is let in; it runs as long as they stay.
    """

    def __init__(
        self, listener: socket.socket, context: ssl.SSLContext | None, seconds: float, welcome: Welcome
    ) -> None:
        self._listener = listener
        self._context = context
        self._seconds = seconds
        self._welcome = welcome
        self._strangers: dict[asyncio.Task[None], None] = {}
        self._guests: set[asyncio.Task[None]] = set()
        listener.settimeout(0)  # the loop waits
        self._task = asyncio.create_task(self._open())

    async def close(self) -> None:
        """Take nobody any more, and turn strangers away; guests stay."""
        waiting = [self._task, *self._strangers]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        self._listener.close()

    @property
    def address(self) -> tuple[str, int]:
        """Where it is."""
        host, port = self._listener.getsockname()[:2]
        return host, port

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError as error:
                _log.warning("nobody can be let in: %s", error)
                await asyncio.sleep(_PAUSE)
                continue
            if len(self._strangers) >= STRANGERS:
                oldest = next(iter(self._strangers))
                del self._strangers[oldest]
                oldest.cancel()
            task = asyncio.create_task(self._greet(connection))
            self._strangers[task] = None
            task.add_done_callback(lambda done: self._strangers.pop(done, None))
            await asyncio.sleep(0)  # it begins, and its connection has an owner who closes it

    async def _greet(self, connection: socket.socket) -> None:
        """Shake hands; a guest is served by a task that no stranger's end ends."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._seconds if self._context else None,
            )
        except OSError as error:  # TLS's errors are the system's, too
            _log.info("a stranger was turned away: %s", error)
            return
        guest = loop.create_task(self._serve(reader, asyncio.StreamWriter(transport, protocol, reader, loop)))
        self._guests.add(guest)
        guest.add_done_callback(self._guests.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._welcome(reader, writer)


async def listeners(host: str, port: int) -> list[socket.socket]:
    """Return a listening socket for each address of a name.

    Raises:
        OSError: one cannot be listened at; none is open then.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    made: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((one[0], one[4]) for one in found):
            made.append(socket.create_server(address[:2], family=family, backlog=128))
    except OSError:
        for one in made:
            one.close()
        raise
    return made
