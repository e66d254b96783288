"""The stream of events: complete, in order, on both databases."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from bollard.core.catalog import Catalog, publish
from bollard.core.event_stream import EventStream, cloud_event, position_of
from bollard.core.jobs import Beat, Claims, Order, Orders
from bollard.core.spi import InvalidArgument

pytest_plugins = ["catalog_fixture"]


def _tell(catalog, number: int) -> None:
    with catalog.transaction() as session:
        publish(session, "thing", f"t-{number}", "Happened", {"number": number})


def test_the_life_of_a_job_is_in_the_stream(catalog):
    """Each transition is an event with its reason and request, in CloudEvents' form."""
    orders, claims = Orders(catalog), Claims(catalog)
    job = orders.submit(Order(kind="k", request_id="req-1", tenant="ci"))
    claims.succeed(claims.claim("w1", ["k"]), Beat(), {})
    found = [cloud_event(event) for event in EventStream(catalog).read()]

    assert [event["type"] for event in found] == [
        f"bollard.job.{s}" for s in ("Queued", "Running", "Succeeded")
    ]
    assert {event["subject"] for event in found} == {f"job/{job.id}"}
    assert {event["requestid"] for event in found} == {"req-1"}
    assert found[1]["data"] == {"before": "Queued", "event": "Claimed", "after": "Running", "reason": "w1"}
    assert sorted(event["sequence"] for event in found) == [event["sequence"] for event in found]
    assert found[0]["specversion"] == "1.0"


def test_what_is_undone_is_no_event(catalog):
    """A transaction that fails leaves no event."""

    def undone() -> None:
        with catalog.transaction() as session:
            publish(session, "thing", "t", "Happened", {})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        undone()
    assert EventStream(catalog).read() == []


def test_the_last_position_is_that_of_the_newest(catalog):
    """However much has happened since somebody looked: "from now on" begins behind all of it."""
    with catalog.transaction() as session:
        for number in range(1001):
            publish(session, "thing", f"t-{number}", "Happened", {})
    stream = EventStream(catalog)
    assert stream.read(stream.last()) == []


def test_pages_and_types(catalog):
    """Pages go on where the last one ended; beginnings of types choose."""
    for number in range(5):
        _tell(catalog, number)
    with catalog.transaction() as session:
        publish(session, "other_thing", "o", "Happened", {})
    stream = EventStream(catalog)
    first = stream.read(limit=2)
    rest = stream.read(position_of(first[-1]))

    assert [event.data.get("number") for event in [*first, *rest]] == [0, 1, 2, 3, 4, None]
    assert [event.subject for event in stream.read(types=["bollard.other_"])] == ["other_thing/o"]
    assert stream.last() == 6
    with pytest.raises(InvalidArgument):
        stream.read(limit=0)


def test_a_slow_transaction_is_not_passed_over(postgresql_url):
    """An event that is committed after a later one comes later in the stream, and comes."""
    catalog = Catalog(postgresql_url)
    stream, read, written = EventStream(catalog), threading.Event(), threading.Event()

    def slow() -> None:
        with catalog.transaction(scope="thing:slow") as session:
            publish(session, "thing", "slow", "Happened", {})
            session.flush()
            written.set()
            assert read.wait(20)

    thread = threading.Thread(target=slow)
    thread.start()
    assert written.wait(20)
    with catalog.transaction(scope="thing:fast") as session:
        publish(session, "thing", "fast", "Happened", {})
    before = stream.read()
    read.set()
    thread.join()
    after = stream.read(position_of(before[-1]))
    catalog.close()

    assert [event.subject for event in before] == ["thing/fast"]
    assert [event.subject for event in after] == ["thing/slow"]
    assert after[0].number < before[0].number


def test_followers_see_everything_once(catalog):
    """Several writers and two readers at once: each reader gets every event, in one order."""
    stop = threading.Event()
    seen: list[list[str]] = [[], []]

    def follow(into: list[str]) -> None:
        for event in EventStream(catalog, poll=0.01).follow(0, stop):
            into.append(event.subject)
            if len(into) == 30:
                return

    readers = [threading.Thread(target=follow, args=(into,)) for into in seen]
    writers = [
        threading.Thread(target=lambda n=n: [_tell(catalog, 10 * n + m) for m in range(10)]) for n in range(3)
    ]
    for thread in (*readers, *writers):
        thread.start()
    for thread in (*writers, *readers):
        thread.join(60)
    stop.set()

    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 30


def test_pruning_keeps_the_place(catalog):
    """Old events go, the newest stays, and positions go on from there."""
    for number in range(3):
        _tell(catalog, number)
    stream = EventStream(catalog)
    stream.read()

    assert stream.prune(older_than=timedelta(days=1)) == 0
    assert stream.prune(older_than=timedelta(0), now=datetime.now(UTC) + timedelta(days=1)) == 2
    _tell(catalog, 3)
    assert [position_of(event) for event in stream.read()] == [3, 4]
