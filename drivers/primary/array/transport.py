"""An HTTP transport in which a timeout is for the whole exchange.

httpx counts its timeouts anew for each read, so a server that sends one byte now and then holds a
caller for as long as it likes (measured with a 100 KiB header at a byte per second: a day). Here the
time of each read is what is left:

    httpx.Client ── timeout=5, cancel ──> Transport ── Until(t+5) ──> httpcore ──> Stream.read: until - now

A read looks up twice a second whether its call was cancelled: a silent array held one for 20 s.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import httpcore
import httpx

_SOON = 1e-3  # seconds; a socket timeout of 0 would mean "non-blocking"
_LOOK_UP = 0.5  # seconds


class Until(float):
    """A point in time on the monotonic clock, and what ends the wait for it; httpcore passes both on."""

    cancel: threading.Event

    @classmethod
    def after(cls, seconds: float, cancel: threading.Event) -> Until:
        """Return the point in time so many seconds from now."""
        until = cls(time.monotonic() + seconds)
        until.cancel = cancel
        return until


class WholeExchangeTransport(httpx.BaseTransport):
    """Runs each exchange within the request's `timeout`, whatever the server does.

    A request carries the extension "cancel", an event that ends it.

    Args:
        tls: how servers are verified.

    Raises:
        httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError: from requests and bodies.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls, max_connections=32, keepalive_expiry=30.0, network_backend=_Backend()
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the answer's body is still to be read."""
        seconds = request.extensions["timeout"]["read"]
        until = Until.after(seconds, request.extensions["cancel"])
        times = {"pool": seconds, "connect": until, "read": until, "write": until}
        url = request.url
        answer = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                content=request.read(),
                extensions={"timeout": times},
            )
        )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer))

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


class _Backend(httpcore.NetworkBackend):
    """Opens connections; every `timeout` that it and its streams are given is a point in time."""

    def __init__(self) -> None:
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect until then."""
        return _Stream(self._sockets.connect_tcp(host, port, _left(timeout), local_address, socket_options))


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if not isinstance(timeout, Until):
            return self._stream.read(max_bytes, _left(timeout))
        while True:
            left = _left(timeout) or _SOON
            try:
                return self._stream.read(max_bytes, min(left, _LOOK_UP))
            except httpcore.ReadTimeout:
                if left <= _LOOK_UP or timeout.cancel.is_set():
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(timeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _left(timeout)))

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(until: float | None) -> float | None:
    return None if until is None else max(_SOON, until - time.monotonic())
