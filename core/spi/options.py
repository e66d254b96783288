"""Driver options: a frozen dataclass, from which schema, docs, template and validation follow.

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Options:
        url: str = option(help="Where the array listens", example="https://array:8443")
        password: Secret = option(help="Its password", secret=True)
        timeout: float = option(help="Seconds per request", default=30.0, minimum=0.1)

Types allowed: str, int, float, bool, Secret, pathlib.Path, and each of them `| None`.
A secret may be written as a reference: {"env": "NAME"} or {"file": "/path"}.

[drv.options] Options MUST be a frozen dataclass whose fields are all made by `option()`, each with a
help, and each required one that is neither a secret nor a choice with an example. [drv.options-schema]
Its JSON Schema MUST be valid, and examples and defaults MUST obey it. [drv.options-unknown] An unknown
key MUST be refused with a hint. [drv.options-typed] A bad value MUST give `InvalidArgument` naming the
option, and nothing else. [drv.options-secret] What is secret MUST have the type `Secret`, and MUST show
in no error, repr, pickle or JSON.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ...transfer_objects.errors import did_you_mean
from ...transfer_objects.secret import Secret
from .errors import InvalidArgument

T = TypeVar("T")

_JSON_TYPES: Mapping[type, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    Path: "string",
}


def option(
    *,
    help: str,  # noqa: A002 - the word that every options library uses
    default: Any = dataclasses.MISSING,
    example: str = "",
    secret: bool = False,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """Declare one option; without `default` it is required."""
    rules = {
        "help": help,
        "example": example,
        "secret": secret,
        "minimum": minimum,
        "maximum": maximum,
        "choices": tuple(choices),
    }
    return dataclasses.field(default=default, metadata={"option": rules})


class _Kind(NamedTuple):
    """An option's annotation: its base type, and whether None is allowed."""

    base: type
    nullable: bool


def _kind(hint: Any) -> _Kind:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    parts = typing.get_args(hint) if union else (hint,)
    inner = [p for p in parts if p is not type(None)]
    if len(inner) != 1 or (inner[0] is not Secret and inner[0] not in _JSON_TYPES):
        raise TypeError(f"{hint} is not a type of option")
    return _Kind(inner[0], nullable=len(parts) > 1)


def _fields(cls: type[Any]) -> list[tuple[dataclasses.Field[Any], _Kind]]:
    """Return the options; a wrong declaration is the vendor's bug and gives `TypeError`."""
    hints = typing.get_type_hints(cls)
    fields = [(f, _kind(hints[f.name])) for f in dataclasses.fields(cls)]
    for field, kind in fields:
        if field.metadata.get("option", {}).get("secret") and kind.base is not Secret:
            raise TypeError(f"option {field.name!r} is secret, so its type must be Secret")
    return fields


def parse_options(cls: type[T], raw: Mapping[str, Any]) -> T:
    """Validate `raw` (from TOML, JSON or Python) and build the options object.

    Raises:
        InvalidArgument: naming the option and the rule; the value only if it is not a secret.
    """
    fields = _fields(cls)
    names = [f.name for f, _ in fields]
    for key in raw:
        if key not in names:
            raise InvalidArgument(f"option {key!r} is unknown; {did_you_mean(key, names)}")
    values = {f.name: _parse_one(f, kind, raw[f.name]) for f, kind in fields if f.name in raw}
    missing = [f.name for f, _ in fields if f.name not in raw and f.default is dataclasses.MISSING]
    if missing:
        raise InvalidArgument(f"option {missing[0]!r} is required")
    return cls(**values)


def _parse_one(field: dataclasses.Field[Any], kind: _Kind, value: Any) -> Any:
    base = kind.base
    if value is None and kind.nullable:
        return None
    if base is Secret:
        return _parse_secret(field.name, value)
    if base is Path and isinstance(value, str | Path):
        _check_rules(field, str(value))
        return Path(value)
    if type(value) in (int, float):
        value = _number(field.name, base, value)
    if type(value) is not base:
        raise InvalidArgument(f"option {field.name!r} must be of type {_JSON_TYPES[base]}, got {value!r}")
    _check_rules(field, value)
    return value


def _number(name: str, base: type, value: int | float) -> int | float:
    """Return 3 as 3.0 or 3.0 as 3, as declared: JSON has one kind of number, and so has our schema."""
    if base is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if base is float:
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):  # NaN passes every comparison with a minimum
            raise InvalidArgument(f"option {name!r} must be a finite number")
    return value


