"""What a server forgets by age."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bollard.core.catalog import publish
from bollard.core.event_stream import EventStream
from bollard.core.jobs import Order
from bollard.core.service.pruning import Keeping, Pruning
from bollard.core.spi import NotFound

pytest_plugins = ["catalog_fixture"]

DAY = 86400.0


@pytest.fixture
def pruning(catalog, orders):
    """Make what prunes the catalog, by the orders' clock."""
    return lambda **days: Pruning(orders, EventStream(catalog), Keeping(**days))


def test_jobs_are_forgotten_when_they_have_been_over_for_long(pruning, orders, clock):
    """A month after its end a job is gone, and its idempotency key is free; one that waits stays for ever."""
    over = orders.submit(Order(kind="thing", idempotency_key="k"))
    orders.cancel(over.id)
    waits = orders.submit(Order(kind="thing"))
    clock.now += 29 * DAY
    pruning().round()
    assert orders.get(over.id).state.over
    clock.now += 2 * DAY
    pruning(jobs=0.0).round()
    assert orders.get(over.id).state.over
    assert pruning().round() == 3600.0

    with pytest.raises(NotFound):
        orders.get(over.id)
    assert orders.submit(Order(kind="other", idempotency_key="k")).id != over.id
    assert orders.get(waits.id).id == waits.id


def test_events_are_forgotten_but_the_newest(catalog, orders):
    """A month later the newest one is left, whatever its age; without a limit all are."""
    with catalog.transaction() as session:
        for n in range(3):
            publish(session, "thing", "a", "Happened", {"n": n})
    stream = EventStream(catalog)
    now = datetime.now(UTC)

    def left(days: float, keeping: Keeping) -> list[int]:
        Pruning(orders, stream, keeping, now=lambda: now + timedelta(days=days)).round()
        return [one.data["n"] for one in stream.read()]

    assert left(29, Keeping()) == [0, 1, 2]
    assert left(31, Keeping(events=0.0)) == [0, 1, 2]
    assert left(31, Keeping()) == [2]
