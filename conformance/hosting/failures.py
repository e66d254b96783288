"""Exceptions on their way out of the driver host: the taxonomy as itself, all else named but foreign.

    HostingError
    ├── NotHostable    the class cannot be loaded by name, or its host does not start
    ├── NotReturned    the driver returned what the SPI does not speak of, or too much of it
    └── DriverRaised   the driver raised something outside of the taxonomy

None is a `StorageError`: core takes each for what it is, a bug in the driver, and says `Internal`.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Mapping
from typing import Any

from ...core.spi import TAXONOMY, StorageError
from .wire import Json, NotCarried, decode, encode

_DEEPEST = 8  # causes of causes
_LONGEST = 256 * 1024  # characters of a foreign exception's text

_CLASSES: Mapping[str, type[StorageError]] = {
    **{cls.__name__: cls for cls in TAXONOMY},
    StorageError.__name__: StorageError,
}
_FACTS = ("message", "outcome", "detail", "retry_after")


class HostingError(Exception):
    """Something is wrong with the driver, as seen from its host."""


class NotHostable(HostingError):
    """The driver class cannot be run in a process of its own."""


class NotReturned(HostingError):
    """What a method returned cannot be passed on; the text names the method and the type."""


class DriverRaised(HostingError):
    """The driver raised an exception that is not in the taxonomy.

    Each instance is of a subclass that has the name of the original exception's class.

    Args:
        text: the original's text.
        shown: the original's `repr`, which is this one's, too.
        trace: where it was raised in the host.
    """

    def __init__(self, text: str, shown: str = "", trace: str = "") -> None:
        super().__init__(text)
        self._shown = shown
        if trace:
            self.add_note(f"In the driver host:\n{trace}")

    def __repr__(self) -> str:
        return self._shown or super().__repr__()


def encode_error(error: BaseException, depth: int = 0) -> Json:
    """Return an exception, its notes, causes and contexts as JSON."""
    try:
        data = _encode_typed(error) if isinstance(error, StorageError) else _encode_foreign(error, depth)
    except (NotCarried, AttributeError, RecursionError):  # the driver put something odd into its fields
        data = _encode_foreign(error, depth)
    notes = getattr(error, "__notes__", ())
    data["notes"] = [_text(note) for note in notes] if isinstance(notes, list) else []
    data["suppress"] = error.__suppress_context__
    for name, other in (("cause", error.__cause__), ("context", error.__context__)):
        if other is not None and depth < _DEEPEST:
            data[name] = encode_error(other, depth + 1)
    return data


def _encode_typed(error: StorageError) -> dict[str, Json]:
    name = next(c.__name__ for c in type(error).__mro__ if _CLASSES.get(c.__name__) is c)
    return {"class": name, "facts": [encode(getattr(error, fact)) for fact in _FACTS]}


def _encode_foreign(error: BaseException, depth: int) -> dict[str, Json]:
    # Only of the outermost: a trace quotes the exception's text again, and what hides a secret in a
    # cause looks at that cause alone.
    trace = "" if depth else _trace(error)
    kind = type(error)
    return {"foreign": [kind.__module__, kind.__name__, _text(error), _text(error, shown=True), trace]}


def _text(value: object, *, shown: bool = False) -> str:
    try:
        text = repr(value) if shown else str(value)
    except Exception as error:  # noqa: BLE001 - a vendor's __str__ may do anything
        text = f"<{type(value).__name__} whose text raises {type(error).__name__}>"
    return text[:_LONGEST]


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))[:_LONGEST]
    except Exception as failed:  # noqa: BLE001 - as in _text
        return f"<no trace: {type(failed).__name__}>"


def decode_error(data: Mapping[str, Any]) -> Exception:
    """Return the exception that `encode_error` was given, or what stands for it."""
    error = _decode_typed(data) if "class" in data else _decode_foreign(data)
    for note in data["notes"]:
        error.add_note(note)
    if "cause" in data:
        error.__cause__ = decode_error(data["cause"])
    if "context" in data:
        error.__context__ = decode_error(data["context"])
    error.__suppress_context__ = data["suppress"]
    return error


def _decode_typed(data: Mapping[str, Any]) -> StorageError:
    message, outcome, detail, retry_after = (decode(fact) for fact in data["facts"])
    error = _CLASSES[data["class"]](message, detail=detail, retry_after=retry_after)
    error.outcome = outcome
    return error


def _decode_foreign(data: Mapping[str, Any]) -> Exception:
    module, name, text, shown, trace = data["foreign"]
    return _class_named(module, name)(text, shown, trace)


@functools.cache
def _class_named(module: str, name: str) -> type[DriverRaised]:
    """Return a class that is told apart in messages and traces by the original's name."""
    return type(name, (DriverRaised,), {"__module__": module, "__doc__": DriverRaised.__doc__})
