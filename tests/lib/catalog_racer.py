"""One orchestrator of a race, as a process of its own: `python catalog_racer.py URL NAME COUNT`.

It lets events happen to a few volumes, as fast as it can, and tells on standard output what it did:
"<volume> <event> <state before> <state after>" for each move that was committed.
"""

from __future__ import annotations

import random
import sys
from contextlib import closing

from sqlalchemy.orm import Session

from bollard.core.catalog import Catalog, IllegalTransition, requested_by
from bollard.core.catalog.paging import one
from bollard.core.catalog.volume_states import VolumeEvent
from bollard.core.catalog.volumes import VolumeRecord

VOLUMES = ("v0", "v1", "v2")
EVENTS = sorted(set(VolumeEvent) - {VolumeEvent.EXPUNGE_REQUESTED})  # its end would be the race's


def race(url: str, name: str, count: int) -> None:
    """Try so many events; an illegal one is an answer."""
    choose = random.Random(name)  # noqa: S311 - which event, not a secret
    with closing(Catalog(url)) as catalog, requested_by(name):
        for number in range(count):
            volume, event = choose.choice(VOLUMES), choose.choice(EVENTS)
            scope = "" if number % 5 == 0 else f"volume:{volume}"  # the whole catalog, now and then

            def work(session: Session, volume: str = volume, event: VolumeEvent = event) -> str:
                record = one(session, VolumeRecord, volume)
                before = record.state
                record.take(event)
                record.size += 1  # counts the moves: an update that was lost would be missing here
                return f"{volume} {event} {before} {record.state}"

            try:
                print(catalog.run(work, scope=scope), flush=True)  # noqa: T201 - what the race reads
            except IllegalTransition:
                continue


if __name__ == "__main__":
    race(sys.argv[1], sys.argv[2], int(sys.argv[3]))
