"""Which snapshots are kept: the rules against a slow model, and at the places where others were wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.core.archive import Archive, CreateOptions, Policy, Timing, Workers
from bollard.core.archive.retention import Dated, read_span
from bollard.core.spi import Call, DataLoss, InvalidArgument

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
PERIODS = {"hourly": "%Y%m%d%H%z", "daily": "%Y%m%d", "weekly": "%G%V", "monthly": "%Y%m", "yearly": "%Y"}


def dated(*times: str) -> list[Dated]:
    """Snapshots named after their times."""
    return [Dated(text, datetime.fromisoformat(text).replace(tzinfo=UTC)) for text in times]


def kept(policy: Policy, snapshots: list[Dated], now: datetime = NOW) -> list[str]:
    """Ids that stay, oldest first."""
    return sorted(one.snapshot for one in policy.apply(snapshots, now) if one.keep)


moments = st.datetimes(datetime(2019, 1, 1), datetime(2026, 11, 21), timezones=st.just(UTC))  # noqa: DTZ001 - Hypothesis adds the zone
histories = st.lists(moments, min_size=1, max_size=40).map(
    lambda times: [Dated(f"s{number}", time) for number, time in enumerate(times)]
)
policies = st.builds(
    Policy,
    last=st.integers(1, 4),
    **dict.fromkeys(PERIODS, st.integers(0, 5)),
    within=st.timedeltas(timedelta(0), timedelta(days=400)),
    zone=st.sampled_from([UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("Pacific/Apia")]),
)


def model(policy: Policy, snapshots: list[Dated]) -> set[str]:
    """The rules, each by itself, with sets."""
    ordered = sorted(snapshots, key=lambda one: (one.created, one.snapshot))
    found = {one.snapshot for one in ordered[-policy.last :]}
    found |= {one.snapshot for one in ordered if one.created >= ordered[-1].created - policy.within}
    if not policy.within:
        found -= {one.snapshot for one in ordered} - {one.snapshot for one in ordered[-policy.last :]}
    for name, form in PERIODS.items():
        last_of = {one.created.astimezone(policy.zone).strftime(form): one.snapshot for one in ordered}
        count = getattr(policy, name)
        found |= set(list(last_of.values())[-count:] if count else [])
        if len(last_of) < count:
            found.add(ordered[0].snapshot)
    return found


@given(policies, histories)
def test_agrees_with_the_model(policy: Policy, snapshots: list[Dated]):
    """What is kept is what each rule by itself keeps, and never nothing."""
    assert set(kept(policy, snapshots)) == model(policy, snapshots)
    assert max(snapshots, key=lambda one: (one.created, one.snapshot)).snapshot in kept(policy, snapshots)


@given(policies, histories)
def test_applying_twice_deletes_nothing_more(policy: Policy, snapshots: list[Dated]):
    """Retention that runs again at once, as after a crash, leaves what it kept."""
    once = kept(policy, snapshots)
    assert kept(policy, [one for one in snapshots if one.snapshot in once]) == once


@given(policies, histories, st.permutations(range(40)))
def test_the_order_of_a_listing_does_not_matter(policy: Policy, snapshots: list[Dated], order: list[int]):
    """Stores list as they like."""
    shuffled = [snapshots[i] for i in order if i < len(snapshots)]
    assert policy.apply(shuffled, NOW) == policy.apply(snapshots, NOW)


def test_one_snapshot_satisfies_several_rules():
    """The newest is the last, the day's, the month's and the year's; every reason is told."""
    [newest, *_] = Policy(last=1, daily=1, monthly=1, yearly=1).apply(
        dated("2026-11-20 06:00", "2026-11-21 06:00"), NOW
    )
    assert newest.reasons == ("last 1", "daily 2026-11-21", "monthly 2026-11", "yearly 2026")


def test_days_without_a_snapshot_do_not_count():
    """Daily 2 are two days that have a snapshot, however far apart (a machine was off)."""
    times = dated("2026-01-05 01:00", "2026-01-05 23:00", "2026-06-01 01:00", "2026-11-20 01:00")
    assert kept(Policy(daily=2), times) == ["2026-06-01 01:00", "2026-11-20 01:00"]


def test_the_oldest_is_kept_until_a_rule_has_its_number():
    """In its first year an archive keeps its first snapshot for yearly 2; next year it would miss it."""
    times = dated("2026-02-01", "2026-06-01", "2026-11-01")
    verdicts = Policy(yearly=2).apply(times, NOW)
    assert [one.reasons for one in verdicts] == [("yearly 2026",), (), ("oldest, yearly",)]


def test_days_are_those_of_the_zone():
    """23:30 and 00:30 in Berlin are one day in UTC and two in Berlin."""
    times = dated("2026-07-01 21:30", "2026-07-01 22:30")
    assert kept(Policy(daily=5), dated("2026-06-01", *[one.snapshot for one in times])) == [
        "2026-06-01",
        "2026-07-01 22:30",
    ]
    berlin = Policy(daily=5, zone=ZoneInfo("Europe/Berlin"))
    assert kept(berlin, dated("2026-06-01") + times) == ["2026-06-01", *[one.snapshot for one in times]]


def test_the_hour_that_comes_twice_is_two_hours():
    """When summer time ends 02:30 comes twice; hourly keeps both."""
    times = dated("2026-10-24 00:00", "2026-10-25 00:30", "2026-10-25 01:30")
    assert len(kept(Policy(hourly=9, zone=ZoneInfo("Europe/Berlin")), times)) == 3


