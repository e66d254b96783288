"""Objects to act upon: from a native tree to a command or transfer object of Bollard's, and back.

The tree may hold what no object of ours can. What nobody knows is left out, as a Java peer leaves it out.
What *is* known and breaks a rule (a path with "..") is refused: an object without it would be another object.
"""

from __future__ import annotations

from typing import Any

from ..base import TransferObject
from ..errors import DecodeError, shown
from ..native import decode_tree, encode_tree
from ..shapes import DetailMap, Keyed, Many, Nested, Number, Shape, Text
from . import kept
from .names import ALIASES, FOR_PEOPLE, WireClass, classes_by_short_name, wire_class
from .reading import UNKNOWN


def to_object(tree: dict[str, Any]) -> TransferObject:
    """Return the object that a native tree with kept fields describes.

    Raises:
        DecodeError: for a class that Bollard does not know, and for known fields that break its rules.
    """
    strict = _strict(tree)
    return decode_tree(strict, classes_by_short_name()[strict["type"]])


def to_tree(obj: TransferObject) -> dict[str, Any]:
    """Return an object as a native tree, with its secrets."""
    return encode_tree(obj, reveal_secrets=True)


def _strict(tree: dict[str, Any]) -> dict[str, Any]:
    if tree["type"] == UNKNOWN:
        raise DecodeError(f"is of a class that Bollard does not know: {shown(tree['class'])}")
    entry = wire_class(classes_by_short_name()[tree["type"]])
    found: dict[str, Any] = {"type": tree["type"]}
    for key, value in tree.items():
        wire = key.removeprefix(kept.PREFIX)
        try:
            if wire != key:
                found.update(_known(entry, wire, value, tree))
            elif key != "type" and value is not None:
                found[key] = _below(entry.by_native[key].native.shape, value)
        except DecodeError as error:
            error.within(shown(wire))
            raise
    return found


def _below(shape: Shape, value: Any) -> Any:
    match shape:
        case Nested():
            return _strict(value)
        case Many(item):
            return [_step(f"[{index}]", item, each) for index, each in enumerate(value)]
        case Keyed(item):
            return {key: _step(shown(key), item, each) for key, each in value.items()}
        case DetailMap():
            odd = [key for key in value if key.startswith(kept.PREFIX)]
            if odd:
                raise DecodeError("must be text under a plain key", shown(odd[0].removeprefix(kept.PREFIX)))
            return value
        case _:
            return value


def _step(step: str, shape: Shape, value: Any) -> Any:
    try:
        return _below(shape, value)
    except DecodeError as error:
        error.within(step)
        raise


def _known(entry: WireClass, wire: str, value: Any, tree: dict[str, Any]) -> dict[str, Any]:
    """Return what an object takes of a kept field: nothing, unless it is an alias."""
    alias = ALIASES.get(entry.cls, {}).get(wire)
    if alias:
        return {} if alias in tree else {alias: value}
    field = entry.by_wire.get(wire)
    if field is None or field.native.name in tree or field.native.name in FOR_PEOPLE:
        return {}
    raise DecodeError(_broken_rule(field.native.shape, value))


def _broken_rule(shape: Shape, value: Any) -> str:
    match shape, value:
        case Text(rule), str():
            problem = rule.problem(value)
        case Number(rule), int():
            problem = rule.problem(value)
        case _:
            problem = None
    return problem or "holds what Bollard does not know, or what its rules refuse"
