"""Hypothesis strategies for CloudStack's JSON, made from the table of its fields.

`bodies(cls)` are rude: any text, number or enum's word that Java could write, and unknown fields. With
`polite=True` they obey Bollard's rules, so that an object can be made of them.
"""

from __future__ import annotations

import functools
from typing import Any

from hypothesis import strategies as st

from bollard.transfer_objects.base import TransferObject
from bollard.transfer_objects.cloudstack.names import WireField, classes_by_java_name, wire_class
from bollard.transfer_objects.rules import URL
from bollard.transfer_objects.shapes import (
    Choice,
    DetailMap,
    Flag,
    Keyed,
    Many,
    Nested,
    Number,
    Shape,
    Text,
)

CLASSES = sorted(classes_by_java_name().values(), key=lambda cls: cls.__name__)
WORDS = st.from_regex(r"[a-z0-9]{1,12}", fullmatch=True)
TEXTS = st.text(max_size=12) | st.sampled_from(
    ["SolidFire_5F", "com.vendor-1", "a/../b", "cs--x", "$secret", "cifs://h/s?password=x"]
)
LONGS = st.integers(-(2**63), 2**63 - 1)
KEYS = st.text(max_size=8) | st.sampled_from(["$secret", "$wire.a", "password", "type", "class"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | LONGS | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=5,
)

_made: dict[tuple[type, bool, int], st.SearchStrategy[Any]] = {}


def values(shape: Shape, *, polite: bool, depth: int) -> st.SearchStrategy[Any]:
    """Return what a field of this shape may hold on the wire."""
    below = functools.partial(values, polite=polite, depth=depth)
    match shape:
        case Nested(classes):
            if len(classes) == 1:
                return bodies(classes[0], polite=polite, depth=depth + 1)
            return st.one_of([keyed(cls, polite=polite, depth=depth + 1) for cls in classes])
        case Many(item, container):
            if container is frozenset and polite:
                return st.lists(below(item), max_size=2, unique=True).map(sorted)
            return st.lists(below(item), max_size=2)
        case Keyed(item):
            return st.dictionaries(WORDS if polite else KEYS, below(item), max_size=2)
        case DetailMap():
            return st.dictionaries(*((WORDS, WORDS) if polite else (KEYS, TEXTS)), max_size=2)
        case _:
            return _polite(shape) if polite else _rude(shape)


def _polite(shape: Shape) -> st.SearchStrategy[Any]:
    match shape:
        case Number(rule):
            return st.integers(rule.minimum, rule.maximum)
        case Flag():
            return st.booleans()
        case Choice(enum):
            return st.sampled_from([member.value for member in enum])
        case Text(rule) if rule is URL:
            return WORDS.map("nfs://h/{}".format)
        case _:  # Text, Hidden
            return WORDS


def _rude(shape: Shape) -> st.SearchStrategy[Any]:
    match shape:
        case Number():
            return LONGS
        case Flag():
            return st.booleans()
        case Choice():
            return _polite(shape) | TEXTS
        case _:  # Text, Hidden
            return TEXTS


def _field(field: WireField, *, polite: bool, depth: int) -> st.SearchStrategy[Any]:
    if field.is_bytes:
        return st.lists(st.integers(1 if polite else -128, 127), max_size=4)
    return values(field.native.shape, polite=polite, depth=depth)


def _is_deep(field: WireField) -> bool:
    shape = field.native.shape
    return isinstance(shape, Nested) or (isinstance(shape, Many | Keyed) and isinstance(shape.item, Nested))


def bodies(cls: type[TransferObject], *, polite: bool = False, depth: int = 0) -> st.SearchStrategy[Any]:
    """Return bodies of a class with a few of its fields; made once, for making them is most of the time."""
    key = (cls, polite, depth)
    if key not in _made:
        _made[key] = _bodies(cls, polite=polite, depth=depth)
    return _made[key]


def _bodies(cls: type[TransferObject], *, polite: bool, depth: int) -> st.SearchStrategy[Any]:
    fields = wire_class(cls).by_wire
    needed = {f.wire for f in fields.values() if f.native.required or f.native.name in cls.identified_by}
    shallow = {wire: field for wire, field in fields.items() if depth < 2 or not _is_deep(field)}
    made = {
        wire: _field(field, polite=polite, depth=depth)
        for wire, field in fields.items()
        if wire in shallow or (polite and wire in needed)
    }
    always = needed if polite else set()
    some = st.sets(st.sampled_from(sorted(made)), max_size=5).map(lambda names: names | (always & set(made)))
    known = some.flatmap(lambda names: st.fixed_dictionaries({name: made[name] for name in sorted(names)}))
    if polite:
        return known
    strange = st.dictionaries(st.text(max_size=6).filter(lambda key: key not in fields), ANYTHING, max_size=2)
    return st.builds(lambda a, b: a | b, known, strange)


def keyed(cls: type[TransferObject], *, polite: bool = False, depth: int = 0) -> st.SearchStrategy[Any]:
    """Return `{"<class>": {…}}`."""
    return bodies(cls, polite=polite, depth=depth).map(lambda body: {wire_class(cls).name: body})
