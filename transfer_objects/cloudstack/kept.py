"""What Bollard's form has no place for is kept as it is, in its place: `"$wire.<their key>": <their value>`.

    wire     {"uuid": "6f1c…", "newField": {"a": 1}, "name": "db / old"}
    native   {"type": "VolumeObjectTO", "uuid": "6f1c…", "$wire.newField": {"a": 1}, "$wire.name": "db / old"}

A kept value is JSON as it came, except that what smells of a password is `{"$revealed": "<JSON text>"}`,
which `redact` takes out, and that an object with a "$" key of its own is `{"$json": "<JSON text>"}`, so that
nobody can slip us such a form.
"""

from __future__ import annotations

import re
from typing import Any

from ..errors import DecodeError
from ..reader import REDACTED
from ..rules import SECRET_DETAIL_KEY
from . import text

PREFIX = "$wire."
_REVEALED, _SECRET, _JSON = "$revealed", "$secret", "$json"

_SECRET_KEY = re.compile(
    rf"{SECRET_DETAIL_KEY}"
    r"|(?i:(?:access|secret|private|api|auth|encryption|shared)[-_. ]?key$|^key$|passwd$)"
    r"|(?i:token$|credentials?$)"
)
# `user:password@` and `?password=`, also in the middle of a longer text.
_SECRET_IN_URL = re.compile(
    r"://[^/?#@:\s]*:[^/?#@\s]*@|[?&;](?i:[^=&#?;\s]*(?:secret|password|passphrase|passwd|token))="
)


def is_secret_key(key: str) -> bool:
    """Tell whether the value of a key is to be hidden, judged by the key's name."""
    return _SECRET_KEY.search(key) is not None


def keep(key: str, value: Any) -> Any:
    """Return the form in which a wire value stands in native JSON."""
    if value is not None and not isinstance(value, bool) and is_secret_key(key):
        return _hidden(value)
    match value:
        case str() if _SECRET_IN_URL.search(value):
            return _hidden(value)
        case dict() if any(name.startswith("$") for name in value):
            return {_JSON: text.write(value)} if not _holds_secret(value) else _hidden(value)
        case dict():
            return {name: keep(name, item) for name, item in value.items()}
        case list():
            return [keep("", item) for item in value]
        case _:
            return value


def restore(value: Any) -> Any:
    """Return the wire value that `keep` was given; what was redacted is left out.

    Raises:
        DecodeError: for a form that `keep` does not make.
    """
    match value:
        case dict() if any(name.startswith("$") for name in value):
            return _restored(value)
        case dict():
            return {name: restore(item) for name, item in value.items() if not is_redacted(item)}
        case list():
            return [restore(item) for item in value if not is_redacted(item)]
        case _:
            return value


def redact(tree: Any) -> Any:
    """Return native JSON with its secrets taken out."""
    match tree:
        case dict() if _REVEALED in tree:
            return dict(REDACTED)
        case dict():
            return {key: redact(value) for key, value in tree.items()}
        case list():
            return [redact(item) for item in tree]
        case _:
            return tree


def reveal(secret: str) -> dict[str, str]:
    """Return the form of a secret in native JSON."""
    return {_REVEALED: secret}


def revealed(value: Any) -> str | None:
    """Return the secret in `{"$revealed": …}`, or None if it was redacted.

    Raises:
        DecodeError: for anything else.
    """
    if is_redacted(value):
        return None
    if not isinstance(value, dict) or list(value) != [_REVEALED] or not isinstance(value[_REVEALED], str):
        raise DecodeError('must be {"$revealed": "…"} or {"$secret": "redacted"}')
    return str(value[_REVEALED])


def is_redacted(value: Any) -> bool:
    """Tell whether a secret stood here."""
    return isinstance(value, dict) and value == REDACTED


def is_secret(value: Any) -> bool:
    """Tell whether a secret stands or stood here."""
    return isinstance(value, dict) and (_REVEALED in value or _SECRET in value)


def _hidden(value: Any) -> dict[str, str]:
    return reveal(text.write(value))


def _holds_secret(value: Any) -> bool:
    match value:
        case dict():
            return any(is_secret_key(key) or _holds_secret(item) for key, item in value.items())
        case list():
            return any(_holds_secret(item) for item in value)
        case _:
            return isinstance(value, str) and _SECRET_IN_URL.search(value) is not None


def _restored(value: dict[str, Any]) -> Any:
    [(form, content)] = value.items() if len(value) == 1 else [("", None)]
    if form not in (_REVEALED, _JSON) or not isinstance(content, str):
        raise DecodeError('may hold "$" keys only as {"$revealed": "<JSON>"} or {"$json": "<JSON>"}')
    return text.parse(content)
