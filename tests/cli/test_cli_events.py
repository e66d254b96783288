"""`bollard events dead`: what a webhook's receiver refused too often."""

from __future__ import annotations

from contextlib import closing

from bollard.core.catalog import publish
from bollard.core.config import load_config
from bollard.core.event_stream import Deliverer, Webhook
from bollard.core.service.catalog_place import open_catalog
from bollard.core.spi import Internal
from bollard.transfer_objects import Secret

HOOK = Webhook(url="https://receiver.example/", secret=Secret("correct-horse-battery"), attempts=1)


def _refused(_event, _now) -> None:
    raise Internal("the receiver answered 500")


def test_dead_letters_are_listed_and_tried_again(bollard, home):
    """What was given up is shown with the reason, and not any more when it is to be tried again."""
    assert bollard("events", "dead", "list").out == "No event was given up.\n"
    with closing(open_catalog(load_config())) as catalog:
        deliverer = Deliverer(catalog, "billing", HOOK, _refused, owner="d1")
        deliverer.step()
        with catalog.transaction() as session:
            publish(session, "volume", "vol-1", "Ready", {})
        deliverer.step()
    [row] = bollard("events", "dead", "list", "--webhook", "billing", "--json").json
    assert (row["webhook"], row["subject"], row["attempts"]) == ("billing", "volume/vol-1", 1)
    assert row["error"] == "internal: the receiver answered 500"
    assert bollard("events", "dead", "retry", "billing", "--position", "99", "--json").json == {"retried": 0}
    assert bollard("events", "dead", "retry", "billing", "--json").json == {"retried": 1}
    assert bollard("events", "dead", "list", "--json").json == []
