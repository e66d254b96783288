"""A proxy in front of an array that loses one message of a conversation, and says how many there were."""

from __future__ import annotations

import socket
import threading
from typing import IO


class LossyProxy:
    """A proxy in front of an array without TLS that loses the reply, or the request, number `lose`."""

    def __init__(self) -> None:
        self.url = ""
        self._port = 0
        self._lock = threading.Lock()
        self.seen = 0
        self.lose: int | None = None
        self.before_it_arrives = False

    def connect_to(self, url: str) -> None:
        """Stand in front of this array from now on, and lose nothing."""
        self._port = int(url.rpartition(":")[2])
        self.arm(None)

    def arm(self, lose: int | None, *, before_it_arrives: bool = False) -> None:
        """Count from zero; lose the one of that number."""
        self.seen, self.lose, self.before_it_arrives = 0, lose, before_it_arrives

    def __call__(self, client: socket.socket) -> None:
        """Pass on one connection, message by message."""
        with socket.create_connection(("127.0.0.1", self._port)) as server:
            from_client, from_server = client.makefile("rb"), server.makefile("rb")
            while request := _message(from_client):
                with self._lock:
                    lost = self.seen == self.lose
                    self.seen += 1
                if lost and self.before_it_arrives:
                    return
                server.sendall(request)
                reply = _message(from_server)
                if lost:
                    return
                client.sendall(reply)


def _message(stream: IO[bytes]) -> bytes:
    """One HTTP message with a Content-Length, or without a body."""
    head, length = b"", 0
    while line := stream.readline():
        head += line
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        if line == b"\r\n":
            return head + stream.read(length)
    return b""