def test_within_counts_from_the_newest():
    """An archive that nobody fills is not emptied by the calendar."""
    times = dated("2020-01-01", "2020-01-05", "2020-01-07")
    assert kept(Policy(within=timedelta(days=3)), times) == ["2020-01-05", "2020-01-07"]


def test_a_snapshot_from_the_future_takes_nothing_with_it():
    """A clock that was wrong once does not move what "within" is measured from."""
    times = dated("2026-11-19", "2026-11-20", "2031-01-01")
    assert kept(Policy(within=timedelta(days=3)), times) == ["2026-11-19", "2026-11-20", "2031-01-01"]


def test_named_ones_stay():
    """An id in `keep` is never deleted."""
    assert kept(Policy(last=1, keep=frozenset({"2026-01-01"})), dated("2026-01-01", "2026-02-01")) == [
        "2026-01-01",
        "2026-02-01",
    ]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "keeps nothing"),
        ({"keep": ["s1"]}, "keeps nothing"),
        ({"daily": -1}, "daily"),
        ({"daily": "7"}, "daily"),
        ({"daily": True}, "daily"),
        ({"dayly": 7}, "dayly"),
        ({"within": "3 days"}, "3 days"),
        ({"within": ""}, "within"),
        ({"last": 1, "zone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"last": 1, "zone": "../../etc/passwd"}, "passwd"),
        ({"last": 1, "keep": "s1"}, "keep"),
    ],
)
def test_bad_policies_are_refused(options: dict[str, Any], told: str):
    """The error names the place, the key and the rule."""
    with pytest.raises(InvalidArgument, match=r"^\[stores.x.keep\]: .*") as caught:
        Policy.parse(options, "[stores.x.keep]")
    assert told in caught.value.message


def test_spans_are_read():
    """Years and months are upper bounds."""
    assert read_span("1y6m") == timedelta(days=366 + 6 * 31)
    assert read_span("2w3d4h") == timedelta(days=17, hours=4)
    assert Policy.parse({"within": "3d"}).within == timedelta(days=3)


# -- on an archive -----------------------------------------------------------------------------------------


@pytest.fixture
def week(kit: Any, memory: Any) -> Archive:
    """An archive with a full and four increments, a day apart, the last one today."""
    archive = Archive(
        memory,
        clock=kit.FakeClock(NOW.timestamp() + 7200),
        timing=Timing(lease=100, grace=50),
        workers=Workers(count=1, executor=kit.Inline()),
    )
    for number in range(5):
        options = CreateOptions(window_size=1024, granule=512, created=NOW - timedelta(days=4 - number))
        data = bytes([number + 1]) * 1024 + b"\1" * 1024
        parent = f"s{number - 1}" if number else None
        archive.create(
            kit.Ram(data, cell=512),
            Call(),
            volume="vol",
            snapshot=f"s{number}",
            parent=parent,
            options=options,
        )
    return archive


def snapshots(archive: Archive) -> list[str]:
    """Ids in the archive."""
    return sorted(entry.snapshot for entry in archive.list(Call()))


def test_what_stays_is_whole(kit: Any, week: Archive, memory: Any):
    """Parents go, increments stay whole, and nothing that nobody needs is left."""
    week._clock.now += 1000  # type: ignore[attr-defined]  # the kit's clock
    done = week.retain(Call(), volume="vol", policy=Policy(last=2))

    assert snapshots(week) == ["s3", "s4"]
    assert done.collected is not None
    assert done.collected.size > 0
    for number in (3, 4):
        sink = kit.Ram(2048)
        week.restore(sink, Call(), volume="vol", snapshot=f"s{number}")
        assert sink.data == bytes([number + 1]) * 1024 + b"\1" * 1024
    assert week.stats(Call(), volume="vol").unneeded.count == 0


def test_dry_run_only_tells(week: Archive, memory: Any):
    """The store is not touched."""
    before = dict(memory.objects)
    done = week.retain(Call(), volume="vol", policy=Policy(last=2), dry_run=True)
    assert [one.keep for one in done.verdicts] == [True, True, False, False, False]
    assert memory.objects == before


def test_a_damaged_manifest_stops_it(week: Archive, memory: Any):
    """Nothing is deleted while a snapshot cannot be read: it may be the one that a rule means."""
    memory.objects["v1/vol/s4/manifest.json"] += b" "
    with pytest.raises(DataLoss):
        week.retain(Call(), volume="vol", policy=Policy(last=1))
    assert snapshots(week) == ["s0", "s1", "s2", "s3", "s4"]


def test_killed_in_between_it_is_repeated(kit: Any, week: Archive, memory: Any):
    """A run that died between two deletions, or before the collect, is finished by the next."""
    policy, seen = Policy(last=1), []

    def hook(when: str, method: str, key: str) -> None:
        seen.append(method)
        if (when, method) == ("before", "delete") and seen.count("delete") > 2:
            raise kit.Crash

    memory.hook = hook
    with pytest.raises(kit.Crash):
        week.retain(Call(), volume="vol", policy=policy)
    memory.calm()
    assert 1 < len(snapshots(week)) < 5
    week.retain(Call(), volume="vol", policy=policy)
    week._clock.now += 1000  # type: ignore[attr-defined]  # the kit's clock
    week.collect(Call(), volume="vol")
    assert snapshots(week) == ["s4"]
    assert week.stats(Call(), volume="vol").unneeded.count == 0
