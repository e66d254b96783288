"""Random histories of write, backup, crash, delete and collect, on the real engine, at store-call steps.

    scheduler   ─┬─ backup s3 ──▪────▪─────────▪──x kill
                 ├─ delete s1 ─────▪────▪──▪──▪             ▪ one call to the store; between any two of
                 └─ collect   ───▪────────▪──▪──────▪──▪      them another actor may run, die, or time pass

Every actor is a thread of which only one runs at a time, handed over before each store call; so a seed
gives the same history again. Afterwards every snapshot in the archive must restore to what the volume held
(nothing lost), and a last collect must leave only what the manifests name (nothing leaked).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bollard.core.archive import Archive, CreateOptions, Timing, Workers
from bollard.core.spi import (
    Busy,
    Call,
    Conflict,
    DataLoss,
    DeadlineExceeded,
    Extent,
    NotFound,
    StorageError,
    Unavailable,
)

VOLUME = "vol"
GRANULE = 512
OPTIONS = CreateOptions(window_size=2 * GRANULE, granule=GRANULE)
TIMING = Timing(lease=100, grace=50, settle=10)
CELLS = 4  # two windows of two granules
# What may happen to somebody whose rival was faster; anything else is a bug.
RACES = (NotFound, Busy, Conflict, DeadlineExceeded)


def _taken() -> threading.Lock:
    """Return a lock that whoever acquires it next waits for: the cheapest hand-over between threads."""
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass
class Actor:
    """One operation, in its own thread."""

    work: Callable[[Archive], None]
    archive: Archive
    parent: str | None
    burst: int
    credit: int = 0
    at: tuple[str, str] = ("", "")
    go: threading.Lock = field(default_factory=lambda: _taken())
    killed: bool = False
    finished: bool = False
    error: BaseException | None = None


class World:
    """A volume, its archive, and whoever works on it.

    Args:
        kit: MemoryStore, Crash, Ram, Inline.
        seed: of everything that is random.
        lagging: whether listings show the past.
        store: a real one (`SteppedStore`), whose calls may fail; None: one in memory.
    """

    def __init__(self, kit: Any, seed: int, *, lagging: bool, store: Any = None) -> None:
        self.kit = kit
        self.random = random.Random(seed)  # noqa: S311 - a history, no secret
        self.now = 1_000_000.0
        options = kit.MemoryOptions(conditional_put=not lagging, listing_consistent=not lagging)
        self.store = store or kit.MemoryStore(options)
        self.accepted: tuple[type[BaseException], ...] = (kit.Crash, *RACES)
        if store is not None:
            self.accepted += (Unavailable,)  # what the engine makes of a fault is up to the next run
        self.store.hook = self._before_call
        self.volume = bytearray(CELLS * GRANULE)
        self.content: dict[str, bytes] = {}  # what the volume held when a snapshot was cut
        self.parent: dict[str, str | None] = {}
        self.committed: set[str] = set()
        self.deleting: set[str] = set()
        self.actors: list[Actor] = []
        self.current: Actor | None = None
        self.back = _taken()
        self.attempts = 0
        self.problems: list[str] = []

    # -- one actor runs at a time ----------------------------------------------------------------------

    def _before_call(self, when: str, method: str, key: str) -> None:
        actor = self.current
        if when != "before" or actor is None or not key.startswith("v1/"):
            return
        if actor.killed:
            raise self.kit.Crash
        if actor.credit:
            actor.credit -= 1
            return
        actor.at = (method, key)
        self.back.release()
        actor.go.acquire()
        if actor.killed:
            raise self.kit.Crash

    def start(self, work: Callable[[Archive], None], parent: str | None = None, writer: str = "") -> Actor:
        """Begin an operation; it stands before its first store call."""
        archive = Archive(
            self.store,
            writer=writer or self.random.choice(["a", "a", "b"]),
            clock=self._clock,
            new_attempt=self._new_attempt,
            timing=TIMING,
            workers=Workers(count=1, executor=self.kit.Inline()),
            pause=self._pause,
        )
        # A slow one makes a few calls while others come and go; that is where the races are.
        actor = Actor(work, archive, parent, burst=self.random.choice([1, 3, 20, 1000]))
        self.actors.append(actor)
        threading.Thread(target=self._run, args=(actor,), daemon=True).start()
        return actor

    def _run(self, actor: Actor) -> None:
        actor.go.acquire()
        try:
            actor.work(actor.archive)
        except BaseException as error:  # noqa: BLE001 - looked at by `step`
            actor.error = error
        actor.finished = True
        self.back.release()

    def step(self, actor: Actor, calls: int) -> None:
        """Let an actor make so many store calls, or end before."""
        actor.credit = calls - 1
        self.current = actor
        actor.go.release()
        self.back.acquire()
        self.current = None
        if actor.finished:
            self.actors.remove(actor)
            if actor.error is not None and not isinstance(actor.error, self.accepted):
                self.problems.append(f"an operation failed: {actor.error!r}")

    def step_until(self, actor: Actor, method: str, ending: str) -> None:
        """Let an actor go on until it stands before such a call."""
        while not (actor.at[0] == method and actor.at[1].endswith(ending)):
            assert not actor.finished, f"it never came to {method} {ending}"
            self.step(actor, 1)

    def finish(self, actor: Actor, *, kill: bool = False) -> None:
        """Let an actor run to its end, or kill it now."""
        actor.killed = kill
        while not actor.finished:
            self.step(actor, 1000)

    def _clock(self) -> float:
        return self.now

    def _new_attempt(self) -> str:
        self.attempts += 1
        return f"t{self.attempts}"

    def _pause(self, seconds: float) -> None:
        """Time passes, others work, and listings then show at least what was there when it began.

        They never go back behind what another one has waited for.
        """
        visible = {key: len(data) for key, data in self.store.objects.items()}
        self._before_call("before", "pause", "v1/")
        self.now += seconds
        self.store.listed |= visible

    def call(self) -> Call:
        """Return a call on the world's clock."""
        return Call(clock=self._clock)

    # -- what may happen -------------------------------------------------------------------------------

    def write(self) -> None:
        """Change a granule, now and then to zeros."""
        start = self.random.randrange(CELLS) * GRANULE
        byte = self.random.choice([0, *range(2, 8)])
        self.volume[start : start + GRANULE] = bytes([byte]) * GRANULE

    def backup(self) -> None:
        """Archive a new snapshot, or try one again that is not there yet."""
        unfinished = sorted(set(self.content) - self.committed - self.deleting)
        if unfinished and self.random.random() < 0.4:
            snapshot = self.random.choice(unfinished)
        else:
            snapshot = f"s{len(self.content)}"
            candidates = [None, *sorted(self.committed)]
            self.content[snapshot] = bytes(self.volume)
            self.parent[snapshot] = self.random.choice(candidates[-3:])
        parent = self.parent[snapshot]
        changed = self._changed(parent, snapshot) if parent and self.random.random() < 0.5 else None

        def work(archive: Archive) -> None:
            source = self.kit.Ram(self.content[snapshot], cell=GRANULE)
            archive.create(
                source,
                self.call(),
                volume=VOLUME,
                snapshot=snapshot,
                parent=parent,
                changed=changed,
                options=OPTIONS,
            )
            self.committed.add(snapshot)

        self.start(work, parent)

    def _changed(self, parent: str, snapshot: str) -> list[Extent]:
        old, new = self.content[parent], self.content[snapshot]
        starts = range(0, len(new), GRANULE)
        return [Extent(i, GRANULE) for i in starts if old[i : i + GRANULE] != new[i : i + GRANULE]]

    def delete(self) -> None:
        """Delete a snapshot, whatever state it is in; it is not archived again."""
        relied_on = [actor.parent for actor in self.actors if actor.parent]
        candidates = relied_on if self.random.random() < 0.5 else sorted(self.content)
        snapshot = self.random.choice(candidates or ["s0"])
        self.deleting.add(snapshot)
        known = sorted(self.content)
        self.start(lambda archive: self._delete(archive, snapshot, known))

    def _delete(self, archive: Archive, snapshot: str, known: list[str]) -> None:
        archive.delete(self.call(), volume=VOLUME, snapshot=snapshot, known=known)

    def collect(self) -> None:
        """Collect garbage; the catalog knows of every snapshot that was begun before."""
        known = sorted(self.content)
        self.start(lambda archive: self._collect(archive, known))

    def _collect(self, archive: Archive, known: list[str]) -> None:
        archive.collect(self.call(), volume=VOLUME, known=known)

    def time_passes(self) -> None:
        """Anything from a moment to longer than lease and grace."""
        self.now += self.random.choice([1, 60, 120, 200])

    def play(self, steps: int) -> None:
        """Let things happen: how often each does is random, too, so that histories differ in kind."""
        happenings = [self.write, self.backup, self.delete, self.collect, self.time_passes]
        weights = [self.random.expovariate(1 / mean) for mean in (2, 4, 4, 1, 1)]
        begin = self.random.choice([0.15, 0.3, 0.6])
        kill = self.random.choice([0, 0.02, 0.1])
        self.volume[:] = bytes([1]) * len(self.volume)
        self.backup()
        self.finish(self.actors[0])
        for _ in range(steps):
            if self.actors and (self.random.random() > begin or len(self.actors) >= 4):
                actor = self.random.choice(self.actors)
                if self.random.random() < kill:
                    self.finish(actor, kill=True)
                if not actor.finished:
                    self.step(actor, self.random.randint(1, actor.burst))
            else:
                self.random.choices(happenings, weights)[0]()
            if self.random.random() < 0.2:
                self.store.settle()

    # -- what must be true -----------------------------------------------------------------------------

    def check(self) -> list[str]:
        """End everything, and return what is wrong; from here on no call fails."""
        while self.actors:
            actor = self.random.choice(self.actors)
            self.finish(actor, kill=self.random.random() < 0.3)
        self.store.faults = 0.0
        self._check_restores("after the history")
        self.now += TIMING.lease + TIMING.grace + 1
        for round_ in range(2):
            self.store.settle()
            self.collect()
            self.finish(self.actors[0])
            self._check_restores(f"after collect {round_}")
        self._check_leaks()
        return self.problems

    def _archive(self) -> Archive:
        return Archive(self.store, workers=Workers(count=1, executor=self.kit.Inline()))

    def _check_restores(self, when: str) -> None:
        archive, call = self._archive(), Call()
        present = {key.split("/")[2] for key in self.store.objects if key.endswith("manifest.json")}
        for snapshot in sorted(self.committed - self.deleting - present):
            self.problems.append(f"{when}: {snapshot} was committed and is gone")
        for snapshot in sorted(present):
            sink = self.kit.Ram(CELLS * GRANULE)
            try:
                archive.restore(sink, call, volume=VOLUME, snapshot=snapshot)
            except DataLoss as error:
                self.problems.append(f"{when}: {snapshot} is lost: {error}")
                continue
            if sink.data != self.content[snapshot]:
                self.problems.append(f"{when}: {snapshot} restores to something else")

    def _check_leaks(self) -> None:
        archive, call = self._archive(), Call()
        needed = {"README.txt", "RESTORE.sh", "RESTORE.py"}
        for key in list(self.store.objects):
            if key.endswith("manifest.json"):
                needed.add(key)
                try:
                    manifest = archive.show(call, volume=VOLUME, snapshot=key.split("/")[2])
                except StorageError as error:
                    self.problems.append(f"a manifest cannot be read: {error}")
                    continue
                needed |= {manifest.key_of(window, part) for window, part in manifest.parts()}
        leaked = sorted(set(self.store.objects) - needed)
        if leaked:
            self.problems.append(f"leaked: {leaked}")


def history(kit: Any, seed: int, *, steps: int = 40) -> list[str]:
    """Play one history; return what went wrong in it."""
    world = World(kit, seed, lagging=seed % 4 == 3)
    world.play(steps)
    return world.check()


def real_history(kit: Any, seed: int, store: Any, *, steps: int = 40) -> list[str]:
    """Play one history on a real store, and clear it; return what went wrong in it."""
    world = World(kit, seed, lagging=False, store=store)
    store.hook = world._before_call
    try:
        world.play(steps)
        return world.check()
    finally:
        store.clear()
