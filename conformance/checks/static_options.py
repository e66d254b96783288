"""The driver's options: declared, documented, validated, and silent about secrets. Nothing is opened."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from ...core.plugins import KINDS
from ...core.spi import InvalidArgument, options_schema, parse_options
from ..lab import ContractBroken, must
from ..model import Tier
from ..registry import check
from ..subject import Subject, is_secret, json_type

static = partial(check, kinds=tuple(KINDS), tier=Tier.STATIC)

SECRET_WORDS = ("password", "passwd", "passphrase", "secret", "key", "token", "credentials")
# A prefix, a region or a path is rarely checked; what parses it must not fall over what people paste.
HOSTILE = ("", " ", "://", "http://[", "x" * 10_000, "\N{RIGHT-TO-LEFT OVERRIDE}", "\N{FLOPPY DISK}", "../..")
WRONG_TYPE: Mapping[str, Any] = {"string": 7, "integer": "seven", "number": "seven", "boolean": "yes"}


@static("static.options_declared", rule="drv.options")
def check_options_declared(subject: Subject) -> None:
    """The options are a frozen dataclass of option() fields with help; required ones have examples."""
    options = subject.cls.Options
    must(options.__dataclass_params__.frozen, f"{options.__name__} is not frozen")
    wrong = [f"{f.name} {fault}" for f in dataclasses.fields(options) if (fault := _undeclared(f))]
    must(not wrong, f"{options.__name__}: {'; '.join(wrong)}")


def _undeclared(field: dataclasses.Field[Any]) -> str:
    rules = field.metadata.get("option")
    if rules is None:
        return "is not made by option()"
    if not rules["help"].strip():
        return "has no help"
    plain = not (rules["secret"] or rules["choices"] or field.type in (bool, "bool"))
    required = field.default is dataclasses.MISSING
    return "is required and has no example" if required and plain and not rules["example"] else ""


@static("static.options_schema_valid", rule="drv.options-schema")
def check_options_schema_valid(subject: Subject) -> None:
    """The JSON Schema is valid; the examples obey it, and so do the defaults."""
    # Part of bollard[conformance], and imported here: without it one check is an error, not all of them.
    import jsonschema

    schema = json.loads(json.dumps(options_schema(subject.cls.Options)))
    validator = jsonschema.Draft202012Validator
    validator.check_schema(schema)
    values = [("example", n, subject.sample(p)) for n, p in schema["properties"].items() if "examples" in p]
    values += [("default", n, p["default"]) for n, p in schema["properties"].items() if "default" in p]
    wrong = [
        f"the {what} of {name} breaks its own rule: {error.message}"
        for what, name, value in values
        for error in validator(schema["properties"][name]).iter_errors(value)
    ]
    must(not wrong, "; ".join(wrong))
    missing = [error.message for error in validator(schema).iter_errors(subject.minimal())]
    must(not missing, f"the schema refuses the examples: {'; '.join(missing)}")


@static("static.options_minimal_accepted", rule="drv.options")
def check_options_minimal_accepted(subject: Subject) -> None:
    """The examples of the required options are options."""
    try:
        parse_options(subject.cls.Options, subject.minimal())
    except Exception as error:  # what a vendor's __post_init__ raises
        raise ContractBroken(f"the examples are refused: {type(error).__name__}: {error}") from error


@static("static.options_unknown_refused", rule="drv.options-unknown")
def check_options_unknown_refused(subject: Subject) -> None:
    """A misspelt option is refused, and the right spelling is proposed."""
    known = subject.schema()
    for wrong in (f"{name}x" for name in known if f"{name}x" not in known):
        message = _refusal(subject, {wrong: subject.canary})
        must(message is not None, f"the unknown option {wrong!r} is accepted")
        must("did you mean" in str(message), f"the refusal of {wrong!r} proposes nothing: {message}")
    must(_refusal(subject, {"no_such_option": 1}) is not None, "the option 'no_such_option' is accepted")


@static("static.options_bad_values_refused", rule="drv.options-typed")
def check_options_bad_values_refused(subject: Subject) -> None:
    """A value of the wrong type, out of range or not among the choices is refused by the option's name."""
    for name, prop in subject.schema().items():
        for bad in _bad_values(subject, prop):
            message = _refusal(subject, {name: bad})
            # Not the value: in a secret's place it would be one.
            must(message is not None, f"option {name!r} accepts a bad value of type {type(bad).__name__}")
            must(repr(name) in str(message), f"the refusal of a bad {name!r} does not name it: {message}")


