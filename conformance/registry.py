"""Marking a function as a check."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from .model import Check, Level, Tier

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
    tier: Tier = Tier.SMOKE,
) -> Callable[[F], F]:
    """Make a check of a function; its docstring says what is true of a conformant driver.

    Args:
        id: `group.name`.
        rule: id of the contract sentence in the SPI's docstrings.
        needs: capability mix-ins without which the check does not apply.
        kinds: driver kinds that it applies to.
        level: MUST or SHOULD.
        tier: the least of a run that includes it.
    """

    def mark(function: F) -> F:
        what = inspect.getdoc(function)
        if not what:
            raise TypeError(f"check {id!r} has no docstring")
        found = Check(id=id, level=level, rule=rule, kinds=kinds, needs=needs, tier=tier, what=what)
        setattr(function, ATTRIBUTE, found)
        return function

    return mark
