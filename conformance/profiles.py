"""Profiles: what a verdict is about. A vendor claims those that it sells, and a certificate names them.

core            everything that needs no capability of its own
snapshots …     what a capability adds; refused as a whole where the driver does not declare it
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..core.spi import Capability, InvalidArgument
from ..transfer_objects.errors import did_you_mean
from .model import Check, Level, Outcome, Result, Verdict, holds, is_open


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A set of check groups under a name and a version of its own.

    Attributes:
        needs: the capabilities that it is about, of which a driver of each kind has one. Some checks of
            `inc` hold without changed blocks, since an increment falls back to a full: nobody may claim
            increments for that.
    """

    name: str
    title: str
    groups: tuple[str, ...]
    needs: tuple[Capability, ...] = ()
    version: str = "1.0"


CORE = Profile(name="core", title="Core", groups=())
PROFILES: tuple[Profile, ...] = (
    CORE,
    Profile(name="snapshots", title="Snapshots", groups=("snap",), needs=(Capability.SNAPSHOTS,)),
    Profile(name="archive", title="Archive", groups=("arc",), needs=(Capability.SNAPSHOTS,)),
    Profile(
        name="incremental",
        title="Incremental",
        groups=("inc",),
        needs=(Capability.CHANGED_BLOCKS, Capability.BACKUPS),
    ),
    Profile(name="access", title="Access", groups=("acl",), needs=(Capability.ACCESS_CONTROL,)),
    Profile(name="capacity", title="Capacity", groups=("cap",), needs=(Capability.CAPACITY,)),
    Profile(name="qos", title="QoS", groups=("qos",), needs=(Capability.QOS,)),
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
            word = _word(profile, verdict, outcomes)
            found.append(ProfileVerdict(profile=profile, word=word, outcomes=outcomes))
    return found


def _word(profile: Profile, verdict: Verdict, outcomes: Sequence[Outcome]) -> str:
    musts = [o for o in outcomes if o.check.level is Level.MUST]
    unclaimed = {Result.REFUSED, Result.NOT_APPLICABLE}
    if any(o.result in (Result.FAIL, Result.ERROR) for o in musts):
        return "not conformant"
    lacking = bool(profile.needs) and not set(profile.needs) & set(verdict.capabilities)
    if lacking or (musts and all(o.result in unclaimed for o in musts)):
        return "refused"
    return "conformant" if holds(musts) and verdict.tier_decides and not is_open(musts) else "incomplete"
