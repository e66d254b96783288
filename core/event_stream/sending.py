"""One delivery: signed as Standard Webhooks has it, to an address that is allowed.

    webhook-id: <event id>    webhook-timestamp: <seconds since 1970>
    webhook-signature: v1,<base64 of HMAC-SHA256(secret, "<id>.<timestamp>.<body>")>

A name is resolved once, each of its addresses is looked at, and the connection goes to one of these: a name
that means another machine a moment later leads nowhere (DNS rebinding). Redirects are not followed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import socket
import ssl
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import httpcore

from ...transfer_objects.secret import Secret
from ..spi.errors import Internal, PermissionDenied, StorageError, Unavailable
from .options import Webhook

MEDIA_TYPE = "application/cloudevents+json; charset=utf-8"
_PREFIX = "whsec_"


class Send(Protocol):
    """Delivers one event."""

    def __call__(self, event: Mapping[str, Any], now: float) -> None:
        """Deliver, or raise.

        Raises:
            Unavailable: the receiver could not be reached.
            StorageError: it refused this event.
        """


def signature(secret: Secret, event_id: str, timestamp: int, body: bytes) -> str:
    """Return what a receiver computes as well."""
    plain = secret.reveal()
    key = base64.b64decode(plain.removeprefix(_PREFIX)) if plain.startswith(_PREFIX) else plain.encode()
    digest = hmac.new(key, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


class Sender:
    """Delivers to one webhook; close it."""

    def __init__(self, webhook: Webhook, tls: ssl.SSLContext | None = None) -> None:
        self._webhook = webhook
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls, network_backend=_Guarded(private=webhook.private), keepalive_expiry=30.0
        )

    def __call__(self, event: Mapping[str, Any], now: float) -> None:
        """Deliver an event; anything but 2xx is a refusal."""
        body = json.dumps(event, separators=(",", ":"), sort_keys=True).encode()
        headers = {
            "content-type": MEDIA_TYPE,
            "user-agent": "bollard",
            "webhook-id": event["id"],
            "webhook-timestamp": str(int(now)),
            "webhook-signature": signature(self._webhook.secret, event["id"], int(now), body),
        }
        status = self._post(list(headers.items()), body)
        if not 200 <= status < 300:
            raise Internal(f"the receiver answered {status}")

    def _post(self, headers: list[tuple[str, str]], body: bytes) -> int:
        steps = dict.fromkeys(("connect", "read", "write", "pool"), self._webhook.timeout)
        try:
            with self._pool.stream(
                "POST", self._webhook.url, headers=headers, content=body, extensions={"timeout": steps}
            ) as response:
                return int(response.status)
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise Unavailable(f"the receiver cannot be reached: {type(error).__name__}") from error

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


class _Guarded(httpcore.NetworkBackend):
    """Connects to allowed addresses only."""

    def __init__(self, *, private: bool) -> None:
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
        return self._real.connect_tcp(address, port, timeout, local_address, socket_options)


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


def _public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_global and not address.is_multicast


def told(error: StorageError) -> str:
    """Return an error as it is kept beside an event."""
    return f"{error.code}: {error.message}"[:255]
