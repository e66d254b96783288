"""TLS in front of a simulator that has none: for the checks of a store's certificates."""

from __future__ import annotations

import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from bollard.simulators.array.tls import Certificates

_PIECE = 64 * 1024


class _Door(socketserver.ThreadingTCPServer):
    """Listens on a free port; each connection is carried on in a thread of its own."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: tuple[str, int], context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Visit)
        self.upstream = upstream
        self.context = context


class _Visit(socketserver.BaseRequestHandler):
    """One connection: deciphered bytes go on to the simulator, its answers back."""

    server: _Door

    def handle(self) -> None:
        """Carry bytes until either side hangs up; a client that does not trust us hangs up at once."""
        try:
            with (
                self.server.context.wrap_socket(self.request, server_side=True) as client,
                socket.create_connection(self.server.upstream) as backend,
            ):
                _carry(client, backend)
        except OSError:  # ssl.SSLError is one
            return


def _carry(client: ssl.SSLSocket, backend: socket.socket) -> None:
    # One thread for both directions: OpenSSL's connections are not for two.
    while True:
        ready = [client] if client.pending() else select.select([client, backend], [], [])[0]
        for source, target in ((client, backend), (backend, client)):
            if source in ready:
                data = source.recv(_PIECE)
                if not data:
                    return
                target.sendall(data)


@contextmanager
def tls_door(url: str, files: Certificates) -> Iterator[str]:
    """Serve an http origin as an https one, which is yielded."""
    parts = urlsplit(url)
    with _Door((parts.hostname or "", parts.port or 80), files.server_context()) as door:
        threading.Thread(target=door.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"https://127.0.0.1:{door.server_address[1]}"
        finally:
            door.shutdown()
