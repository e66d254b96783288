"""JSON text of a stranger, read within bounds: size, depth, numbers, keys and characters are checked.

What Gson's lenient reader takes beyond JSON (comments, single quotes, bare words) is refused; no writer of
CloudStack's makes it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from decimal import Decimal
from typing import Any

from ..errors import DecodeError, shown
from ..reader import Repeated

# Requests about one VM are some KiB. Four MiB of "{}," become 180 MiB of Python objects (measured), which a
# process survives.
MAX_BYTES = 4 * 2**20
# MAX_DEPTH of native objects, each in a wrapper of its own.
MAX_NESTING = 100
_MAX_DIGITS = 64

# Gson escapes these for HTML. None of them is JSON's own punctuation, so they can only stand in strings.
_HTML = {ord(c): f"\\u{ord(c):04x}" for c in "<>&='\u2028\u2029"}


class _Refused:
    """A value that breaks `rule`; the parser does not know its path, so it is refused afterwards."""

    def __init__(self, rule: str) -> None:
        self.rule = rule


def parse(data: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        DecodeError: with the path of what was refused.
    """
    if len(data) > MAX_BYTES:
        raise DecodeError(f"must not be longer than {MAX_BYTES} bytes")
    try:
        text = data.decode() if isinstance(data, bytes) else data
        tree = json.loads(
            text,
            object_pairs_hook=_pairs,
            parse_int=_integer,
            parse_float=_fraction,
            parse_constant=lambda word: _Refused(f"must be JSON, which knows no {word}"),
        )
    except UnicodeDecodeError as error:
        raise DecodeError(f"must be UTF-8, which breaks at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise DecodeError(
            f"must be JSON, which breaks at line {error.lineno} column {error.colno}"
        ) from error
    except RecursionError as error:
        raise _too_deep() from error
    _inspect(tree, 1)
    return tree


def write(tree: Any) -> str:
    """Return a JSON text as Gson writes it: no blanks, HTML's characters escaped."""
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(_HTML)


def key_path(key: str) -> str:
    """Return a key as a step of a path; a class name, which has dots, stands in brackets."""
    return shown(key) if key.isidentifier() else f"[{key[:128]!a}]"


def _too_deep() -> DecodeError:
    return DecodeError(f"must not be nested deeper than {MAX_NESTING} levels")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeated = Repeated(found)
    [(repeated.key, _)] = Counter(key for key, _ in pairs).most_common(1)
    return repeated


def _integer(digits: str) -> Any:
    # int() is quadratic and refuses above 4300 digits.
    return int(digits) if len(digits) <= _MAX_DIGITS else _Refused("must be a number of at most 64 digits")


def _fraction(literal: str) -> Any:
    number = float(literal)
    if len(literal) > _MAX_DIGITS or not math.isfinite(number) or Decimal(literal) != Decimal(repr(number)):
        return _Refused("must be a number that a double holds exactly")
    return number


def _inspect(value: Any, depth: int) -> None:
    if depth > MAX_NESTING:
        raise _too_deep()
    match value:
        case str():
            _need_unicode(value)
        case _Refused():
            raise DecodeError(value.rule)
        case Repeated():
            raise DecodeError("appears twice", key_path(value.key))
        case dict():
            for key, item in value.items():
                _need_unicode(key)
                _inspect_below(key, item, depth)
        case list():
            for index, item in enumerate(value):
                _inspect_below(index, item, depth)


def _inspect_below(step: str | int, value: Any, depth: int) -> None:
    try:
        _inspect(value, depth + 1)
    except DecodeError as error:
        error.within(f"[{step}]" if isinstance(step, int) else key_path(step))
        raise


def _need_unicode(text: str) -> None:
    # isascii() is a flag of the string; the search is for the few others.
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise DecodeError("must be valid Unicode (it holds half a surrogate pair)")
