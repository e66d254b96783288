"""JSON Schema of the native form, made from the same shapes and rules that the codec obeys.

The result is published as `schema.json`. After a change of a class or rule, write it anew:

    python -m bollard.transfer_objects.schema > transfer_objects/schema.json

Every document that `native.decode` accepts, the schema accepts. What a schema cannot say (lengths in bytes,
depth, keys that stand twice, the uuid that some pools need), only the decoder refuses.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from .base import TransferObject
from .reader import REDACTED, TRANSFER_OBJECTS
from .rules import LABEL, RULES, SECRET_DETAIL_KEY, TEXT, IntRule, TextRule
from .shapes import Choice, FieldShape, Flag, Hidden, Keyed, Many, Nested, Number, Shape, Text, fields_of

SCHEMA_ID = "urn:bollard:transfer-objects:1"


def json_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12) of a document that holds any transfer object."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "Bollard transfer objects, native form",
        "oneOf": [_reference(cls.__name__) for cls in TRANSFER_OBJECTS],
        "$defs": {cls.__name__: _object(cls) for cls in TRANSFER_OBJECTS}
        | {name: rule.schema() for name, rule in RULES.items()}
        | {"Secret": _secret(), "Details": _details()},
    }


def definitions(*classes: type[TransferObject]) -> dict[str, Any]:
    """Return what `$defs` of a schema with these further classes (commands, answers) holds."""
    found: dict[str, Any] = json_schema()["$defs"]
    todo = list(classes)
    while todo:
        cls = todo.pop()
        if cls.__name__ not in found:
            found[cls.__name__] = _object(cls)
            todo += [part for field in fields_of(cls) for part in _parts(field.shape)]
    return found


def _parts(shape: Shape) -> tuple[type[TransferObject], ...]:
    match shape:
        case Nested(classes):
            return classes
        case Many(item) | Keyed(item):
            return _parts(item)
        case _:
            return ()


def schema_text() -> str:
    """Return the contents of `schema.json`."""
    return json.dumps(json_schema(), indent=2) + "\n"


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def _rule(rule: TextRule | IntRule) -> dict[str, Any]:
    return _reference(next(name for name, known in RULES.items() if known is rule))


def _object(cls: type[TransferObject]) -> dict[str, Any]:
    fields = fields_of(cls)
    schema: dict[str, Any] = {
        "type": "object",
        "description": (cls.__doc__ or "").partition("\n")[0],
        "properties": {"type": {"const": cls.__name__}} | {f.name: _property(f) for f in fields},
        "required": ["type", *(f.name for f in fields if f.required)],
        "additionalProperties": False,
    }
    if cls.identified_by:
        schema["anyOf"] = [_present(name) for name in cls.identified_by]
    return schema


def _present(name: str) -> dict[str, Any]:
    return {"required": [name], "properties": {name: {"type": "string"}}}


def _property(field: FieldShape) -> dict[str, Any]:
    schema = _shape(field.shape)
    return {"anyOf": [schema, {"type": "null"}]} if field.nullable else schema


def _shape(shape: Shape) -> dict[str, Any]:
    match shape:
        case Text(rule) | Number(rule):
            return _rule(rule)
        case Flag():
            return {"type": "boolean"}
        case Choice(enum):
            return {"enum": [member.value for member in enum]}
        case Hidden():
            return _reference("Secret")
        case Nested(classes):
            return {"oneOf": [_reference(cls.__name__) for cls in classes]}
        case Many(item, container):
            return {"type": "array", "items": _shape(item), "uniqueItems": container is frozenset}
        case Keyed(item):
            return {"type": "object", "propertyNames": _rule(LABEL), "additionalProperties": _shape(item)}
        case _:  # DetailMap
            return _reference("Details")


def _secret() -> dict[str, Any]:
    revealed = {
        "type": "object",
        "properties": {"$revealed": _rule(TEXT)},
        "required": ["$revealed"],
        "additionalProperties": False,
    }
    return {"anyOf": [{"const": REDACTED}, revealed]}


def _details() -> dict[str, Any]:
    secret = _reference("Secret")
    return {
        "type": "object",
        "propertyNames": _rule(LABEL),
        "patternProperties": {SECRET_DETAIL_KEY: secret},
        "additionalProperties": {"anyOf": [_rule(TEXT), secret]},
    }


if __name__ == "__main__":
    sys.stdout.write(schema_text())
