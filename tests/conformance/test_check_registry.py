"""Every check is found, documented, and tests a sentence that the contract really has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bollard.core.spi
from bollard.conformance.model import Tier
from bollard.conformance.pytest_plugin import TIERS
from bollard.conformance.registry import all_checks, check
from bollard.core.plugins import KINDS

SPI = Path(bollard.core.spi.__file__).parent
RULES = set(re.findall(r"\[([a-z]+\.[a-z-]+)\]", "".join(p.read_text() for p in SPI.glob("*.py"))))


# Asserted so that discovery cannot lose a check: of each kind of driver, and in all.
PER_KIND = {"managed": 274, "host": 254, "image-store": 88, "hypervisor": 93, "fence": 32}
ALL = 444


def test_no_check_is_lost() -> None:
    """Each kind of driver has as many checks as were counted, and no id occurs twice."""
    ids = [one.id for one in all_checks()]
    assert len(ids) == len(set(ids)) == ALL
    assert all(re.fullmatch(r"[a-z]+\.[a-z0-9_]+", one) for one in ids)
    assert {kind: sum(kind in one.kinds for one in all_checks()) for kind in KINDS} == PER_KIND


def test_each_check_has_its_words() -> None:
    """A check's first paragraph is a sentence."""
    short = [one.id for one in all_checks() if not one.contract.endswith(".") or len(one.contract) < 25]
    assert short == []


def test_each_check_tests_a_sentence_of_the_contract() -> None:
    """The rule that a check names stands in a docstring of the SPI."""
    assert {one.rule for one in all_checks()} <= RULES


def test_check_without_docstring_is_refused() -> None:
    """A check says what is true of a conformant driver, or it is none."""

    def silent() -> None: ...

    with pytest.raises(TypeError, match="no docstring"):
        check("a.b", rule="any.idempotent")(silent)


def test_tiers_include_those_before() -> None:
    """A tier runs its own checks and those of the tiers before it; pytest knows the same tiers."""
    tiers = list(Tier)
    assert [[tier.includes(other) for other in tiers] for tier in tiers] == [
        [place <= own for place in range(len(tiers))] for own in range(len(tiers))
    ]
    assert list(Tier) == list(TIERS)


def test_static_checks_open_nothing() -> None:
    """What the static tier runs is called static, applies to every kind of driver and needs no capability."""
    chosen = [one for one in all_checks() if one.tier is Tier.STATIC]
    assert {one.group for one in chosen} == {"static"}
    assert {one.kinds for one in chosen} == {tuple(KINDS)}
    assert {one.needs for one in chosen} == {()}
