"""Reading JSON that somebody else may have touched: exact keys, exact types, exact bytes."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from ...transfer_objects.ids import is_valid_id
from ..spi.errors import DataLoss

_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class Fields:
    """A JSON object with exactly the expected keys.

    Args:
        what: how error messages name the place.
        value: what was decoded.
        keys: all that must be there, and no others.

    Raises:
        DataLoss: here and from every method, naming place, key and rule.
    """

    def __init__(self, what: str, value: object, keys: tuple[str, ...]) -> None:
        if not isinstance(value, dict) or set(value) != set(keys):
            raise DataLoss(f"{what}: expected an object with the keys {', '.join(keys)}")
        self._what = what
        self._values = value

    def fail(self, key: str, rule: str) -> DataLoss:
        """Return the error for a value that breaks a rule."""
        return DataLoss(f"{self._what}: {key} must be {rule}")

    def text(self, key: str, pattern: re.Pattern[str] | None = None, rule: str = "a string") -> str:
        """Return a string that matches `pattern` as a whole."""
        value = self._values[key]
        if not isinstance(value, str) or (pattern and not pattern.fullmatch(value)):
            raise self.fail(key, rule)
        return value

    def sha256(self, key: str) -> str:
        """Return 64 lower-case hex digits."""
        return self.text(key, _SHA256, "a SHA-256 in hex")

    def id(self, key: str) -> str:
        """Return an id."""
        value = self._values[key]
        if not isinstance(value, str) or not is_valid_id(value):
            raise self.fail(key, "an id")
        return value

    def time(self, key: str) -> str:
        """Return a time as `time_text` writes it."""
        text = self.text(key, _TIME, "a time in UTC")
        try:
            milliseconds_of(text)
        except ValueError as error:
            raise self.fail(key, "a time in UTC") from error
        return text

    def number(self, key: str, minimum: int, maximum: int = 2**63 - 1) -> int:
        """Return an integer in a range; True and 1.0 are not integers."""
        value = self._values[key]
        if type(value) is not int or not minimum <= value <= maximum:
            raise self.fail(key, f"an integer from {minimum} to {maximum}")
        return value

    def list(self, key: str) -> list[Any]:
        """Return a list, its items unchecked."""
        value = self._values[key]
        if not isinstance(value, list):
            raise self.fail(key, "a list")
        return value

    def raw(self, key: str) -> object:
        """Return a value, unchecked."""
        return self._values[key]


def decode(what: str, data: bytes) -> object:
    """Parse UTF-8 JSON.

    Raises:
        DataLoss: it is none: cut off, or overwritten.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataLoss(f"{what} is damaged: not JSON") from error


def is_sha256(value: object) -> bool:
    """Tell whether a value is a SHA-256 in lower-case hex."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def time_text(milliseconds: int) -> str:
    """Return milliseconds since the epoch as `2026-11-20T12:00:00.000Z`."""
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03}Z"


def milliseconds_of(text: str) -> int:
    """Return what `time_text` was given."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)
