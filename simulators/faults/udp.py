"""Datagrams between clients and one server, until the server's answers are lost.

    client :5001 ──> relay ── socket of its own ──> server
                     relay ── counts answers; from a number on it drops them ──> client

A lost datagram is nothing to a client of UDP, which repeats; only when all are lost has the server frozen.
So there is no plan of single faults here, as the proxies of streams have one.
"""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress
from typing import Self

_LARGEST = 65536  # bytes of a datagram


class UdpRelay:
    """A relay on 127.0.0.1. Start and stop it with ``with``.

    Args:
        host: of the server.
        port: of the server.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._lock = threading.Lock()
        self._from = 0
        self._answers = 0
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._wake, self._woken = socket.socketpair()
        self._clients: dict[tuple[str, int], socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._serve, name="udp-relay", daemon=True)

    @property
    def port(self) -> int:
        """Where clients send to."""
        return int(self._front.getsockname()[1])

    @property
    def answers(self) -> int:
        """How many answers the server has given since `lose_from`, lost ones too."""
        with self._lock:
            return self._answers

    @property
    def lost(self) -> bool:
        """Whether an answer was lost since `lose_from`."""
        with self._lock:
            return 0 < self._from <= self._answers

    def lose_from(self, number: int) -> None:
        """Count from zero, and lose the answer of this number (from 1) and all after it; 0 loses none."""
        with self._lock:
            self._from, self._answers = number, 0

    def __enter__(self) -> Self:
        self._front.bind(("127.0.0.1", 0))
        self._selector.register(self._front, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._wake.send(b"x")
        self._thread.join()
        self._selector.close()
        for sock in (self._front, self._wake, self._woken, *self._clients.values()):
            sock.close()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    return
                with suppress(ConnectionError):  # the server's port is closed: as silent as it would be
                    self._pass_on(key.fileobj, key.data)  # type: ignore[arg-type] # all are sockets

    def _pass_on(self, sock: socket.socket, client: tuple[str, int] | None) -> None:
        if client is None:
            datagram, sender = sock.recvfrom(_LARGEST)
            self._upstream(sender).send(datagram)
        else:
            datagram = sock.recv(_LARGEST)
            if self._counted():
                self._front.sendto(datagram, client)

    def _upstream(self, client: tuple[str, int]) -> socket.socket:
        """Return the socket of a client: its number tells the server's answers apart."""
        if client not in self._clients:
            made = self._clients[client] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.connect(self._server)
            self._selector.register(made, selectors.EVENT_READ, client)
        return self._clients[client]

    def _counted(self) -> bool:
        """Count an answer; returns whether it arrives."""
        with self._lock:
            self._answers += 1
            return not 0 < self._from <= self._answers
