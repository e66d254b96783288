"""Every check is found, documented, and tests a sentence that the contract really has."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import bollard.core.spi
from bollard.conformance.model import Check, Tier
from bollard.conformance.plugin import check_modules
from bollard.conformance.pytest_plugin import TIERS
from bollard.conformance.registry import ATTRIBUTE, check
from bollard.core.plugins import KINDS

SPI = Path(bollard.core.spi.__file__).parent
RULES = set(re.findall(r"\[([a-z]+\.[a-z-]+)\]", "".join(p.read_text() for p in SPI.glob("*.py"))))


def _checks() -> list[Check]:
    modules = (importlib.import_module(f"bollard.conformance.checks.{name}") for name in check_modules())
    found = (getattr(obj, ATTRIBUTE, None) for module in modules for obj in vars(module).values())
    return [one for one in found if one is not None]


def test_ids_are_unique_and_counted() -> None:
    """Discovery loses no check: the count is asserted, and no id occurs twice."""
    ids = [one.id for one in _checks()]
    assert len(ids) == len(set(ids)) == 73
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", one) for one in ids)


def test_each_check_tests_a_sentence_of_the_contract() -> None:
    """The rule that a check names stands in a docstring of the SPI."""
    assert {one.rule for one in _checks()} <= RULES


def test_check_without_docstring_is_refused() -> None:
    """A check says what is true of a conformant driver, or it is none."""

    def silent() -> None: ...

    with pytest.raises(TypeError, match="no docstring"):
        check("a.b", rule="any.idempotent")(silent)


def test_tiers_include_those_before() -> None:
    """A tier runs its own checks and those of the tiers before it; pytest knows the same tiers."""
    assert [[tier.includes(other) for other in Tier] for tier in Tier] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]
    assert list(Tier) == list(TIERS)


def test_static_checks_open_nothing() -> None:
    """What the static tier runs is called static, applies to every kind of driver and needs no capability."""
    chosen = [one for one in _checks() if one.tier is Tier.STATIC]
    assert {one.group for one in chosen} == {"static"}
    assert {one.kinds for one in chosen} == {tuple(KINDS)}
    assert {one.needs for one in chosen} == {()}
