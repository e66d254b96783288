"""Ids at the border: CloudStack's are any text, Bollard's are `ids.ID_RULE`.

    wire                       native
    6f1c2b3a-…                 6f1c2b3a-…                          valid already: stays as it is
    SolidFire_5f7a             cs----53olid--46ire--5f5f7a         escaped: "cs--", odd bytes as "--" and hex
    (more than fits)           ch--<32 digits of its SHA-256>      the text itself is kept beside it

The escape is undone by reading: within it a "-" that stays is followed by a letter or digit, so "--" always
starts a byte. A wire id that starts with "cs--" or "ch--" itself is escaped as well.
"""

from __future__ import annotations

import hashlib
import re

from ..ids import is_valid_id

_ESCAPED, _HASHED = "cs--", "ch--"
_ODD = re.compile(rb"-(?![a-z0-9])|[^a-z0-9-]")
_BYTE = re.compile(r"--([0-9a-f]{2})")


def native_id(wire: str) -> str:
    """Return the id that stands for `wire` in Bollard; the same for the same text, everywhere.

    `wire` may be any text but the empty one.
    """
    if is_valid_id(wire) and not wire.startswith((_ESCAPED, _HASHED)):
        return wire
    data = wire.encode()
    escaped = _ESCAPED + _ODD.sub(lambda match: b"--%02x" % match[0][0], data).decode("ascii")
    return escaped if is_valid_id(escaped) else _HASHED + hashlib.sha256(data).hexdigest()[:32]


def wire_id(native: str) -> str | None:
    """Return what `native_id` was given, or None if that cannot be seen any more."""
    if native.startswith(_HASHED):
        return None
    if not native.startswith(_ESCAPED):
        return native
    try:
        text = _unescape(native[len(_ESCAPED) :])
    except UnicodeDecodeError:
        return native
    return text if native_id(text) == native else native


def _unescape(escaped: str) -> str:
    # Latin-1 carries each byte through the substitution as one character.
    text = _BYTE.sub(lambda match: bytes([int(match[1], 16)]).decode("latin-1"), escaped)
    return text.encode("latin-1").decode()
