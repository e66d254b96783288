"""A wire to PostgreSQL that is cut when COMMIT comes by: before it arrives, or before its answer does."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class CommitCutter:
    """Stands between a client and a server on loopback; close it.

    Attributes:
        armed: cut at the next COMMIT.
        answered: let the server have it; what is lost is the answer.
    """

    def __init__(self, port: int) -> None:
        self.armed = self.answered = False
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """Take no more clients, and wait for those that are there to go."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client = self._server.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._target))
                cut = threading.Event()
                for pump, ends in ((self._up, (client, server)), (self._down, (server, client))):
                    self._threads.append(threading.Thread(target=_closing, args=(pump, cut, *ends)))
                    self._threads[-1].start()

    def _up(self, cut: threading.Event, client: socket.socket, server: socket.socket) -> None:
        while data := client.recv(65536):
            if self.armed and b"COMMIT" in data:
                self.armed = False
                if not self.answered:
                    return
                cut.set()
            server.sendall(data)

    def _down(self, cut: threading.Event, server: socket.socket, client: socket.socket) -> None:
        while (data := server.recv(65536)) and not cut.is_set():
            client.sendall(data)


def _closing(pump: object, cut: threading.Event, source: socket.socket, target: socket.socket) -> None:
    """Run one direction; when it ends, so does the other. Each closes what it reads from."""
    assert callable(pump)
    with suppress(OSError):
        pump(cut, source, target)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    source.close()
