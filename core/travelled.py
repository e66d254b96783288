"""What travelled with a store in a command, against what this machine's own configuration has.

A store's uuid is enough. If an address or a credential comes along all the same, it must be the configured
one: two places under one uuid would be written to as if they were one. It is never used instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..transfer_objects import identity
from ..transfer_objects.secret import Secret
from ..transfer_objects.stores import S3TO, DataStoreTO, ImageStoreTO, NfsTO, SwiftTO
from .spi import Conflict
from .store import Store


def check_travelled(to: DataStoreTO, store: Store) -> None:
    """Refuse a transfer object that says something else than the configuration.

    Raises:
        Conflict: naming the fields, never a value.
    """
    options = store.driver.options
    wrong = [name for name, theirs, ours in _pairs(to, options) if theirs and ours and theirs != ours]
    if wrong:
        raise Conflict(
            f"store {to.uuid} travelled with another {', '.join(wrong)} than store {store.name!r} has here"
        )


def _pairs(to: DataStoreTO, options: Any) -> Iterator[tuple[str, str, str]]:
    """Yield what both may have: a field's name, what came, what is configured."""
    match to:
        case NfsTO(url=url) | ImageStoreTO(uri=url):
            yield "url", _canonical(url), _canonical(_option(options, "url"))
        case SwiftTO():
            yield "url", _canonical(to.url), _canonical(_option(options, "url"))
            yield "account", to.account or "", _option(options, "account")
            yield "user", to.user_name or "", _option(options, "user_name")
            yield "key", _plain(to.key), _option(options, "key")
        case S3TO():
            yield "bucket", to.bucket_name or "", _option(options, "bucket")
            yield (
                "endpoint",
                _endpoint(to.endpoint, to.https),
                _endpoint(_option(options, "endpoint_url"), None),
            )
            yield "access key", _plain(to.access_key), _option(options, "access_key")
            yield "secret key", _plain(to.secret_key), _option(options, "secret_key")


def _option(options: Any, name: str) -> str:
    """Return an option's value; "" where this driver has no such option."""
    value = getattr(options, name, None)
    return _plain(value) if isinstance(value, Secret) else str(value or "")


def _plain(secret: Secret | None) -> str:
    return secret.reveal() if secret else ""


def _canonical(url: str | None) -> str:
    return identity.canonical_url(url) if url else ""


def _endpoint(endpoint: str | None, https: bool | None) -> str:  # noqa: FBT001 - the field's own type
    return identity.canonical_bucket(endpoint, "", https=https) if endpoint else ""
