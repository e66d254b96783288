"""Which class a body without a name is, judged by its keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..base import TransferObject
from ..errors import DecodeError, did_you_mean
from .names import classes_by_java_name, classes_by_short_name, wire_class


def class_named(name: str) -> type[TransferObject]:
    """Return the class that a person calls `name`, by its whole Java name or its last part.

    Raises:
        DecodeError: with what was perhaps meant.
    """
    known = {java.rpartition(".")[2]: cls for java, cls in classes_by_java_name().items()}
    cls = classes_by_java_name().get(name) or (known | dict(classes_by_short_name())).get(name)
    if cls is None:
        raise DecodeError("is no class that Bollard knows", hint=did_you_mean(name.rpartition(".")[2], known))
    return cls


def class_of_body(body: dict[str, Any]) -> type[TransferObject]:
    """Return the class that fits a body: all of its keys are known, or most, and the fewest others are.

    Raises:
        DecodeError: if none fits, or several fit equally well.
    """
    scores = {cls: _score(body, wire_class(cls).by_wire) for cls in classes_by_java_name().values()}
    best = max(scores.values())
    fits = [cls.__name__ for cls, score in scores.items() if score == best]
    if best[1] == 0:
        raise DecodeError("has no key that tells its class", hint="name the class, e.g. --as VolumeObjectTO")
    if len(fits) > 1:
        raise DecodeError(f"may be {' or '.join(fits)}", hint=f"name the class, e.g. --as {fits[0]}")
    return classes_by_short_name()[fits[0]]


def _score(body: Iterable[str], known: Iterable[str]) -> tuple[int, int, int]:
    keys, fields = set(body), set(known)
    return (-len(keys - fields), len(keys & fields), -len(fields))
