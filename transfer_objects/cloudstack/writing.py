"""From Bollard's JSON to CloudStack's, tree to tree; the reverse of `reading`."""

from __future__ import annotations

from typing import Any

from ..base import TransferObject
from ..errors import DecodeError, did_you_mean, shown
from ..rules import ID
from ..shapes import Choice, DetailMap, Hidden, Keyed, Many, Nested, Shape, Text, check
from . import ids, kept, scalars
from .names import WireClass, classes_by_short_name, wire_class
from .reading import UNKNOWN


def write_keyed(tree: Any) -> dict[str, Any]:
    """Translate a native object to `{"<class>": {…}}`.

    Raises:
        DecodeError: with the path below `tree`, in native names.
    """
    known = classes_by_short_name()
    tag = _object(tree).get("type")
    if tag == UNKNOWN:
        return _write_unknown(tree)
    if not isinstance(tag, str) or tag not in known:
        raise DecodeError("is no class that may stand here", "type", did_you_mean(str(tag), known))
    return {wire_class(known[tag]).name: write_body(known[tag], tree)}


def write_body(cls: type[TransferObject], tree: Any) -> dict[str, Any]:
    """Translate a native object of class `cls` to its bare fields.

    Raises:
        DecodeError: with the path below `tree`, in native names.
    """
    if _object(tree).get("type") != cls.__name__:
        raise DecodeError(f"must be {cls.__name__}", "type")
    entry = wire_class(cls)
    body: dict[str, Any] = {}
    for key, value in tree.items():
        if key == "type" or (value is None and not key.startswith(kept.PREFIX)):
            continue
        try:
            _write_field(entry, key, value, body)
        except DecodeError as error:
            error.within(shown(key))
            raise
    return body


def _write_unknown(tree: dict[str, Any]) -> dict[str, Any]:
    name = tree.get("class")
    if not isinstance(name, str) or "." not in name:
        raise DecodeError("must be the whole name of a class, with its package", "class")
    body: dict[str, Any] = {}
    for key, value in tree.items():
        if key not in ("type", "class"):
            _write_kept(key, value, body)
    return {name: body}


def _write_field(entry: WireClass, key: str, value: Any, body: dict[str, Any]) -> None:
    field = entry.by_native.get(key)
    if field is None:
        _write_kept(key, value, body, hints=entry.by_native)
    elif not (isinstance(field.native.shape, Hidden) and kept.is_redacted(value)):
        found = _value(field.native.shape, value)
        body[field.wire] = scalars.bytes_of_text(found) if field.is_bytes else found


def _write_kept(key: str, value: Any, body: dict[str, Any], hints: Any = ()) -> None:
    if not key.startswith(kept.PREFIX):
        raise DecodeError("unknown key", hint=did_you_mean(key, ("type", *hints)))
    if not kept.is_redacted(value):
        body[key[len(kept.PREFIX) :]] = kept.restore(value)


def _value(shape: Shape, value: Any) -> Any:
    match shape:
        case Choice(enum):
            if scalars.string(value) not in list(enum):
                raise enum.unknown(value)
            return value
        case Hidden():
            return kept.revealed(value)
        case Nested(classes):
            return write_body(classes[0], value) if len(classes) == 1 else _wrapped(value, classes)
        case Many(item):
            return _many(item, value)
        case Keyed(item):
            return {key: _below(shown(key), item, each) for key, each in _object(value).items()}
        case DetailMap():
            return _details(value)
        case _:
            check(shape, value)
            return (ids.wire_id(value) or value) if shape == Text(ID) else value


def _wrapped(tree: Any, classes: tuple[type[TransferObject], ...]) -> dict[str, Any]:
    names = {cls.__name__ for cls in classes}
    if isinstance(tree, dict) and tree.get("type") not in {UNKNOWN, *names}:
        raise DecodeError(
            "is no class that may stand here", "type", did_you_mean(str(tree.get("type")), names)
        )
    return write_keyed(tree)


def _many(item: Shape, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise DecodeError(f"must be a list, not {scalars.json_type(value)}")
    return [_below(f"[{index}]", item, each) for index, each in enumerate(value)]


def _below(step: str, shape: Shape, value: Any) -> Any:
    try:
        return _value(shape, value)
    except DecodeError as error:
        error.within(step)
        raise


def _details(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in _object(value).items():
        try:
            if key.startswith(kept.PREFIX):
                _write_kept(key, item, found)
            elif not kept.is_redacted(item):
                found[key] = kept.revealed(item) if isinstance(item, dict) else scalars.string(item)
        except DecodeError as error:
            error.within(shown(key))
            raise
    return found


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DecodeError(f"must be an object, not {scalars.json_type(value)}")
    return value
