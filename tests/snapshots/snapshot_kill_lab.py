"""Kills a worker with -9 before and after every step that leaves a trace, and looks at what is left.

    python -m tests.snapshots.snapshot_kill_lab take|restore POOL STORE DIRECTORY PARTS
        prints one JSON line per kill; of PARTS kills it does one, chosen by the seed of the scenario's name

Each round is a fork of this process: a volume of its own on one pool, a worker that kills itself at its
n-th step, a sweep or not, and the same command once more. Then volume and archive are deleted: whatever
still lies on pool or store is left over.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bollard.core.access import Mover
from bollard.core.archive import Archive
from bollard.core.journal import FileEntry, Journal
from bollard.core.mover import mover_host
from bollard.core.pool import open_pool
from bollard.core.store import open_store
from bollard.transfer_objects.enums import SnapshotLocation
from bollard.transfer_objects.ids import SnapshotId, VolumeId

from .snapshot_kill_backends import POOLS, STORES, Backend, Steps
from .snapshot_rig import Rig, call

MONDAY, SOURCE = SnapshotId("monday"), VolumeId("source")
DATA = b"first" * 20000
JOURNAL: tuple[Steps, ...] = ((Journal, ("begin",)), (FileEntry, ("done",)))
_LATER = 7200.0  # seconds: by then the intent of a killed archive is dead


class Lab:
    """One pool, one store, one journal; a volume per round."""

    def __init__(self, directory: Path, pool: Backend, store: Backend) -> None:
        self.directory = directory
        self.pool = pool
        self.store = store
        (directory / "journal").mkdir()

    def rig(self) -> Rig:
        """Connect anew: a connection does not outlive a fork."""
        pool = open_pool("gold", self.pool.driver, self.pool.options)
        store = open_store("nightly", self.store.driver, self.store.options)
        mover = Mover(host=mover_host(self.directory), journal=Journal(self.directory / "journal"))
        return Rig(pool, store, mover, self.directory)

    def left(self) -> list[str]:
        """What lies on pool and store."""
        return [*self.pool.left(), *self.store.left()]


def take(rig: Rig, volume: VolumeId) -> None:
    """Snapshot with location Archive."""
    rig.service.take(volume, MONDAY, call(), location=SnapshotLocation.ARCHIVE)


def restore(rig: Rig, volume: VolumeId) -> None:
    """Restore what is in the archive to a new volume."""
    rig.service.restore(SOURCE, MONDAY, volume, call())


Act = Callable[[Rig, VolumeId], None]
ACTS: dict[str, Act] = {"take": take, "restore": restore}


def killing(
    act: Callable[[], None], steps: Sequence[Steps], kill_at: int, border: Callable[[int], None]
) -> Callable[[], None]:
    """Return `act`, killed at one of its borders: 1 is before the first step, 2 after it, and so on.

    Args:
        act: what a worker does.
        steps: classes or modules, and which of their functions are a step.
        kill_at: the border; 0: none.
        border: called with each border's number.
    """

    def run() -> None:
        count = 0

        def cross() -> None:
            nonlocal count
            count += 1
            border(count)
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
            def both(*args: Any, **kwargs: Any) -> Any:
                cross()
                result = method(*args, **kwargs)
                cross()
                return result

            return both

        for cls, names in steps:
            for name in names:
                setattr(cls, name, guarded(getattr(cls, name)))
        act()

    return run


def in_child(act: Callable[[], object]) -> int:
    """Run `act` in a fork and return how it ended: 0, or -9 if it was killed."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - the edge of a process
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"the worker failed with {status}")
    return status


def look(lab: Lab, step: int, act: Act) -> dict[str, object]:
    """Sweep in every second round, repeat the command, sweep once more, and tell what there is then."""
    rig = lab.rig()
    volume, sweep = VolumeId(f"vol-{step}"), step % 2 == 0
    swept = rig.mover.sweep_pool(rig.pool) if sweep else []
    temporary = [v for v in rig.volumes() if v.startswith("tmp-")]
    act(rig, volume)
    later = rig.mover.sweep_pool(rig.pool)
    found: dict[str, object] = {
        "scenario": act.__name__,
        "swept": swept,
        "temporary": temporary if sweep else [],
        "later": later,
        "unknown": [v for v in rig.volumes() if v.startswith("tmp-")],
        "there": volume in rig.volumes(),
        "grants": [grant.host for grant in rig.pool.volumes.grants(volume)],
        "intents": rig.intents(),
        "snapshots": rig.on_pool(volume),
        "archived": rig.in_archive(volume),
    }
    if act is take:
        found["right"] = rig.archived(volume, MONDAY).startswith(DATA)
    elif found["there"]:
        found["right"] = rig.read(volume).startswith(DATA)
    clear(rig, volume)
    return found


def clear(rig: Rig, volume: VolumeId) -> None:
    """Delete a round's volume and archive, as a user who has no more need for them."""
    rig.pool.volumes.delete(volume)
    archive = Archive(rig.store, clock=lambda: time.time() + _LATER)
    archive.delete(call(), volume=volume, snapshot=MONDAY)
    rig.store.abort_uploads("", call(), older_than=0)


def begin(lab: Lab) -> None:
    """Make what a restore starts from; and what the first archive of a store puts there for good."""
    rig = lab.rig()
    rig.make(SOURCE, DATA)
    take(rig, SOURCE)


def work(lab: Lab, act: Act, step: int) -> None:
    """Be the worker of one round, which is killed at border number `step`."""
    rig = lab.rig()
    if act is take:
        rig.make(VolumeId(f"vol-{step}"), DATA)
    steps = (*JOURNAL, lab.pool.steps, lab.store.steps)
    killing(partial(act, rig, VolumeId(f"vol-{step}")), steps, step, partial(note, lab.directory))()


def note(directory: Path, count: int) -> None:
    """Write down how many borders a worker has crossed."""
    (directory / "borders").write_text(str(count))


def rounds(directory: Path, parts: int, seed: str) -> list[int]:
    """Return at which borders to kill: one of `parts` of those that the worker has crossed."""
    borders = int((directory / "borders").read_text())
    return sorted(random.Random(seed).sample(range(1, borders + 1), -(-borders // parts)))  # noqa: S311 - a seed


def play(lab: Lab, act: Act, step: int) -> None:
    """Play one round, and print what there is after it as a line for the test."""
    before = lab.left()
    status = in_child(partial(work, lab, act, step))

    def tell() -> None:
        found = {"status": status, **look(lab, step, act)}
        after = lab.left()
        found["left"] = [thing for thing in after if thing not in before]
        found["gone"] = [thing for thing in before if thing not in after]
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()

    in_child(tell)


def main(scenario: str, pool: str, store: str, directory: Path, parts: int) -> None:
    """Run undisturbed and count the borders; then kill at each of them, or at one of `parts`."""
    act = ACTS[scenario]
    with POOLS[pool](directory) as primary, STORES[store](directory) as secondary:
        lab = Lab(directory, primary, secondary)
        in_child(partial(begin, lab))
        play(lab, act, 0)
        for step in rounds(directory, parts, f"{scenario} {pool}"):
            play(lab, act, step)


if __name__ == "__main__":
    _, scenario, pool, store, directory, parts = sys.argv
    main(scenario, pool, store, Path(directory), int(parts))