def _bad_values(subject: Subject, prop: Mapping[str, Any]) -> Iterator[Any]:
    if is_secret(prop):
        yield from (7, [subject.canary], {"neither": subject.canary})
        return
    kind = json_type(prop)
    yield WRONG_TYPE[kind]
    if "minimum" in prop:
        yield prop["minimum"] - 1
    if "maximum" in prop:
        yield prop["maximum"] + 1
    if kind == "string":
        yield "no\x00such\nvalue"


@static("static.options_hostile_text_typed", rule="drv.options-typed")
def check_options_hostile_text_typed(subject: Subject) -> None:
    """Whatever text stands in an option, it is accepted or refused with InvalidArgument."""
    for name, prop in subject.schema().items():
        if is_secret(prop) or json_type(prop) == "string":
            for text in HOSTILE:
                _refusal(subject, {name: text})


def _refusal(subject: Subject, change: dict[str, Any]) -> str | None:
    """Return with which message changed options are refused, or None if they are accepted."""
    try:
        parse_options(subject.cls.Options, subject.with_secrets() | change)
    except InvalidArgument as error:
        _silent(subject, error)
        return error.message
    except Exception as error:  # whatever else a vendor's __post_init__ raises is the finding
        names, kind = ", ".join(change), type(error).__name__
        raise ContractBroken(f"a bad {names!r} gives {kind} and not InvalidArgument") from error
    return None


def _silent(subject: Subject, error: BaseException | None) -> None:
    while error is not None:
        told = f"{error!r} {error} {getattr(error, 'detail', '')}"
        must(not subject.shown_by(told), f"a {type(error).__name__} about the options shows a secret")
        error = error.__cause__ or error.__context__


@static("static.secrets_are_typed", rule="drv.options-secret")
def check_secrets_are_typed(subject: Subject) -> None:
    """An option that is called a password, secret, key or token has the type Secret."""
    plain = [
        name for name, prop in subject.schema().items() if not is_secret(prop) and _looks_secret(name, prop)
    ]
    must(not plain, f"{', '.join(plain)}: looks secret, and is text that everybody can print")


def _looks_secret(name: str, prop: Mapping[str, Any]) -> bool:
    return json_type(prop) == "string" and "enum" not in prop and name.rpartition("_")[2] in SECRET_WORDS


@static("static.secrets_never_show", rule="drv.options-secret")
def check_secrets_never_show(subject: Subject) -> None:
    """No secret is in the options' repr, text, JSON, pickle or copy as a dict."""
    options = parse_options(subject.cls.Options, subject.with_secrets())
    for what, form in FORMS.items():
        try:
            text = form(options)
        except Exception:  # noqa: BLE001, S112 - refusing to be pickled is as good as not showing anything
            continue
        must(not subject.shown_by(text), f"{what} of the options shows a secret")


FORMS: Mapping[str, Callable[[Any], str]] = {
    "repr": repr,
    "str": str,
    "format": lambda options: f"{options:}",
    "the fields' text": lambda options: " ".join(
        str(getattr(options, f.name)) for f in dataclasses.fields(options)
    ),
    "JSON": lambda options: json.dumps(
        {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}, default=str
    ),
    "vars()": lambda options: str(vars(options)),
    "pickle": lambda options: pickle.dumps(options).decode("latin-1"),
}
