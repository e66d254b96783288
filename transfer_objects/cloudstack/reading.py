"""From CloudStack's JSON to Bollard's, tree to tree, field by field.

What is absent stays absent and what is unknown stays in its place, so `writing` can give back the same value.
A value of the wrong JSON type is refused. One of the right type that breaks a rule of Bollard's (a name with
a slash, an enum's word of a later release) is kept as it is; `typed` says what that means for who acts on it.
"""

from __future__ import annotations

from typing import Any

from ..base import TransferObject
from ..errors import DecodeError
from ..rules import ID, LABEL, TEXT, TextRule
from ..shapes import Choice, DetailMap, Flag, Hidden, Keyed, Many, Nested, Number, Shape, Text
from . import ids, kept, scalars, text
from .names import WireField, classes_by_java_name, wire_class

# `type` of an object whose class Bollard does not know; its `class` is CloudStack's name.
UNKNOWN = "WireObject"


class _Unfit(Exception):
    """The value is of the right type, but Bollard's form cannot hold it."""


def read_keyed(tree: Any, allowed: tuple[type[TransferObject], ...] = ()) -> dict[str, Any]:
    """Translate `{"<class>": {…}}`.

    Args:
        tree: what a JSON parser made.
        allowed: refuse other known classes; empty allows all.

    Raises:
        DecodeError: with the path below `tree`.
    """
    if not isinstance(tree, dict) or len(tree) != 1:
        raise DecodeError(f"must be an object with one key, its class, not {_described(tree)}")
    [(name, body)] = tree.items()
    try:
        cls = classes_by_java_name().get(name)
        if cls is None:
            return _read_unknown(name, body)
        if allowed and cls not in allowed:
            raise DecodeError(f"must be {' or '.join(c.__name__ for c in allowed)}, not {cls.__name__}")
        return read_body(cls, body)
    except DecodeError as error:
        error.within(text.key_path(name))
        raise


def read_body(cls: type[TransferObject], body: Any) -> dict[str, Any]:
    """Translate the fields of an object whose class is known.

    Raises:
        DecodeError: with the path below `body`.
    """
    known = wire_class(cls).by_wire
    tree: dict[str, Any] = {"type": cls.__name__}
    for key, value in _object(body).items():
        if key not in known:
            tree[kept.PREFIX + key] = kept.keep(key, value)
        elif value is not None:
            tree.update(_field(known[key], value))
    return tree


def _read_unknown(name: str, body: Any) -> dict[str, Any]:
    if "." not in name:
        raise DecodeError("must be the whole name of a class, with its package")
    fields = {kept.PREFIX + key: kept.keep(key, value) for key, value in _object(body).items()}
    return {"type": UNKNOWN, "class": name, **fields}


def _field(field: WireField, value: Any) -> dict[str, Any]:
    name, wire = field.native.name, field.wire
    try:
        found: Any = _passphrase(value) if field.is_bytes else _value(field.native.shape, value)
    except _Unfit:
        return {kept.PREFIX + wire: _as_it_is(field, value)}
    except DecodeError as error:
        error.within(text.key_path(wire))
        raise
    hashed = field.native.shape == Text(ID) and ids.wire_id(found) is None
    return {name: found} | ({kept.PREFIX + wire: value} if hashed else {})


def _as_it_is(field: WireField, value: Any) -> Any:
    match field.native.shape:
        case Number():
            return scalars.integer(value)  # may be a log's
        case Hidden():
            return kept.keep("secret", value)
        case _:
            return kept.keep(field.wire, value)


def _value(shape: Shape, value: Any) -> Any:
    match shape:
        case Text(rule):
            return _text(rule, scalars.string(value))
        case Number(rule):
            return _fit(rule.problem(number := scalars.integer(value)), number)
        case Flag():
            return scalars.boolean(value)
        case Choice(enum):
            word = scalars.string(value)
            return _fit(None if word in list(enum) else "unknown word", word)
        case Hidden():
            return kept.reveal(_fit(TEXT.problem(secret := scalars.string(value)), secret))
        case Nested(classes):
            return read_body(classes[0], value) if len(classes) == 1 else read_keyed(value, classes)
        case Many(item):
            return _many(item, value)
        case Keyed(item):
            return {_key(key): _below(text.key_path(key), item, each) for key, each in _object(value).items()}
        case DetailMap():
            return _details(value)


def _text(rule: TextRule, value: str) -> str:
    if rule is ID and value:
        return ids.native_id(value)
    return str(_fit(rule.problem(value), value))


def _fit(problem: str | None, value: Any) -> Any:
    if problem:
        raise _Unfit(problem)
    return value


def _passphrase(value: Any) -> dict[str, str]:
    secret = scalars.text_of_bytes(value)
    if secret is None or TEXT.problem(secret):
        raise _Unfit("no text")
    return kept.reveal(secret)


def _many(item: Shape, value: Any) -> list[Any]:
    if type(value) is not list:
        raise DecodeError(f"must be a list, not {scalars.json_type(value)}")
    return [_below(f"[{index}]", item, each) for index, each in enumerate(value)]


def _below(step: str, shape: Shape, value: Any) -> Any:
    if value is None:
        raise _Unfit("null")
    try:
        return _value(shape, value)
    except DecodeError as error:
        error.within(step)
        raise


def _details(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in _object(value).items():
        if key.startswith("$") or LABEL.problem(key) or type(item) is not str or TEXT.problem(item):
            found[kept.PREFIX + key] = kept.keep(key, item)
        else:
            hide = kept.keep(key, item) != item
            found[key] = kept.reveal(item) if hide else item
    return found


def _key(key: str) -> str:
    return str(_fit("not a label" if key.startswith("$") else LABEL.problem(key), key))


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DecodeError(f"must be an object, not {scalars.json_type(value)}")
    return value


def _described(tree: Any) -> str:
    return f"one with {len(tree)} keys" if isinstance(tree, dict) else scalars.json_type(tree)
