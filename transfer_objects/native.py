"""Bollard's own JSON form of transfer objects: strict, tagged, and silent about secrets.

    {"type": "SnapshotObjectTO", "path": "/pool/snapshots/s1",
     "data_store": {"type": "PrimaryDataStoreTO", "uuid": "6f1c…", …}}

Every object names its class in `type`. A field that is None, and None by default, is left out. A secret is
written as {"$secret": "redacted"} unless the caller asks for {"$revealed": "…"}; a redacted secret is read as
absent, because a store's uuid is enough for the receiver to find the credentials in its own registry.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar, overload

from .base import TransferObject
from .errors import DecodeError
from .reader import MAX_DEPTH, REDACTED, Repeated, read_root, too_deep
from .rules import INT64_MAX, INT64_MIN
from .secret import Secret
from .shapes import Choice, DetailMap, Hidden, Keyed, Many, Nested, Shape, fields_of

T = TypeVar("T", bound=TransferObject)


def encode(obj: TransferObject, *, reveal_secrets: bool = False) -> str:
    """Return `obj` as one line of JSON.

    Args:
        obj: any transfer object.
        reveal_secrets: write secrets in clear. Only into a channel that is as secret as they are.

    Raises:
        DecodeError: if it is nested too deeply for `decode`.
    """
    tree = encode_tree(obj, reveal_secrets=reveal_secrets)
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":"))


def encode_tree(obj: TransferObject, *, reveal_secrets: bool = False) -> dict[str, Any]:
    """Like `encode`, but as dicts and lists, for embedding into a larger document."""
    return _Writer(reveal_secrets=reveal_secrets).object(obj, 1)


@overload
def decode(text: str | bytes) -> TransferObject: ...
@overload
def decode(text: str | bytes, expected: type[T]) -> T: ...
def decode(text: str | bytes, expected: type[TransferObject] | None = None) -> TransferObject:
    """Read what `encode` wrote.

    Args:
        text: JSON; bytes are UTF-8.
        expected: refuse objects of any other class.

    Raises:
        DecodeError: naming the field's path, the rule and, for misspelt words, what was perhaps meant.
    """
    try:
        document = text.decode() if isinstance(text, bytes) else text
        tree = json.loads(document, object_pairs_hook=_pairs, parse_int=_parse_int)
    except UnicodeDecodeError as error:
        raise DecodeError(f"must be UTF-8, which breaks at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise DecodeError(
            f"must be JSON, which breaks at line {error.lineno} column {error.colno}"
        ) from error
    except RecursionError as error:
        raise too_deep() from error
    return read_root(tree, expected)


@overload
def decode_tree(tree: Any) -> TransferObject: ...
@overload
def decode_tree(tree: Any, expected: type[T]) -> T: ...
def decode_tree(tree: Any, expected: type[TransferObject] | None = None) -> TransferObject:
    """Like `decode`, from dicts and lists that a JSON parser made."""
    return read_root(tree, expected)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            repeated = Repeated(found)
            repeated.key = key
            return repeated
        found[key] = value
    return found


def _parse_int(digits: str) -> int:
    # int() is quadratic and refuses above 4300 digits; out of range is out of range, and the rule says so.
    if len(digits) <= len(str(INT64_MIN)):
        return int(digits)
    return INT64_MIN - 1 if digits.startswith("-") else INT64_MAX + 1


class _Writer:
    def __init__(self, *, reveal_secrets: bool) -> None:
        self._reveal = reveal_secrets

    def object(self, obj: TransferObject, depth: int) -> dict[str, Any]:
        if depth > MAX_DEPTH:
            raise too_deep()
        tree: dict[str, Any] = {"type": type(obj).__name__}
        for field in fields_of(type(obj)):
            value = getattr(obj, field.name)
            if value is not None:
                tree[field.name] = self._value(field.shape, value, depth)
            elif field.default is not None:
                tree[field.name] = None
        return tree

    def _value(self, shape: Shape, value: Any, depth: int) -> Any:
        match shape:
            case Choice():
                return value.value
            case Hidden():
                return self._secret(value)
            case Nested():
                return self.object(value, depth + 1)
            case Many(item, container):
                items = sorted(value) if container is frozenset else value
                return [self._value(item, each, depth) for each in items]
            case Keyed(item):
                return {key: self._value(item, each, depth) for key, each in value.items()}
            case DetailMap():
                return {k: self._secret(v) if isinstance(v, Secret) else v for k, v in value.items()}
            case _:
                return value

    def _secret(self, secret: Secret) -> dict[str, str]:
        return {"$revealed": secret.reveal()} if self._reveal else dict(REDACTED)
