"""Taking secrets out of text that a driver or backend wrote.

A backend may echo a password in its error ("login failed for admin/s3cret"): plain, quoted for a
URL, JSON, XML or a Python repr, in hex or base64 (an Authorization header). Core knows the secrets of
a driver's options and removes each form before a message reaches a log, an event or the caller.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import json
import re
import urllib.parse
from collections.abc import Iterable, Iterator
from typing import Any

from ..transfer_objects.secret import REDACTED, Secret

# Shorter ones ("a", "12") would tear holes into every message; nobody is protected by them anyway.
MIN_SECRET_LENGTH = 4


def secrets_of(options: object) -> list[Secret]:
    """Return the secrets among the fields of a driver's options object."""
    if not dataclasses.is_dataclass(options) or isinstance(options, type):
        return []
    values: Iterable[Any] = (getattr(options, f.name) for f in dataclasses.fields(options))
    return [v for v in values if isinstance(v, Secret)]


def encoded_forms(secret: Secret) -> set[str]:
    """Return the texts under which a secret may show up."""
    plain = secret.reveal()
    urls = {f(plain) for f in (urllib.parse.quote, urllib.parse.quote_plus, _quote_all)}
    urls |= {_PERCENT.sub(lambda m: m[0].lower(), url) for url in urls}
    json_forms = {json.dumps(plain, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
    xml = {html.escape(plain, quote=quote) for quote in (True, False)}
    encoded = set(_base64_forms(plain.encode()))
    encoded |= {e.translate(_URL_SAFE) for e in encoded}
    return {plain, repr(plain)[1:-1], plain.encode().hex(), *urls, *json_forms, *xml, *encoded}


_PERCENT = re.compile("%[0-9A-F]{2}")
_URL_SAFE = str.maketrans("+/", "-_")


def _quote_all(plain: str) -> str:
    return urllib.parse.quote(plain, safe="")


def _base64_forms(raw: bytes) -> Iterator[str]:
    """Yield what stands in base64 for the bytes alone, and inside of a longer text ("user:password").

    Three bytes make four characters, so there are three alignments; a character that shares its six
    bits with a neighbour is left out:

        bytes before   0            1            2
        characters     |s s s ...   |. . s ...   |. . . s ...
    """
    alone = base64.b64encode(raw).decode()
    yield from (alone, alone.rstrip("="))
    for before, first in ((0, 0), (1, 2), (2, 3)):
        yield base64.b64encode(bytes(before) + raw).decode()[first : (before + len(raw)) * 8 // 6]


class Redactor:
    """Replaces every form of some secrets by `***`."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._secrets = tuple(secrets)
        forms = {f for s in self._secrets if len(s.reveal()) >= MIN_SECRET_LENGTH for f in encoded_forms(s)}
        # Longest first: else the plain form would break up a longer one that contains it.
        self._forms = sorted(forms, key=len, reverse=True)

    def and_of(self, secrets: Iterable[Secret]) -> Redactor:
        """Return a redactor that knows these secrets, too (a host's CHAP secret for one call)."""
        return Redactor([*self._secrets, *secrets])

    def __call__(self, text: str) -> str:
        """Return `text` without the secrets."""
        for form in self._forms:
            text = text.replace(form, REDACTED)
        return text
