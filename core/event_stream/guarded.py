"""Connections of a webhook: to allowed addresses only, and over at a given time, whatever the receiver does.

A name is resolved once, each of its addresses is looked at, and the connection goes to one of these: a name
that means another machine a moment later leads nowhere (DNS rebinding).

httpcore's timeouts are for each read: a receiver that sends one byte of its answer every nine seconds held a
delivery, its webhook's lease and the server's shutdown for as long as it liked.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import httpcore

from ..spi.errors import PermissionDenied, Unavailable


class Line:
    """What all connections of a sender obey: a deadline for each delivery, and the end of all of them."""

    def __init__(self) -> None:
        self._end = float("inf")
        self._cut = threading.Event()
        self._open: httpcore.NetworkStream | None = None

    def begin(self, seconds: float) -> None:
        """Give the next delivery so much time."""
        self._end = time.monotonic() + seconds

    def left(self, timeout: float | None) -> float:
        """Return the seconds that a step of `timeout` has.

        Raises:
            httpcore.TimeoutException: none, or all is over.
        """
        left = self._end - time.monotonic()
        if left <= 0 or self._cut.is_set():
            raise httpcore.ReadTimeout("the time of this delivery is over")
        return left if timeout is None else min(timeout, left)

    def holds(self, stream: httpcore.NetworkStream) -> None:
        """Note the connection that is used now."""
        self._open = stream

    def cut(self) -> None:
        """End what is under way, and let nothing begin; from another thread."""
        self._cut.set()
        if self._open is not None and (plain := self._open.get_extra_info("socket")) is not None:
            with suppress(OSError):  # it has ended by itself
                # Not the method of a TLS socket, which takes from the reader what it reads with.
                socket.socket.shutdown(plain, socket.SHUT_RDWR)


class Guarded(httpcore.NetworkBackend):
    """Connects to allowed addresses only.

    Args:
        private: allow addresses that are not public.
    """

    def __init__(self, line: Line, *, private: bool) -> None:
        self._line = line
        self._private = private
        self._real = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of a name, if all of them are allowed; TLS still asks for the name."""
        address = addresses_of(host, port, private=self._private)[0]
        left = self._line.left(timeout)
        return _Stream(self._real.connect_tcp(address, port, left, local_address, socket_options), self._line)


class _Stream(httpcore.NetworkStream):
    """A connection whose every step has the time that is left of the delivery."""

    def __init__(self, stream: httpcore.NetworkStream, line: Line) -> None:
        self._stream = stream
        self._line = line
        line.holds(stream)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._line.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._line.left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._line.left(timeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), self._line)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def addresses_of(host: str, port: int, *, private: bool) -> list[str]:
    """Return the addresses of a name.

    Raises:
        PermissionDenied: one of them is not public, and `private` does not allow that.
        Unavailable: the name cannot be resolved.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unavailable("the receiver's name cannot be resolved") from error
    addresses = [str(entry[4][0]) for entry in found]
    if not private and not all(_public(address) for address in addresses):
        raise PermissionDenied("the receiver's address is not public; private = true would allow it")
    return addresses


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _public(text: str) -> bool:
    """Tell whether an address is public; one of IPv6 that leads to one of IPv4 is judged by that."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _public(str(inner))
    return address.is_global and not address.is_multicast
