"""Which checks a run is about: kind, tier and profiles decide what applies, select and shard what is run.

all checks ── kind, tier, profiles ──> applicable ── select, shard ──> run
└─ the rest of it is "not-run" in the result
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from ..core.spi import InvalidArgument
from .leaks import RUN_CHECKS
from .model import Check, Tier
from .profiles import chosen_profiles, profile_of
from .registry import all_checks
from .settings import SuiteSettings

_SHARD = re.compile(r"([1-9]\d*)/([1-9]\d*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a user asked for.

    Attributes:
        select: ids or patterns of ids ("vol.*"); empty for all.
        shard: (i, n), from 1: this run takes each n-th check.
        profiles: names; empty for all.
    """

    kind: str
    tier: Tier = Tier.STANDARD
    select: tuple[str, ...] = ()
    shard: tuple[int, int] = (1, 1)
    profiles: tuple[str, ...] = ()

    def applicable(self) -> list[Check]:
        """Return the checks that this driver, tier and these profiles are about, sorted by id."""
        profiles = chosen_profiles(self.profiles)
        return [
            c
            for c in all_checks()
            if self.kind in c.kinds and self.tier.includes(c.tier) and profile_of(c) in profiles
        ]

    def chosen(self) -> list[Check]:
        """Return those of them that this run takes.

        Raises:
            InvalidArgument: a pattern matches nothing, or only checks that do not apply.
        """
        applicable = self.applicable()
        for pattern in self.select:
            self._demand(pattern, applicable)
        wanted = [c for c in applicable if not self.select or any(_matches(c, p) for p in self.select)]
        index, count = self.shard
        return wanted[index - 1 :: count]

    def _demand(self, pattern: str, applicable: Sequence[Check]) -> None:
        if any(_matches(c, pattern) for c in applicable):
            return
        others = [c for c in all_checks() if _matches(c, pattern)]
        if others:
            why = f"it is of tier {others[0].tier}, for {' and '.join(others[0].kinds)} drivers"
            raise InvalidArgument(f"{pattern!r} does not apply to this run: {why}")
        raise InvalidArgument(f"no check is called {pattern!r}; {_hint(pattern, applicable)}")


def parse_shard(text: str) -> tuple[int, int]:
    """Read "i/n".

    Raises:
        InvalidArgument: it is something else.
    """
    match = _SHARD.fullmatch(text)
    if match is None or int(match[1]) > int(match[2]):
        raise InvalidArgument(f"shard {text!r} must be i/n with 1 <= i <= n, for example 2/4")
    return int(match[1]), int(match[2])


def parse_select(given: Sequence[str]) -> tuple[str, ...]:
    """Return the patterns of options that may each hold several, separated by commas."""
    return tuple(part.strip() for text in given for part in text.split(",") if part.strip())


def require_known(settings: SuiteSettings) -> None:
    """Refuse a known failure of a check that does not exist.

    Raises:
        InvalidArgument: naming the id.
    """
    checks = (*all_checks(), *RUN_CHECKS)
    for known in settings.known:
        if known.id not in {c.id for c in checks}:
            raise InvalidArgument(
                f"[[known_fail]]: no check is called {known.id!r}; {_hint(known.id, checks)}"
            )


def _hint(word: str, checks: Sequence[Check]) -> str:
    """Return what may have been meant; hundreds of ids would bury the message."""
    close = get_close_matches(word, [c.id for c in checks], n=1)
    return f"did you mean {close[0]!r}?" if close else "`bollard conformance checks` lists them"


def _matches(found: Check, pattern: str) -> bool:
    return fnmatchcase(found.id, pattern)
