"""A payload as a table: a row per field, secrets hidden."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from ..base import TransferObject
from ..rules import RULES
from ..shapes import Choice, DetailMap, Flag, Hidden, Keyed, Many, Nested, Number, Shape, Text
from . import ids, kept, scalars
from .meanings import meaning
from .names import classes_by_short_name, wire_class
from .reading import UNKNOWN

_HIDDEN = "***"
# A value is shown to be recognised; the whole one is what `decode` is for.
_MAX_SHOWN = 120


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One field of a payload.

    Attributes:
        wire: path in CloudStack's names, classes by their last part.
        native: path in ours; empty for what is kept as it is.
        depth: objects around it.
    """

    wire: str
    native: str
    depth: int
    type: str
    meaning: str
    value: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Place:
    wire: str
    native: str
    depth: int = 0

    def below(self, wire: str, native: str) -> _Place:
        dot = "." if self.native and not native.startswith("[") else ""
        return _Place(f"{self.wire}{dot}{wire}", f"{self.native}{dot}{native}", self.depth + 1)


def rows_of(tree: dict[str, Any], place: str = "") -> Iterator[Row]:
    """Yield the rows of one object of a payload.

    Args:
        tree: native, with its kept fields.
        place: e.g. "[0]"; put before each path.
    """
    yield from _object(tree, _Place(place, place), "")


def _object(tree: dict[str, Any], place: _Place, what: str) -> Iterator[Row]:
    if tree["type"] == UNKNOWN:
        yield Row(
            place.wire,
            place.native,
            place.depth,
            tree["class"],
            "class unknown to Bollard, kept as it is",
            "",
        )
        yield from (_kept(None, key, value, place) for key, value in tree.items() if key[0] == "$")
        return
    cls = classes_by_short_name()[tree["type"]]
    yield Row(place.wire, place.native, place.depth, wire_class(cls).name.rpartition(".")[2], what, "")
    for key, value in tree.items():
        if key.startswith(kept.PREFIX):
            yield _kept(cls, key, value, place)
        elif key != "type" and value is not None:
            field = wire_class(cls).by_native[key]
            yield from _field(field.native.shape, value, place.below(field.wire, key), meaning(cls, key))


def _field(shape: Shape, value: Any, place: _Place, what: str) -> Iterator[Row]:
    match shape:
        case Nested():
            yield from _object(value, place, what)
        case Many(Nested() as item):
            for index, each in enumerate(value):
                yield from _field(item, each, place.below(f"[{index}]", f"[{index}]"), what)
        case Keyed(item):
            for key, each in value.items():
                yield from _field(item, each, place.below(key, key), what)
        case _:
            yield Row(place.wire, place.native, place.depth, _type(shape), what, _value(shape, value))


def _kept(cls: type[TransferObject] | None, key: str, value: Any, place: _Place) -> Row:
    wire = key.removeprefix(kept.PREFIX)
    field = wire_class(cls).by_wire.get(wire) if cls else None
    at = place.below(wire, wire)
    if cls and field:
        what = f"{meaning(cls, field.native.name)}; kept as it is, for it breaks a rule of Bollard's"
        return Row(at.wire, "", at.depth, _type(field.native.shape), what, _shown(value))
    return Row(
        at.wire, "", at.depth, scalars.json_type(value), "unknown to Bollard, kept as it is", _shown(value)
    )


def _type(shape: Shape) -> str:
    match shape:
        case Text(rule):
            return next((name.lower() for name, known in RULES.items() if known is rule), "text")
        case Choice(enum):
            return enum.__name__
        case Many(item):
            return f"list of {_type(item)}"
        case _:
            names = {Number: "integer", Flag: "boolean", Hidden: "secret", DetailMap: "map"}
            return names.get(type(shape), "object")


def _value(shape: Shape, value: Any) -> str:
    if isinstance(shape, Text) and isinstance(value, str):
        date = scalars.s3_date(value) if value[-1:].upper() == "M" else None
        return _shown(f"{value} ({date.isoformat()})" if date else ids.wire_id(value) or value)
    return _shown(value)


def _shown(value: Any) -> str:
    plain = _without_secrets(value)
    text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _without_secrets(value: Any) -> Any:
    match value:
        case dict():
            if kept.is_secret(value):
                return _HIDDEN
            return {key.removeprefix(kept.PREFIX): _without_secrets(item) for key, item in value.items()}
        case list():
            return [_without_secrets(item) for item in value]
        case _:
            return value
