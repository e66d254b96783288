"""Which snapshots to keep: a pure function of a policy, the times of the snapshots, and the present.

    newest first   21 Nov 18:00   21 Nov 06:00   20 Nov 06:00   14 Nov 06:00   31 Oct 06:00
    last 1         keep
    daily 2        keep           same day       keep           enough
    monthly 3      keep           same month     same month     same month     keep
                                  delete                        delete

A rule walks from the newest to the oldest and keeps the last snapshot of each hour, day, week, month or
year that has one, until it has kept its number. Rules do not compete: one snapshot may satisfy several,
as with restic (with borg a kept one does not count for the next rule). While a rule has not found its
number it also keeps the oldest snapshot of all, else a new archive could never grow a yearly one.

Hours, days and weeks are those of the policy's time zone, UTC unless it says otherwise: the same answer on
every machine. "Within" counts from the newest snapshot, so an archive that nobody fills any more is not
emptied by the calendar; a snapshot that claims to be from the future is kept, but nothing is measured by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..spi.errors import InvalidArgument

_SPAN = re.compile(r"(?:(\d{1,5})y)?(?:(\d{1,5})m)?(?:(\d{1,5})w)?(?:(\d{1,5})d)?(?:(\d{1,5})h)?")
# A year and a month as upper bounds, so that "within 1m" never drops what was made a month ago.
_UNITS = (timedelta(days=366), timedelta(days=31), timedelta(weeks=1), timedelta(days=1), timedelta(hours=1))

_PERIODS: Mapping[str, Callable[[datetime], str]] = {
    "hourly": lambda t: f"{t:%Y-%m-%d %Hh%z}",  # with the offset: at the end of summer an hour comes twice
    "daily": lambda t: f"{t:%Y-%m-%d}",
    "weekly": lambda t: f"{t:%G-W%V}",
    "monthly": lambda t: f"{t:%Y-%m}",
    "yearly": lambda t: f"{t:%Y}",
}


@dataclass(frozen=True, slots=True)
class Dated:
    """A snapshot and when it was cut."""

    snapshot: str
    created: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a snapshot: it is kept for these reasons, or goes if there are none."""

    snapshot: str
    created: datetime
    reasons: tuple[str, ...]

    @property
    def keep(self) -> bool:
        """True if at least one rule wants it."""
        return bool(self.reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How many snapshots to keep of each kind.

    Attributes:
        last: the newest ones, whatever their times.
        hourly: and `daily` to `yearly`: hours, days … that have a snapshot, of each the last one.
        within: all that are at most so much older than the newest.
        keep: ids that are never deleted.
        zone: whose hours and days.
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: timedelta = timedelta(0)
    keep: frozenset[str] = field(default=frozenset())
    zone: tzinfo = UTC

    def __post_init__(self) -> None:
        counts = {name: getattr(self, name) for name in ("last", *_PERIODS)}
        for name, count in counts.items():
            if type(count) is not int or count < 0:
                raise InvalidArgument(f"keep {name}: a number from 0 on, got {count!r}")
        if self.within < timedelta(0):
            raise InvalidArgument("keep within: a positive time")
        if not any(counts.values()) and not self.within:
            raise InvalidArgument("this policy keeps nothing: give it a number to keep, such as daily 7")

    @classmethod
    def parse(cls, options: Mapping[str, Any], where: str = "the policy") -> Policy:
        """Return a policy from plain values: numbers, `within` "3d12h", `zone` "Europe/Berlin".

        Raises:
            InvalidArgument: naming `where`, the key and the rule.
        """
        known = {one.name for one in fields(cls)}
        for key in options:
            if key not in known:
                raise InvalidArgument(f"{where}: {key!r} is unknown; there are {', '.join(sorted(known))}")
        try:
            return cls(**{key: _READERS.get(key, _as_it_is)(value) for key, value in options.items()})
        except InvalidArgument as error:
            raise InvalidArgument(f"{where}: {error.message}") from error

    def apply(self, snapshots: Iterable[Dated], now: datetime) -> list[Verdict]:
        """Return a verdict on each snapshot of one volume, newest first; at least the newest is kept.

        Args:
            now: with a time zone; what is later than that is kept and not counted by `within`.
        """
        ordered = sorted(snapshots, key=lambda one: (one.created, one.snapshot), reverse=True)
        reasons: dict[str, list[str]] = {one.snapshot: [] for one in ordered}
        for number, one in enumerate(ordered[: self.last], 1):
            reasons[one.snapshot].append(f"last {number}")
        for name in _PERIODS:
            self._periods(name, ordered, reasons)
        self._within(ordered, now, reasons)
        for one in ordered:
            if one.snapshot in self.keep:
                reasons[one.snapshot].append("named")
        return [Verdict(one.snapshot, one.created, tuple(reasons[one.snapshot])) for one in ordered]

    def _periods(self, name: str, ordered: list[Dated], reasons: dict[str, list[str]]) -> None:
        left, previous = getattr(self, name), ""
        for one in ordered:
            period = _PERIODS[name](one.created.astimezone(self.zone))
            if left and period != previous:
                reasons[one.snapshot].append(f"{name} {period}")
                left -= 1
            elif left and one is ordered[-1]:
                reasons[one.snapshot].append(f"oldest, {name}")
            previous = period

    def _within(self, ordered: list[Dated], now: datetime, reasons: dict[str, list[str]]) -> None:
        if not self.within:
            return
        newest = next((one.created for one in ordered if one.created <= now), now)
        for one in ordered:
            if one.created > now:
                reasons[one.snapshot].append("from the future")
            elif newest - one.created <= self.within:
                reasons[one.snapshot].append("within")


def read_span(text: object) -> timedelta:
    """Return a time such as "1y6m", "2w", "3d12h"; a month has 31 days here and a year 366.

    Raises:
        InvalidArgument: it is none.
    """
    match = _SPAN.fullmatch(text) if isinstance(text, str) and text else None
    if match is None:
        raise InvalidArgument(f"within {text!r} is no time: write it like 3d, 12h, 2w, 1y6m")
    return sum((int(n or 0) * unit for n, unit in zip(match.groups(), _UNITS, strict=True)), timedelta(0))


def read_zone(name: object) -> tzinfo:
    """Return a time zone by its name in the IANA data base.

    Raises:
        InvalidArgument: this machine knows none of that name.
    """
    try:
        return ZoneInfo(name)  # type: ignore[arg-type]  # whatever it is, it is told below
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError, AttributeError) as error:
        raise InvalidArgument(f"zone {name!r} is unknown here: write it like Europe/Berlin") from error


def _read_ids(value: object) -> frozenset[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise InvalidArgument(f"keep: a list of snapshot ids, got {value!r}")
    return frozenset(value)


def _as_it_is(value: object) -> object:
    return value


_READERS: Mapping[str, Callable[[object], Any]] = {
    "within": read_span,
    "zone": read_zone,
    "keep": _read_ids,
}
