"""How long the night takes, what limits it, and what more of anything would gain.

    volume   [place in its pool's `volumes`] cut ── tasks ── commit ── (read back)
    task     [gate] [thread of a worker] ── open ── pool, link ── cores ── link, store ── done

Each task goes through the same stages as `store_windows`, in virtual time; the queue is that of `Fleet`.
What is not modelled: caches, other users of a link, faults. A check against a real run is in bench/.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..spi import Call, Progress
from .scenario import Scenario, WorkerPlan
from .simulation import Line, Loop, Process, Slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """A night.

    Attributes:
        seconds: until the last volume is in the archive.
        read: bytes read from the pools; `stored`: bytes put into the store.
        utilisation: how busy each resource was on average, 0 to 1.
        gains: how much faster twice of each thing makes the night; 1.0: nothing.
        limit: the thing that gains most, or "" if nothing alone gains 5 %.
    """

    seconds: float
    volumes: int
    tasks: int
    read: float
    stored: float
    utilisation: Mapping[str, float]
    gains: Mapping[str, float]
    limit: str


class _Volume(NamedTuple):
    pool: str
    size: float
    tasks: int
    windows: float  # of each task
    read: float  # of each task, in bytes
    data: float  # of each task, bytes to compress and store
    whole: float  # all of its data: what is read back where the primary snapshot goes


def forecast(scenario: Scenario, progress: Progress = Call().progress) -> Forecast:  # noqa: B008 - it does nothing
    """Simulate the night, then once more with twice of each thing."""
    night = _Night(scenario)
    seconds = night.run()
    gains = {}
    for number, (name, double) in enumerate(_DOUBLES.items(), 1):
        progress(number, len(_DOUBLES) + 1)
        if (better := double(scenario)) != scenario:
            gains[name] = seconds / max(_Night(better).run(), 1e-9)
    best = max(gains, key=lambda name: gains[name], default="")
    return Forecast(
        seconds=seconds,
        volumes=len(night.volumes),
        tasks=sum(volume.tasks for volume in night.volumes),
        read=sum(volume.tasks * volume.read for volume in night.volumes),
        stored=night.stored,
        utilisation=night.utilisation(),
        gains=gains,
        limit=best if best and gains[best] >= 1.05 else "",
    )


_DOUBLES: Mapping[str, Callable[[Scenario], Scenario]] = {
    "pool bandwidth": lambda s: replace(
        s, pools={name: replace(pool, bandwidth=pool.bandwidth * 2) for name, pool in s.pools.items()}
    ),
    "store bandwidth": lambda s: replace(s, store=replace(s.store, bandwidth=s.store.bandwidth * 2)),
    "store connection": lambda s: replace(
        s, store=replace(s.store, connection=s.store.connection * 2, latency=s.store.latency / 2)
    ),
    "workers": lambda s: _workers(s, lambda w: replace(w, count=w.count * 2)),
    "worker threads": lambda s: _workers(s, lambda w: replace(w, threads=w.threads * 2)),
    "worker cores": lambda s: _workers(s, lambda w: replace(w, cores=w.cores * 2)),
    "worker links": lambda s: _workers(s, lambda w: replace(w, link=w.link * 2)),
    "volumes at once": lambda s: replace(
        s, coordinator=replace(s.coordinator, volumes=s.coordinator.volumes * 2)
    ),
    "task limits": lambda s: replace(
        s,
        coordinator=replace(
            s.coordinator, per_pool=s.coordinator.per_pool * 2, per_store=s.coordinator.per_store * 2
        ),
    ),
}


def _workers(scenario: Scenario, change: Callable[[WorkerPlan], WorkerPlan]) -> Scenario:
    return replace(scenario, workers=tuple(change(worker) for worker in scenario.workers))


class _Worker:
    def __init__(self, name: str, plan: WorkerPlan) -> None:
        self.plan = plan
        self.threads = Slots(plan.threads)
        self.load = 0
        self.cores = Line(f"{name} cores", plan.hash, plan.cores)
        self.inwards, self.outwards = Line(f"{name} link in", plan.link), Line(f"{name} link out", plan.link)

    def work(self, read: float, data: float) -> float:
        """Return the CPU work as bytes of hashing."""
        return read + data * self.plan.hash / self.plan.compress if self.plan.compress < math.inf else read


class _Night:
    """One run of the simulation."""

    def __init__(self, scenario: Scenario) -> None:
        self._plan = scenario
        self._loop = Loop()
        chance = random.Random(scenario.seed)  # noqa: S311 - a simulation
        self.volumes = list(_drawn(scenario, chance))
        self.stored = 0.0
        self._pools = {name: Line(f"pool {name}", pool.bandwidth) for name, pool in scenario.pools.items()}
        self._store = Line("store in", scenario.store.bandwidth)
        self._back = Line("store out", scenario.store.bandwidth)
        plans = [plan for plan in scenario.workers for _ in range(plan.count)]
        self._workers = [_Worker(f"worker {number}", plan) for number, plan in enumerate(plans, 1)]
        limits = scenario.coordinator
        endless = len(self.volumes) * limits.volumes + 10**9
        self._to_store = Slots(limits.per_store or endless)
        self._of_pool = {name: Slots(limits.per_pool or endless) for name in scenario.pools}
        self._places = {name: Slots(limits.volumes) for name in scenario.pools}

    def run(self) -> float:
        """Return when the last volume is done."""
        for volume in sorted(self.volumes, key=lambda volume: -volume.size):  # as `in_turns`
            self._loop.start(self._volume(volume))
        return self._loop.run()

    def _volume(self, volume: _Volume) -> Process:
        yield self._places[volume.pool]
        yield self._loop.now + self._plan.coordinator.volume_seconds
        left = [volume.tasks]
        ended = Slots(0)
        for _ in range(volume.tasks):
            self._loop.start(self._task(volume, left, ended))
        if volume.tasks:
            yield ended
        if not self._plan.pools[volume.pool].tracks_changes:
            yield self._read_back(volume)
        self._loop.release(self._places[volume.pool])

    def _task(self, volume: _Volume, left: list[int], ended: Slots) -> Process:
        yield self._of_pool[volume.pool]
        yield self._to_store
        worker = min(
            (worker for worker in self._workers if volume.pool in worker.plan.pools),
            key=lambda worker: worker.load / worker.plan.threads,
        )
        worker.load += 1
        yield worker.threads
        yield self._loop.now + self._plan.coordinator.task_seconds
        now = self._loop.now
        arrived = max(self._pools[volume.pool].book(now, volume.read), worker.inwards.book(now, volume.read))
        yield arrived + self._plan.pools[volume.pool].latency
        yield self._computed(worker, volume)
        yield self._sent(worker, volume)
        worker.load -= 1
        for slots in (worker.threads, self._to_store, self._of_pool[volume.pool]):
            self._loop.release(slots)
        left[0] -= 1
        if not left[0]:
            self._loop.release(ended)

    def _lanes(self) -> int:
        return min(self._plan.coordinator.lanes, self._plan.coordinator.batch)

    def _computed(self, worker: _Worker, volume: _Volume) -> float:
        """Return when the lanes of a task have hashed and compressed their shares."""
        share = worker.work(volume.read, volume.data) / self._lanes()
        return max(worker.cores.book(self._loop.now, share) for _ in range(self._lanes()))

    def _sent(self, worker: _Worker, volume: _Volume) -> float:
        """Return when a task's parts are stored, over one connection per lane."""
        size, now, store = volume.data * worker.plan.ratio, self._loop.now, self._plan.store
        self.stored += size
        parts = math.ceil(volume.windows / self._lanes())
        alone = now + parts * store.latency + size / self._lanes() / store.connection
        return max(alone, worker.outwards.book(now, size), self._store.book(now, size))

    def _read_back(self, volume: _Volume) -> float:
        """Return when the coordinator has read all parts, over four connections as `verify` does."""
        size, now, store = volume.whole, self._loop.now, self._plan.store
        alone = now + store.latency + size / 4 / store.connection
        return max(alone, self._back.book(now, size))

    def utilisation(self) -> dict[str, float]:
        """Return the share of the night that each thing was busy; idle ones are left out."""
        lines = [*self._pools.values(), self._store, self._back]
        for worker in self._workers:
            lines += [worker.cores, worker.inwards, worker.outwards]
        end = max(self._loop.now, 1e-9)
        return {line.name: line.busy / line.servers / end for line in lines if line.busy}


def _drawn(scenario: Scenario, chance: random.Random) -> Iterator[_Volume]:
    """Yield every volume of the fleet, with its size and changes drawn."""
    for group in scenario.volumes:
        tracked = scenario.pools[group.pool].tracks_changes
        for _ in range(group.count):
            size = group.size.draw(chance)
            data = size * min(1.0, group.data.draw(chance))
            changed = data * min(1.0, group.changed.draw(chance))
            touched = min(1.0, group.touched.draw(chance))
            if group.full:
                changed, touched = data, 1.0
            looked = changed if tracked else data
            windows = math.ceil(looked and data / scenario.coordinator.window * (touched if tracked else 1))
            tasks = math.ceil(windows / scenario.coordinator.batch)
            share = max(1, tasks)
            yield _Volume(group.pool, size, tasks, windows / share, looked / share, changed / share, data)
