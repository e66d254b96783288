"""Marking a function as a check, and finding all of them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from .model import Check, Level, Tier

F = TypeVar("F", bound=Callable[..., Any])

ATTRIBUTE = "__bollard_check__"
PRIMARY = ("managed", "host")
CHECKS = Path(__file__).parent / "checks"


def check(
    id: str,  # noqa: A002 - what everybody calls it
    *,
    rule: str,
    needs: tuple[type, ...] = (),
    kinds: tuple[str, ...] = PRIMARY,
    level: Level = Level.MUST,
    tier: Tier = Tier.SMOKE,
    field_bug: str = "",
    since: str = "1.0",
) -> Callable[[F], F]:
    """Make a check of a function; its docstring says what is true of a conformant driver.

    Args:
        id: `group.name`.
        rule: id of the contract sentence in the SPI's docstrings.
        needs: capability mix-ins without which the check does not apply.
        kinds: driver kinds that it applies to.
        level: MUST, SHOULD or MEASURE.
        tier: the least of a run that includes it.
        field_bug: the public bug that it would have caught.
        since: version of the suite that brought it.
    """

    def mark(function: F) -> F:
        what = inspect.getdoc(function)
        if not what:
            raise TypeError(f"check {id!r} has no docstring")
        found = Check(
            id=id,
            level=level,
            rule=rule,
            kinds=kinds,
            needs=needs,
            tier=tier,
            what=what,
            field_bug=field_bug,
            since=since,
        )
        setattr(function, ATTRIBUTE, found)
        return function

    return mark


def check_modules() -> list[str]:
    """Return the names of the modules that hold checks."""
    return sorted(path.stem for path in CHECKS.glob("[a-z]*.py"))


@cache
def checks_by_module() -> Mapping[str, tuple[Check, ...]]:
    """Return the checks of each module; imported once, whatever asks how often (each run: eight times)."""
    package = __package__ or ""
    return {
        name: tuple(
            getattr(value, ATTRIBUTE)
            for value in vars(importlib.import_module(f"{package}.checks.{name}")).values()
            if hasattr(value, ATTRIBUTE)
        )
        for name in check_modules()
    }


def all_checks() -> list[Check]:
    """Return every check of every kind, sorted by id."""
    found = [check for checks in checks_by_module().values() for check in checks]
    return sorted(found, key=lambda c: c.id)