def _check_rules(field: dataclasses.Field[Any], value: Any) -> None:
    rules = field.metadata.get("option", {})
    low, high, choices = rules.get("minimum"), rules.get("maximum"), rules.get("choices")
    if low is not None and value < low:
        raise InvalidArgument(f"option {field.name!r} must be at least {low}, got {value!r}")
    if high is not None and value > high:
        raise InvalidArgument(f"option {field.name!r} must be at most {high}, got {value!r}")
    if choices and value not in choices:
        raise InvalidArgument(f"option {field.name!r} is {value!r}; {did_you_mean(value, choices)}")
    if isinstance(value, str) and any(ord(c) < 32 for c in value):
        raise InvalidArgument(f"option {field.name!r} must not contain control characters")


def _parse_secret(name: str, value: Any) -> Secret:
    """Accept a Secret, a plain string, {"env": NAME} or {"file": PATH}; never echo the value."""
    if isinstance(value, Secret):
        return value
    if isinstance(value, str):
        return Secret(value)
    if isinstance(value, Mapping) and len(value) == 1:
        [(kind, reference)] = value.items()
        if isinstance(reference, str) and kind in _REFERENCES:
            return _REFERENCES[kind](name, reference)
    raise InvalidArgument(f"option {name!r} must be a string, {{env = NAME}} or {{file = PATH}}")


def _secret_of_env(name: str, variable: str) -> Secret:
    found = os.environ.get(variable)
    if found is None:
        raise InvalidArgument(f"option {name!r}: environment variable {variable!r} is not set")
    return Secret(found)


def _secret_of_file(name: str, path: str) -> Secret:
    try:
        text = Path(path).read_bytes().decode(errors="replace")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise InvalidArgument(f"option {name!r}: cannot read the file {path!r}") from error
    # Not by `except UnicodeDecodeError`: that exception carries the bytes, and its repr shows them.
    if "\N{REPLACEMENT CHARACTER}" in text:
        raise InvalidArgument(f"option {name!r}: the file {path!r} is not UTF-8 text")
    return Secret(text.rstrip("\n"))


_REFERENCES: Mapping[str, Callable[[str, str], Secret]] = {"env": _secret_of_env, "file": _secret_of_file}


def options_schema(cls: type[Any]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of an options class, for UIs, docs and editors."""
    properties, required = {}, []
    for field, kind in _fields(cls):
        properties[field.name] = _property(field, kind)
        if field.default is dataclasses.MISSING:
            required.append(field.name)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": required,
    }


def _property(field: dataclasses.Field[Any], kind: _Kind) -> dict[str, Any]:
    rules = field.metadata.get("option", {})
    description = rules.get("help", "")
    if kind.base is Secret:
        return {"anyOf": _secret_shapes(kind), "description": description, "writeOnly": True}
    name = _JSON_TYPES[kind.base]
    prop: dict[str, Any] = {"type": [name, "null"] if kind.nullable else name, "description": description}
    prop |= {k: rules[k] for k in ("minimum", "maximum") if rules.get(k) is not None}
    if rules.get("choices"):
        prop["enum"] = [*rules["choices"], *([None] if kind.nullable else [])]
    elif name == "string":
        prop["not"] = {"pattern": "[\\u0000-\\u001f]"}
    if rules.get("example"):
        prop["examples"] = [rules["example"]]
    if field.default is not dataclasses.MISSING and field.default is not None:
        prop["default"] = str(field.default) if kind.base is Path else field.default
    return prop


def _secret_shapes(kind: _Kind) -> list[dict[str, Any]]:
    shapes: list[dict[str, Any]] = [
        {"type": "object", "required": [key], "maxProperties": 1, "properties": {key: {"type": "string"}}}
        for key in _REFERENCES
    ]
    return [{"type": "string"}, *shapes, *([{"type": "null"}] if kind.nullable else [])]


def options_toml(cls: type[Any]) -> str:
    """Return a commented TOML template of the options, required ones first."""
    lines = []
    for field, kind in sorted(_fields(cls), key=lambda x: x[0].default is not dataclasses.MISSING):
        base, rules = kind.base, field.metadata.get("option", {})
        lines.append("# " + " ".join(rules.get("help", "").split()))
        value = "{ env = 'NAME' }" if base is Secret else _toml_value(field, base, rules)
        comment = "" if field.default is dataclasses.MISSING else "# "
        lines.append(f"{comment}{field.name} = {value}")
    return "\n".join(lines) + "\n"


def _toml_value(field: dataclasses.Field[Any], base: type, rules: Mapping[str, Any]) -> str:
    """Return the default, else the example, else the least that the rules allow, as TOML."""
    default = field.default if field.default not in (dataclasses.MISSING, None) else None
    if base is bool:
        return str(bool(default)).lower()
    if base in (int, float):
        return str(default if default is not None else rules.get("example") or rules.get("minimum") or 0)
    fallback = rules.get("example") or next(iter(rules.get("choices", ())), "")
    text = str(default) if default is not None else fallback
    # TOML's basic strings are JSON's, save that DEL must be escaped, too.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
