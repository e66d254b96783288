"""HTTP exchanges in which a timeout is for the whole exchange.

HTTP libraries count their timeouts anew for each read, so a server that sends one byte now and then holds a
caller for as long as it likes (measured with a 100 KiB header at a byte per second: a day). Here the
time of each read is what is left:

    client ── seconds=5, cancel ──> Exchanges ── Until(t+5) ──> httpcore ──> Stream.read: until - now

A read looks up twice a second whether its call was cancelled: a silent array held one for 20 s.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpcore

from ....core.spi import Call, DeadlineExceeded, InvalidArgument, Outcome, StorageError, Unavailable

_SOON = 1e-3  # seconds; a socket timeout of 0 would mean "non-blocking"
_LOOK_UP = 0.5  # seconds
_EARLY = 0.01  # seconds by which a socket's timeout may come before the deadline it stands for

# The connection was never made: the server cannot have seen the request.
_NOT_SENT = (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout)
_BROKEN = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)


class Until(float):
    """A point in time on the monotonic clock, and what ends the wait for it; httpcore passes both on."""

    cancel: threading.Event

    @classmethod
    def after(cls, seconds: float, cancel: threading.Event) -> Until:
        """Return the point in time so many seconds from now."""
        until = cls(time.monotonic() + seconds)
        until.cancel = cancel
        return until


class Exchanges:
    """Runs each exchange with one server within its time, whatever the server does.

    httpcore and not httpx, which stands on it: a request took 1.4 ms of CPU instead of 0.7, the import 0.2 s.

    Args:
        url: https://HOST[:PORT], already checked.
        tls: how the server is verified.
    """

    def __init__(self, url: SplitResult, tls: ssl.SSLContext) -> None:
        self._scheme, self._host = url.scheme.encode(), (url.hostname or "").encode()
        self._port, self._authority = url.port, url.netloc.encode()
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls, max_connections=32, keepalive_expiry=30.0, network_backend=_Backend()
        )

    @contextmanager
    def begin(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        seconds: float,
        cancel: threading.Event,
    ) -> Iterator[httpcore.Response]:
        """Send a request; the answer's body is still to be read, as long as the context lasts.

        Args:
            target: path and query, quoted.
            seconds: until the end of the answer's body.
            cancel: ends the exchange when it is set.

        Raises:
            httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError: also within the context.
        """
        until = Until.after(seconds, cancel)
        sent = [(b"Host", self._authority)]
        sent += [(name.encode(), value.encode()) for name, value in headers.items()]
        if body is not None:
            sent += [(b"Content-Length", b"%d" % len(body))]
        with self._pool.stream(
            method,
            httpcore.URL(scheme=self._scheme, host=self._host, port=self._port, target=target.encode()),
            headers=sent,
            content=body,
            extensions={"timeout": {"pool": seconds, "connect": until, "read": until, "write": until}},
        ) as answer:
            yield answer

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()


@contextmanager
def told_as_lost(call: Call, what: str, peer: str, *, changes: bool) -> Iterator[None]:
    """Turn what httpcore raises of an exchange into typed errors.

    Args:
        what: the request, for messages.
        peer: who was asked, for messages.
        changes: it changes what matters, so without an answer nobody knows whether it did.

    Raises:
        DeadlineExceeded: the call's time is over, or it was cancelled.
        Unavailable: else.
    """
    try:
        yield
    except _NOT_SENT as error:
        raise _lost(call, what, peer, error, Outcome.NOT_APPLIED) from error
    except _BROKEN as error:
        outcome = Outcome.UNKNOWN if changes else Outcome.NOT_APPLIED
        raise _lost(call, what, peer, error, outcome) from error


def _lost(call: Call, what: str, peer: str, error: Exception, outcome: Outcome) -> StorageError:
    if call.cancel.is_set():
        return DeadlineExceeded(f"{what}: the call was cancelled", outcome=outcome)
    if call.deadline is not None and call.clock() >= call.deadline - _EARLY:
        return DeadlineExceeded(f"{what}: the call's deadline has passed", outcome=outcome)
    return Unavailable(f"{what}: no answer from {peer} ({type(error).__name__})", outcome=outcome)


def server_of(text: str, schemes: Sequence[str], option: str = "url") -> SplitResult:
    """Return what an option says of a server.

    Args:
        schemes: those that are taken; the first is the one to recommend.
        option: its name, for messages.

    Raises:
        InvalidArgument: it is no URL, or says more than a scheme, a host and a port.
    """
    try:
        url = urlsplit(text)
        url.port  # noqa: B018 - read to have it checked
        text.encode("ascii")
    except ValueError as error:
        raise InvalidArgument(f"option {option!r} is not a URL") from error
    beyond = url.path not in ("", "/") or url.query or url.fragment or "@" in url.netloc
    if url.scheme not in schemes or not url.hostname or beyond:
        raise InvalidArgument(
            f"option {option!r} must be {schemes[0]}://HOST[:PORT], without path, user or password"
        )
    return url


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
