"""Kills a worker with -9 before and after every step of a migration, and looks which volume is left.

    python -m tests.snapshots.migration_kill_lab SOURCE TARGET DIRECTORY PARTS
        prints one JSON line per kill; of PARTS kills it does one

In every second round both pools are swept before the command is repeated, and what there is then is told,
too: it must be one whole volume, on either side, with its limits.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from bollard.core import migration
from bollard.core.access import Mover
from bollard.core.dataplane import NbdSink
from bollard.core.journal import FileEntry, Journal
from bollard.core.migration import VolumeMigration
from bollard.core.mover import mover_host
from bollard.core.pool import Pool, open_pool
from bollard.core.spi import Call, Capability, Qos, StorageError, VolumeSpec
from bollard.transfer_objects.ids import VolumeId

from .snapshot_kill_backends import POOLS, Backend, Steps
from .snapshot_kill_lab import in_child, killing, note, rounds

MIB = 2**20
DATA = b"first" * 20000
LIMITS = Qos(max_iops=500)
STEPS: tuple[Steps, ...] = (
    (Journal, ("begin", "replace")),
    (FileEntry, ("done",)),
    (migration, ("copy", "compare")),
    (NbdSink, ("write",)),
)
_PATIENCE = 20.0  # seconds until the qemu-nbd of a killed worker is gone, too


class Site:
    """Two open pools and the mover of this machine."""

    def __init__(self, directory: Path, backends: tuple[Backend, Backend]) -> None:
        names = ("source", "target")
        self.pools = [open_pool(n, b.driver, b.options) for n, b in zip(names, backends, strict=True)]
        self.journal = directory / "journal"
        self.mover = Mover(host=mover_host(directory), journal=Journal(self.journal))

    @property
    def limited(self) -> bool:
        """Whether the source has limits to lift."""
        return Capability.QOS in self.pools[0].capabilities().native

    def make(self, volume: VolumeId) -> None:
        """Make what is moved."""
        source = self.pools[0]
        source.volumes.create(VolumeSpec(id=volume, size=2 * MIB))
        with self.mover.writing_volume(source, volume) as sink:
            sink.write(0, DATA[:98304])
            sink.write(MIB, DATA[:4096])
            sink.flush()
        if self.limited:
            source.volumes.set_qos(volume, LIMITS)

    def migrate(self, volume: VolumeId) -> None:
        """Move it."""
        source, target = self.pools
        moves = VolumeMigration(source=source, target=target, mover=self.mover, keep_limits=False)
        moves.migrate(volume, Call.within(60))

    def sweep(self) -> list[str]:
        """Sweep both pools until nothing is left to do."""
        swept: list[str] = []

        def once() -> bool:
            swept.extend(line for pool in self.pools for line in self.mover.sweep_pool(pool))
            return not self.intents()

        _until(once)
        return swept

    def intents(self) -> list[str]:
        """Return what the journal still holds."""
        return sorted(path.name for path in self.journal.glob("*.intent"))

    def state(self, volume: VolumeId) -> dict[str, Any]:
        """Tell where the volume is, and whether it is whole."""
        where = [pool for pool in self.pools if volume in {v.id for v in pool.volumes.list()}]
        limited = [self.pools[0].volumes.get(volume).qos == LIMITS] if self.pools[0] in where else []
        return {
            "where": [pool.name for pool in where],
            "right": [self._right(pool, volume) for pool in where],
            "limited": limited if self.limited else [],
            "grants": [g.host for pool in where if pool.managed for g in pool.volumes.grants(volume)],
        }

    def _right(self, pool: Pool, volume: VolumeId) -> bool:
        content = bytearray(2 * MIB)
        with self.mover.reading_volume(pool, volume) as source:
            source.read_into(0, memoryview(content))
        expected = bytearray(2 * MIB)
        expected[:98304], expected[MIB : MIB + 4096] = DATA[:98304], DATA[:4096]
        return content == expected


def _until(act: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE
    while not act():
        if time.monotonic() > end:
            raise SystemExit("it does not converge")
        time.sleep(0.05)


def _repeat(site: Site, volume: VolumeId) -> None:
    """Repeat the command until it succeeds, as the user is told to."""

    def once() -> bool:
        try:
            site.migrate(volume)
        except StorageError as error:
            sys.stderr.write(f"{error!r}\n")
            return False
        return True

    _until(once)


class Lab:
    """Two backends and one journal; a volume per round."""

    def __init__(self, directory: Path, backends: tuple[Backend, Backend]) -> None:
        self.directory = directory
        self.backends = backends
        (directory / "journal").mkdir()

    def work(self, step: int) -> None:
        """Be the worker of one round."""
        site, volume = Site(self.directory, self.backends), VolumeId(f"vol-{step}")
        site.make(volume)
        steps = (*STEPS, *(backend.steps for backend in self.backends))
        killing(partial(site.migrate, volume), steps, step, partial(note, self.directory))()

    def look(self, step: int, status: int) -> None:
        """Put in order what a kill left, and print it as a line for the test."""
        site, volume = Site(self.directory, self.backends), VolumeId(f"vol-{step}")
        found: dict[str, Any] = {"status": status, "swept": [], "between": None}
        if step % 2 == 0:
            found["swept"] = site.sweep()
            found["between"] = site.state(volume)
        _repeat(site, volume)
        found |= {"later": site.sweep(), "end": site.state(volume), "intents": site.intents()}
        site.pools[1].volumes.delete(volume)
        found["left"] = [thing for backend in self.backends for thing in backend.left()]
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()

    def play(self, step: int) -> None:
        """Play one round."""
        status = in_child(partial(self.work, step))
        in_child(partial(self.look, step, status))


def main(source: str, target: str, directory: Path, parts: int) -> None:
    """Migrate undisturbed and count the borders; then kill at each of them, or at one of `parts`."""
    with ExitStack() as stack:
        first, second = (stack.enter_context(POOLS[name](directory)) for name in (source, target))
        lab = Lab(directory, (first, second))
        lab.play(0)
        for step in rounds(directory, parts, f"{source} {target}"):
            lab.play(step)


if __name__ == "__main__":
    _, *names, place, share = sys.argv
    main(names[0], names[1], Path(place), int(share))
