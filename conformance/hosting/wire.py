"""The SPI's values as JSON and back, equal to what they were.

    "text", 1, 1.5, true, null, [list]        themselves
    {"$": "Volume", "v": [field, …]}          a dataclass of the SPI, its fields in order
    {"$": "ExtentKind", "v": "data"}          an enum of the SPI
    {"$": "map", "v": [[key, value], …]}      tuple, set, bytes, Path, datetime, Secret … alike

What is no value (a call's context, a body, a guest) is lent: `lend` puts something in its place here,
`borrow` makes something of that over there. A Secret is in plain on this wire, which is a socketpair of
two processes; nobody logs frames.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any

from ...core import spi
from ...core.spi import Body, Call
from ...transfer_objects.secret import Secret

Json = Any
Lend = Callable[[object], Json | None]
Borrow = Callable[[str, Json], Any]


class NotCarried(Exception):
    """A value cannot be passed between suite and driver host: it is nothing that the SPI speaks of."""


_SPI: Mapping[str, type] = {
    name: cls
    for name in spi.__all__
    if isinstance(cls := getattr(spi, name), type)
    and (dataclasses.is_dataclass(cls) or issubclass(cls, Enum))
    and cls not in (Body, Call)
}
_FIELDS: Mapping[type, tuple[str, ...]] = {
    cls: tuple(f.name for f in dataclasses.fields(cls))
    for cls in _SPI.values()
    if dataclasses.is_dataclass(cls)
}
_PLAIN = (type(None), bool, int, float, str)


def _lend_nothing(value: object) -> Json | None:  # noqa: ARG001 - the default of `lend`
    return None


def _borrow_nothing(tag: str, _: Json) -> Any:
    raise NotCarried(f"a value of the unknown kind {tag!r}")


def encode(value: object, lend: Lend = _lend_nothing) -> Json:
    """Return `value` as JSON.

    Args:
        value: a value of the SPI.
        lend: is asked about every other object; returns what stands for it, or None.

    Raises:
        NotCarried: naming the type that is not of the SPI.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list:
        return [encode(v, lend) for v in value]  # type: ignore[attr-defined]  # mypy does not narrow by `kind`
    if kind in _FIELDS:
        return _encode_fields(kind, value, lend)
    for known, encoder in _ENCODERS:
        if isinstance(value, known):
            return encoder(value, lend)
    base = next((c for c in kind.__mro__ if c in _FIELDS), None)
    if base is not None:
        return _encode_fields(base, value, lend)  # a vendor's subclass goes as what the SPI says of it
    lent = lend(value)
    if lent is None:
        raise NotCarried(f"a value of the type {kind.__module__}.{kind.__qualname__}")
    return lent


def _encode_fields(cls: type, value: object, lend: Lend) -> Json:
    try:
        return {"$": cls.__name__, "v": [encode(getattr(value, name), lend) for name in _FIELDS[cls]]}
    except AttributeError as error:
        raise NotCarried(f"a {cls.__name__} without {error.name!r}") from error


def _tagged(tag: str, plain: Callable[[Any], Json]) -> Callable[[Any, Lend], Json]:
    return lambda value, _: {"$": tag, "v": plain(value)}


def _items(tag: str) -> Callable[[Any, Lend], Json]:
    return lambda value, lend: {"$": tag, "v": [encode(v, lend) for v in value]}


def _encode_enum(value: Enum, lend: Lend) -> Json:
    if _SPI.get(type(value).__name__) is type(value):
        return {"$": type(value).__name__, "v": value.value}
    return encode(value.value, lend)


def _encode_map(value: Mapping[Any, Any], lend: Lend) -> Json:
    tag = "mappingproxy" if isinstance(value, MappingProxyType) else "map"
    return {"$": tag, "v": [[encode(k, lend), encode(v, lend)] for k, v in value.items()]}


def _base64(data: bytes | bytearray) -> str:
    return base64.b64encode(data).decode("ascii")


# In this order: an enum may be a str, a str may be a subclass.
_ENCODERS: tuple[tuple[type, Callable[[Any, Lend], Json]], ...] = (
    (Enum, _encode_enum),
    (str, lambda value, _: str.__str__(value)),
    (int, lambda value, _: int.__index__(value)),
    (float, lambda value, _: float.__pos__(value)),
    (list, lambda value, lend: [encode(v, lend) for v in value]),
    (tuple, _items("tuple")),
    (frozenset, _items("frozenset")),
    (set, _items("set")),
    (bytes, _tagged("bytes", _base64)),
    (bytearray, _tagged("bytearray", _base64)),
    (Mapping, _encode_map),
    (PurePath, _tagged("Path", str)),
    (datetime, _tagged("datetime", datetime.isoformat)),
    (Secret, _tagged("Secret", Secret.reveal)),
)


def decode(data: Json, borrow: Borrow = _borrow_nothing) -> Any:
    """Return the value that `encode` was given.

    Raises:
        NotCarried: it is of a kind that neither this side nor `borrow` knows.
    """
    if isinstance(data, list):
        return [decode(v, borrow) for v in data]
    if not isinstance(data, dict):
        return data
    tag, value = data["$"], data["v"]
    if (cls := _SPI.get(tag)) is not None:
        names = _FIELDS.get(cls)
        if names is None:
            return cls(value)
        return cls(**dict(zip(names, [decode(v, borrow) for v in value], strict=True)))
    decoder = _DECODERS.get(tag)
    return borrow(tag, value) if decoder is None else decoder(value, borrow)


def _collect(collection: Callable[[Any], Any]) -> Callable[[Json, Borrow], Any]:
    return lambda value, borrow: collection(decode(v, borrow) for v in value)


def _decode_map(value: Json, borrow: Borrow) -> dict[Any, Any]:
    return {decode(k, borrow): decode(v, borrow) for k, v in value}


_DECODERS: Mapping[str, Callable[[Json, Borrow], Any]] = {
    "tuple": _collect(tuple),
    "frozenset": _collect(frozenset),
    "set": _collect(set),
    "bytes": lambda value, _: base64.b64decode(value),
    "bytearray": lambda value, _: bytearray(base64.b64decode(value)),
    "map": _decode_map,
    "mappingproxy": lambda value, borrow: MappingProxyType(_decode_map(value, borrow)),
    "Path": lambda value, _: Path(value),
    "datetime": lambda value, _: datetime.fromisoformat(value),
    "Secret": lambda value, _: Secret(value),
}
