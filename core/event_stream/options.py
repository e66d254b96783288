"""[webhooks.NAME] of the configuration.

[webhooks.billing]
url = "https://billing.example/hooks/bollard"
secret = { env = "BILLING_HOOK_SECRET" }
types = "bollard.volume. bollard.snapshot."
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ...transfer_objects.secret import Secret
from ..spi import InvalidArgument, option, parse_options

_SHORTEST_SECRET = 16
_PREFIX = "whsec_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Where events are delivered."""

    url: str = option(help="https URL that takes POST", example="https://billing.example/hook")
    secret: Secret = option(
        help="Signs each delivery: 16 bytes or more, or whsec_ and their base64", secret=True
    )
    types: str = option(
        help="Beginnings of types that are wanted, with blanks between; none: all", default=""
    )
    private: bool = option(help="Allow http, and private and loopback addresses", default=False)
    attempts: int = option(help="Deliveries of one event before it is given up", default=12, minimum=1)
    timeout: float = option(
        help="Seconds for each step of a delivery; three times that for all of it",
        default=10.0,
        minimum=0.1,
        maximum=30.0,  # a delivery must be over before the lease of 120 s is
    )

    def wants(self, kind: str) -> bool:
        """Tell whether events of a type are delivered."""
        wanted = self.types.split()
        return not wanted or kind.startswith(tuple(wanted))


def webhooks_of(raw: Mapping[str, Mapping[str, Any]]) -> dict[str, Webhook]:
    """Return the webhooks of a configuration by name.

    Raises:
        InvalidArgument: naming the webhook and the rule, never the secret.
    """
    return {name: _parse(name, options) for name, options in raw.items()}


def _parse(name: str, options: Mapping[str, Any]) -> Webhook:
    try:
        found = parse_options(Webhook, options)
    except InvalidArgument as error:
        raise InvalidArgument(f"[webhooks.{name}]: {error.message}") from error
    parts = _parts(name, found.url)
    if parts.scheme not in (("https", "http") if found.private else ("https",)) or not parts.hostname:
        raise InvalidArgument(f"[webhooks.{name}]: the url must be https (or http with private = true)")
    if parts.username or parts.password:
        raise InvalidArgument(f"[webhooks.{name}]: no user or password in the url; deliveries are signed")
    try:
        key = signing_key(found.secret)
    except ValueError:
        raise InvalidArgument(f"[webhooks.{name}]: behind {_PREFIX} the secret must be base64") from None
    if len(key) < _SHORTEST_SECRET:
        raise InvalidArgument(f"[webhooks.{name}]: the secret must have {_SHORTEST_SECRET} bytes or more")
    return found


def _parts(name: str, url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - looked at for its errors: a port that is none is found here, not at each delivery
    except ValueError:
        raise InvalidArgument(f"[webhooks.{name}]: the url is none, or its port is not") from None
    return parts


def signing_key(secret: Secret) -> bytes:
    """Return the key that a secret means: its text, or the base64 behind `whsec_`.

    Raises:
        ValueError: that is no base64. A lenient reader skips what it does not know, and an empty key is left.
    """
    plain = secret.reveal()
    if not plain.startswith(_PREFIX):
        return plain.encode()
    return b64decode(plain.removeprefix(_PREFIX), validate=True)
