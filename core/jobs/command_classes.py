"""Commands by the names of their classes."""

from __future__ import annotations

from functools import cache

from ...transfer_objects import commands
from ...transfer_objects.commands import Answer, Command
from ...transfer_objects.errors import did_you_mean
from ..spi.errors import InvalidArgument


@cache
def command_classes() -> dict[str, type[Command]]:
    """Return the commands that can be ordered: neither answers nor what only others inherit from."""
    found = (getattr(commands, name) for name in commands.__all__)
    return {
        cls.__name__: cls
        for cls in found
        if issubclass(cls, Command) and not issubclass(cls, Answer) and cls.__name__ not in _ABSTRACT
    }


_ABSTRACT = frozenset({"Command", "VMSnapshotCommand"})


def command_class(name: str) -> type[Command]:
    """Return the class of a command.

    Raises:
        InvalidArgument: there is no such command.
    """
    known = command_classes()
    if name not in known:
        raise InvalidArgument(f"there is no such command; {did_you_mean(name, known)}")
    return known[name]


def answer_class(name: str) -> type[Answer]:
    """Return the class of an answer that we have written ourselves."""
    found: type[Answer] = getattr(commands, name)
    return found
