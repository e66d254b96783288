"""One delivery: signed as Standard Webhooks has it, to an address that is allowed.

    webhook-id: <event id>    webhook-timestamp: <seconds since 1970>
    webhook-signature: v1,<base64 of HMAC-SHA256(secret, "<id>.<timestamp>.<body>")>

Redirects are not followed, and nothing of an answer is read but its head.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Protocol

import httpcore

from ...transfer_objects.secret import Secret
from ..spi.errors import Internal, StorageError, Unavailable
from .guarded import Guarded, Line
from .options import Webhook, signing_key

MEDIA_TYPE = "application/cloudevents+json; charset=utf-8"
_STEPS = 3
"""Time for a whole delivery, in timeouts of one step."""


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
    said = f"{event_id}.{timestamp}.".encode() + body
    return "v1," + b64encode(hmac.new(signing_key(secret), said, hashlib.sha256).digest()).decode()


class Sender:
    """Delivers to one webhook; close it."""

    def __init__(self, webhook: Webhook, tls: ssl.SSLContext | None = None) -> None:
        self._webhook = webhook
        self._line = Line()
        backend = Guarded(self._line, private=webhook.private)
        self._pool = httpcore.ConnectionPool(ssl_context=tls, network_backend=backend, keepalive_expiry=30.0)

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
        self._line.begin(_STEPS * self._webhook.timeout)
        try:
            with self._pool.stream(
                "POST", self._webhook.url, headers=headers, content=body, extensions={"timeout": steps}
            ) as response:
                return int(response.status)
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise Unavailable(f"the receiver cannot be reached: {type(error).__name__}") from error

    def cut(self) -> None:
        """End a delivery that is under way, and let none begin; from another thread."""
        self._line.cut()

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


def told(error: StorageError) -> str:
    """Return an error as it is kept beside an event."""
    return f"{error.code}: {error.message}"[:255]
