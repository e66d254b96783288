"""What the annotations of a transfer object say, as a small tree; constructors, codec and schema walk it.

    size: Annotated[int, COUNT] | None   ->  FieldShape("size", Number(COUNT), nullable=True)
    parents: tuple[Path, ...]            ->  FieldShape("parents", Many(Text(PATH), tuple))
    data_store: DataStoreTO | None       ->  FieldShape("data_store", Nested((NfsTO, S3TO, …)), nullable=True)

The tree of a class is built when its first instance is, not at import.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeAlias

from .enums import WireEnum
from .errors import DecodeError, shown
from .rules import LABEL, SECRET_DETAIL_KEY, TEXT, IntRule, TextRule
from .secret import Secret


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """A string under a rule."""

    rule: TextRule


@dataclasses.dataclass(frozen=True, slots=True)
class Number:
    """An integer under a rule; there are no fractions in transfer objects."""

    rule: IntRule


@dataclasses.dataclass(frozen=True, slots=True)
class Flag:
    """A boolean."""


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """A member of an enum."""

    enum: type[WireEnum]


@dataclasses.dataclass(frozen=True, slots=True)
class Hidden:
    """A `Secret`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Nested:
    """A transfer object of one of these classes."""

    classes: tuple[type[Any], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Many:
    """An ordered tuple or a frozenset of `item`."""

    item: Shape
    container: type[Any]


@dataclasses.dataclass(frozen=True, slots=True)
class DetailMap:
    """`details`: text or `Secret` by key."""


@dataclasses.dataclass(frozen=True, slots=True)
class Keyed:
    """`item` by free text keys, which obey the rule of labels."""

    item: Shape


Shape: TypeAlias = Text | Number | Flag | Choice | Hidden | Nested | Many | DetailMap | Keyed

_UNIONS = (typing.Union, types.UnionType)

# Two threads may fill in the same class at once: both write equal tuples.
_known: dict[type, tuple[FieldShape, ...]] = {}


@dataclasses.dataclass(frozen=True, slots=True)
class FieldShape:
    """One field; `default` is `dataclasses.MISSING` where the field is required."""

    name: str
    shape: Shape
    nullable: bool
    default: Any

    @property
    def required(self) -> bool:
        """True if the constructor and a document must give the field."""
        return self.default is dataclasses.MISSING

    def is_default(self, value: Any) -> bool:
        """True for the default itself, which needs no check (and for a store's uuid would not pass one)."""
        return type(value) is type(self.default) and bool(value == self.default)


def fields_of(cls: type) -> tuple[FieldShape, ...]:
    """Return the fields of a transfer object class, in order."""
    if cls not in _known:
        hints = typing.get_type_hints(cls, include_extras=True)
        _known[cls] = tuple(_field(field, hints[field.name]) for field in dataclasses.fields(cls))
    return _known[cls]


def _field(field: dataclasses.Field[Any], hint: Any) -> FieldShape:
    arms = _arms(hint)
    kept = tuple(arm for arm in arms if arm is not type(None))
    shape = _shape(kept[0]) if len(kept) == 1 else Nested(kept)
    return FieldShape(field.name, shape, len(kept) < len(arms), field.default)


def _arms(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in _UNIONS else (hint,)


def _shape(hint: Any) -> Shape:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in _UNIONS:
        return Nested(args)
    if origin is typing.Annotated:
        rule = args[1]
        return Text(rule) if isinstance(rule, TextRule) else Number(rule)
    if origin in (tuple, frozenset):
        return Many(_shape(args[0]), origin)
    if origin is Mapping:
        return DetailMap() if args[1] == str | Secret else Keyed(_shape(args[1]))
    if hint is bool:
        return Flag()
    if hint is Secret:
        return Hidden()
    return Choice(hint) if issubclass(hint, WireEnum) else Nested((hint,))


def check(shape: Shape, value: Any) -> None:
    """Refuse a Python value that does not fit.

    Raises:
        DecodeError: with the path below this value.
    """
    match shape:
        case Text(rule):
            _need(type(value) is str, "must be a string", value)
            _obey(rule.problem(value))
        case Number(rule):
            _need(type(value) is int, "must be an integer", value)
            _obey(rule.problem(value))
        case Flag():
            _need(type(value) is bool, "must be true or false", value)
        case Choice(enum):
            _need(type(value) is enum, f"must be a {enum.__name__}", value)
        case Hidden():
            _need(type(value) is Secret, "must be a Secret", value)
            _obey(TEXT.problem(value.reveal()))
        case Nested(classes):
            _need(type(value) in classes, f"must be {' or '.join(c.__name__ for c in classes)}", value)
        case Many():
            _check_many(shape, value)
        case Keyed(item):
            _check_keyed(item, value)
        case _:  # DetailMap
            _check_details(value)


def is_secret_detail(key: str) -> bool:
    """Tell whether the value of this `details` key must be a `Secret`, judged by the end of its name."""
    return re.search(SECRET_DETAIL_KEY, key) is not None


def _check_many(shape: Many, value: Any) -> None:
    _need(type(value) is shape.container, f"must be a {shape.container.__name__}", value)
    for index, item in enumerate(value):
        try:
            check(shape.item, item)
        except DecodeError as error:
            error.within(f"[{index}]")
            raise


def _check_keyed(shape: Shape, value: Any) -> None:
    _need(isinstance(value, Mapping), "must be a mapping", value)
    for key, item in value.items():
        check(Text(LABEL), key)
        try:
            check(shape, item)
        except DecodeError as error:
            error.within(shown(key))
            raise


def _check_details(value: Any) -> None:
    _need(isinstance(value, Mapping), "must be a mapping", value)
    for key, item in value.items():
        check(Text(LABEL), key)
        try:
            secret = isinstance(item, Secret) or is_secret_detail(key)
            check(Hidden() if secret else Text(TEXT), item)
        except DecodeError as error:
            error.within(shown(key))
            raise


def _need(fits: bool, rule: str, value: Any) -> None:  # noqa: FBT001 - reads as "need that …"
    if not fits:
        raise DecodeError(f"{rule}, not {type(value).__name__}")


def _obey(problem: str | None) -> None:
    if problem:
        raise DecodeError(problem)
