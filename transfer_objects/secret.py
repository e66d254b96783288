"""A string that does not show itself.

Glance keeps S3 keys in location URIs to this day and CloudStack's SwiftTO logs its key; both
happened because a password was an ordinary string. A `Secret` prints as `***` in every form, cannot
be pickled, and gives its value only through `reveal()`, which is easy to grep for.
"""

from __future__ import annotations

import hmac
from typing import NoReturn, final

REDACTED = "***"


@final
class Secret:
    """A password, key or token."""

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(f"Secret takes a str, not {type(value).__name__}")
        self.__value = value

    def reveal(self) -> str:
        """Return the plain value. Call it only where it goes into a request."""
        return self.__value

    def __repr__(self) -> str:
        return f"Secret({REDACTED!r})"

    def __str__(self) -> str:
        return REDACTED

    def __format__(self, spec: str) -> str:
        return format(REDACTED, spec)

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __eq__(self, other: object) -> bool:
        # compare_digest: how long == takes would tell how much of the secret was guessed right.
        if not isinstance(other, Secret):
            return NotImplemented
        mine, theirs = _bytes(self.__value), _bytes(other.__value)
        return hmac.compare_digest(mine, theirs)

    def __hash__(self) -> int:
        return hash((Secret, self.__value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled: pass a reference (environment variable, file) instead")


def _bytes(text: str) -> bytes:
    # compare_digest takes only ASCII text; a lone surrogate (a key read from a bad file) must not raise.
    return text.encode("utf-8", "surrogatepass")
