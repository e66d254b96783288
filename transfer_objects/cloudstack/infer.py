"""Which class a body without a name is, judged by its keys."""

from __future__ import annotations

from typing import Any

from ..base import TransferObject
from ..errors import DecodeError, did_you_mean
from .names import classes_by_java_name, classes_by_short_name, wire_class

_MAX_SHOWN = 4


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
    """Return the class that knows most of a body's keys.

    Of several the one that the others are derived from: what has only a result is an Answer. A wrong guess
    would put a wrong name on somebody's data, so any other doubt is an error.

    Raises:
        DecodeError: if none fits, or several fit equally well.
    """
    known = {
        cls: len(body.keys() & wire_class(cls).by_wire.keys()) for cls in classes_by_java_name().values()
    }
    most = max(known.values())
    if most == 0:
        raise DecodeError("has no key that tells its class", hint="name the class, e.g. --as VolumeObjectTO")
    fits = [cls for cls, count in known.items() if count == most]
    for cls in fits:
        if all(issubclass(other, cls) for other in fits):
            return cls
    names = [cls.__name__ for cls in fits]
    more = f" or one of {len(names) - _MAX_SHOWN} others" if len(names) > _MAX_SHOWN else ""
    raise DecodeError(
        f"may be {' or '.join(names[:_MAX_SHOWN])}{more}", hint=f"name the class, e.g. --as {names[0]}"
    )
