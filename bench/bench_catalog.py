"""What an orchestrator asks of its catalog, at 1,000 and at 10,000 VMs: it must cost the same.

    python bench/bench_catalog.py [VMs]

10,000 VMs have 50,000 volumes, 500,000 snapshots with as many refs, and as many moves of history; 20 of each
kind are unfinished. Each question is asked 50 times; medians in milliseconds. PostgreSQL is one of our own on
loopback that waits for the disk, as SQLite does.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "lib"))  # where PostgreSQL is

from sqlalchemy.orm import Session

from bollard.core.catalog import Catalog
from bollard.core.catalog.paging import page, unfinished
from bollard.core.catalog.snapshot_states import SNAPSHOTS, SnapshotEvent
from bollard.core.catalog.snapshots import REFS, Ref, SnapshotRecord, refs_of_volume, snapshot_of
from bollard.core.catalog.transitions import history
from bollard.core.catalog.volume_states import VOLUMES
from bollard.core.catalog.volumes import VolumeRecord
from catalog_filling import fill
from postgres import Postgres

ROUNDS = 50
SMALL = 1_000  # VMs

ASKED: dict[str, Callable[[Session], Any]] = {
    "list: first page of 100 snapshots": lambda s: page(s, SnapshotRecord),
    "list: a page from the middle": lambda s: page(s, SnapshotRecord, after="snap-30"),
    "list: volumes of a VM": lambda s: page(s, VolumeRecord, VolumeRecord.vm == "vm-77"),
    "sync: unfinished volumes": lambda s: unfinished(s, VolumeRecord, VOLUMES),
    "sync: unfinished snapshots": lambda s: unfinished(s, SnapshotRecord, SNAPSHOTS),
    "sync: unfinished refs": lambda s: unfinished(s, Ref, REFS),
    "sweep: whose is this file?": lambda s: page(
        s, Ref, Ref.store == "store-1", Ref.path == "snapshots/snap-777"
    ),
    "chain of a volume, locked": lambda s: refs_of_volume(s, "vol-77"),
    "history of a snapshot": lambda s: history(s, "snapshot", "snap-777"),
}


def milliseconds(act: Callable[[], object]) -> float:
    """Return the median of some rounds; the first one is left out."""
    act()
    took = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        act()
        took.append(1000 * (time.perf_counter() - begun))
    return statistics.median(took)


def measure(url: str, vms: int) -> dict[str, float]:
    """Return what each question costs in a catalog of so many VMs."""
    with closing(Catalog(url)) as catalog:
        with catalog.transaction() as session:
            fill(session, vms)
        figures = {what: milliseconds(partial(_read, catalog, ask)) for what, ask in ASKED.items()}
        figures["a move, committed"] = milliseconds(lambda: _move(catalog))
    return figures


def _read(catalog: Catalog, ask: Callable[[Session], Any]) -> None:
    with catalog.transaction() as session:
        ask(session)


def _move(catalog: Catalog) -> None:
    with catalog.transaction(scope="volume:vol-77") as session:
        snapshot_of(session, "snap-777").take(SnapshotEvent.ON_SECONDARY)


def main(vms: int) -> None:
    """Print the table."""
    sizes = (SMALL, vms)
    with tempfile.TemporaryDirectory() as directory, Postgres(durable=True) as server:
        figures = [measure(f"sqlite:///{directory}/{size}.db", size) for size in sizes]
        figures += [measure(server.catalog_url(), size) for size in sizes]
    heads = [f"{kind}, {size:,} VMs" for kind in ("SQLite", "PostgreSQL") for size in sizes]
    print(f"| ms, load {os.getloadavg()[0]:.0f} | {' | '.join(heads)} |")
    print("|---|---|---|---|---|")
    for what in figures[0]:
        print(f"| {what} | " + " | ".join(f"{one[what]:.2f}" for one in figures) + " |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
