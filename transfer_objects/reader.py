"""From parsed JSON to transfer objects: everything that a document may not be is refused here.

Each level puts its own name before the path of an error that passes it, so the path is built only when
something is wrong.
"""

from __future__ import annotations

from typing import Any

from .base import TransferObject
from .details import Details
from .errors import DecodeError, did_you_mean, shown
from .objects import (
    DiskTO,
    MigrationOptions,
    SnapshotObjectTO,
    TemplateObjectTO,
    VMSnapshotTO,
    VolumeObjectTO,
)
from .secret import Secret
from .shapes import Choice, DetailMap, FieldShape, Hidden, Keyed, Many, Nested, Shape, check, fields_of
from .stores import S3TO, ImageStoreTO, NfsTO, PrimaryDataStoreTO, SwiftTO

TRANSFER_OBJECTS: tuple[type[TransferObject], ...] = (
    NfsTO,
    SwiftTO,
    S3TO,
    PrimaryDataStoreTO,
    ImageStoreTO,
    VolumeObjectTO,
    SnapshotObjectTO,
    TemplateObjectTO,
    VMSnapshotTO,
    DiskTO,
    MigrationOptions,
)

# Objects within objects. CloudStack permits 10 VM snapshots in a chain by default, each holding volumes that
# hold stores; deeper documents are somebody's attempt at the interpreter's stack.
MAX_DEPTH = 40

REDACTED = {"$secret": "redacted"}


class Repeated(dict[str, Any]):
    """A JSON object in which `key` stands twice; refused where it is used, since there the path is known."""

    key: str


def too_deep() -> DecodeError:
    """Return the error for a document with more than `MAX_DEPTH` levels."""
    return DecodeError(f"must not be nested deeper than {MAX_DEPTH} objects")


def read_root(tree: Any, expected: type[TransferObject] | None) -> TransferObject:
    """Build the object that `tree` describes, of class `expected` or of any.

    Raises:
        DecodeError: with the path from here.
    """
    return _read_object(tree, (expected,) if expected else TRANSFER_OBJECTS, 1)


def _read_object(tree: Any, classes: tuple[type[TransferObject], ...], depth: int) -> TransferObject:
    if depth > MAX_DEPTH:
        raise too_deep()
    cls = _read_class(_as_dict(tree), classes)
    fields = {field.name: field for field in fields_of(cls)}
    values = {}
    for key, value in tree.items():
        if key == "type":
            continue
        if key not in fields:
            raise DecodeError("unknown key", shown(key), did_you_mean(key, ("type", *fields)))
        values[key] = _read_field(fields[key], value, depth)
    for name, field in fields.items():
        if field.required and name not in values:
            raise DecodeError("is missing", name)
    return cls(**values)


def _read_class(tree: dict[str, Any], classes: tuple[type[TransferObject], ...]) -> type[TransferObject]:
    by_name = {cls.__name__: cls for cls in classes}
    if "type" not in tree:
        raise DecodeError("is missing", "type", f"valid are: {', '.join(by_name)}")
    tag = tree["type"]
    if not isinstance(tag, str) or tag not in by_name:
        raise DecodeError("is no class that may stand here", "type", did_you_mean(str(tag), by_name))
    return by_name[tag]


def _read_field(field: FieldShape, value: Any, depth: int) -> Any:
    try:
        if value is None and field.nullable:
            return None
        if field.nullable and isinstance(field.shape, Hidden) and _is_redacted(value):
            return None
        return _read(field.shape, value, depth)
    except DecodeError as error:
        error.within(field.name)
        raise


def _read(shape: Shape, value: Any, depth: int) -> Any:
    match shape:
        case Choice(enum):
            _need_type(value, str, "must be a string")
            if value not in list(enum):
                raise enum.unknown(value)
            return enum(value)
        case Hidden():
            return _read_secret(value)
        case Nested(classes):
            return _read_object(value, classes, depth + 1)
        case Many():
            return _read_many(shape, value, depth)
        case DetailMap():
            return _read_details(value)
        case Keyed(item):
            return _read_keyed(item, value, depth)
        case _:
            check(shape, value)
            return value


def _read_secret(value: Any) -> Secret:
    tree = _as_dict(value)
    if _is_redacted(tree):
        raise DecodeError("was redacted by the writer, but is needed", hint="encode with reveal_secrets=True")
    if list(tree) != ["$revealed"] or type(tree["$revealed"]) is not str:
        raise DecodeError('must be {"$revealed": "…"} or {"$secret": "redacted"}')
    return Secret(tree["$revealed"])


def _is_redacted(value: Any) -> bool:
    return isinstance(value, dict) and _as_dict(value) == REDACTED


def _read_many(shape: Many, value: Any, depth: int) -> Any:
    _need_type(value, list, "must be a list")
    items = []
    for index, item in enumerate(value):
        try:
            items.append(_read(shape.item, item, depth))
        except DecodeError as error:
            error.within(f"[{index}]")
            raise
    found = shape.container(items)
    if len(found) != len(items):
        raise DecodeError("must not hold the same item twice")
    return found


def _read_keyed(shape: Shape, value: Any, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in _as_dict(value).items():
        try:
            found[key] = _read(shape, item, depth)
        except DecodeError as error:
            error.within(shown(key))
            raise
    return found


def _read_details(value: Any) -> Details:
    found: dict[str, str | Secret] = {}
    for key, item in _as_dict(value).items():
        try:
            if not _is_redacted(item):
                found[key] = _read_secret(item) if isinstance(item, dict) else item
        except DecodeError as error:
            error.within(shown(key))
            raise
    return Details(found)


def _as_dict(value: Any) -> dict[str, Any]:
    _need_type(value, dict, "must be an object")
    if isinstance(value, Repeated):
        raise DecodeError("appears twice", shown(value.key))
    found: dict[str, Any] = value
    return found


def _need_type(value: Any, kind: type[Any], rule: str) -> None:
    if not isinstance(value, kind):
        raise DecodeError(f"{rule}, not {type(value).__name__}")
