"""Marking a function as a check."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from .model import Check, Level

F = TypeVar("F", bound=Callable[..., Any])

ATTRIBUTE = "__bollard_check__"
PRIMARY = ("managed", "host")


def check(
    id: str,  # noqa: A002 - what everybody calls it
    *,
    rule: str,
    needs: tuple[type, ...] = (),
    kinds: tuple[str, ...] = PRIMARY,
    level: Level = Level.MUST,
) -> Callable[[F], F]:
    """Make a check of a function; its docstring says what is true of a conformant driver.

    Args:
        id: `group.name`.
        rule: id of the contract sentence in the SPI's docstrings.
        needs: capability mix-ins without which the check does not apply.
        kinds: driver kinds that it applies to.
        level: MUST or SHOULD.
    """

    def mark(function: F) -> F:
        what = inspect.getdoc(function)
        if not what:
            raise TypeError(f"check {id!r} has no docstring")
        setattr(
            function, ATTRIBUTE, Check(id=id, level=level, rule=rule, kinds=kinds, needs=needs, what=what)
        )
        return function

    return mark
