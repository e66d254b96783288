"""Profiles: what a verdict is about. A vendor claims those that it sells, and a certificate names them.

core            everything that needs no capability of its own
snapshots …     what a capability adds; refused as a whole where the driver does not declare it
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..core.spi import InvalidArgument
from ..transfer_objects.errors import did_you_mean
from .model import Check, Level, Outcome, Result, Verdict, holds, is_open


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A set of check groups under a name and a version of its own."""

    name: str
    title: str
    groups: tuple[str, ...]
    version: str = "1.0"


CORE = Profile(name="core", title="Core", groups=())
PROFILES: tuple[Profile, ...] = (
    CORE,
    Profile(name="snapshots", title="Snapshots", groups=("snap",)),
    Profile(name="archive", title="Archive", groups=("arc",)),
    Profile(name="incremental", title="Incremental", groups=("inc",)),
    Profile(name="access", title="Access", groups=("acl",)),
    Profile(name="capacity", title="Capacity", groups=("cap",)),
    Profile(name="qos", title="QoS", groups=("qos",)),
    Profile(name="vm-snapshots", title="VM snapshots", groups=("vmsnap",)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileVerdict:
    """What a run says of one profile: "conformant", "refused", "incomplete" or "not conformant"."""

    profile: Profile
    word: str
    outcomes: tuple[Outcome, ...]


def profile_of(check: Check) -> Profile:
    """Return the profile that a check belongs to."""
    return next((p for p in PROFILES if check.group in p.groups), CORE)


def chosen_profiles(names: Iterable[str]) -> tuple[Profile, ...]:
    """Return the profiles of these names, core among them; all of them if none is named.

    Raises:
        InvalidArgument: a name is unknown.
    """
    known = {p.name: p for p in PROFILES}
    wanted = list(names)
    for name in wanted:
        if name not in known:
            raise InvalidArgument(f"profile {name!r} is unknown; {did_you_mean(name, list(known))}")
    return tuple(p for p in PROFILES if not wanted or p is CORE or p.name in wanted)


def by_profile(verdict: Verdict) -> list[ProfileVerdict]:
    """Return what the run says of each profile that it has a check of."""
    found = []
    for profile in PROFILES:
        outcomes = tuple(o for o in verdict.outcomes if profile_of(o.check) is profile)
        if outcomes:
            found.append(ProfileVerdict(profile=profile, word=_word(verdict, outcomes), outcomes=outcomes))
    return found


def _word(verdict: Verdict, outcomes: Sequence[Outcome]) -> str:
    musts = [o for o in outcomes if o.check.level is Level.MUST]
    unclaimed = {Result.REFUSED, Result.NOT_APPLICABLE}
    if any(o.result in (Result.FAIL, Result.ERROR) for o in musts):
        return "not conformant"
    if musts and all(o.result in unclaimed for o in musts):
        return "refused"
    return "conformant" if holds(musts) and verdict.tier_decides and not is_open(musts) else "incomplete"
