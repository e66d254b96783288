"""Taking secrets out of text that a driver or backend wrote.

A backend may echo a password in its error ("login failed for admin/s3cret"), plain, URL-quoted or
in base64 (an Authorization header). Core knows the secrets of a driver's options and removes each
form before a message reaches a log, an event or the caller.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import urllib.parse
from collections.abc import Iterable
from typing import Any

from ..transfer_objects.secret import REDACTED, Secret

# Shorter ones ("a", "12") would tear holes into every message; nobody is protected by them anyway.
MIN_SECRET_LENGTH = 4


def secrets_of(options: object) -> list[Secret]:
    """Return the secrets among the fields of a driver's options object."""
    if not dataclasses.is_dataclass(options):
        return []
    values: Iterable[Any] = (getattr(options, f.name) for f in dataclasses.fields(options))
    return [v for v in values if isinstance(v, Secret)]


def encoded_forms(secret: Secret) -> set[str]:
    """Return the texts under which a secret may show up."""
    plain = secret.reveal()
    raw = plain.encode()
    encoded = {base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode(), raw.hex()}
    quoted = {urllib.parse.quote(plain, safe=""), urllib.parse.quote_plus(plain), json.dumps(plain)[1:-1]}
    # Inside a longer base64 text ("user:password") only the unpadded body is found.
    return {plain, *quoted, *encoded, *(e.rstrip("=") for e in encoded)}


class Redactor:
    """Replaces every form of some secrets by `***`."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        forms = {f for s in secrets if len(s.reveal()) >= MIN_SECRET_LENGTH for f in encoded_forms(s)}
        # Longest first: else the plain form would break up a longer one that contains it.
        self._forms = sorted(forms, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Return `text` without the secrets."""
        for form in self._forms:
            text = text.replace(form, REDACTED)
        return text
