"""A night on a real Dask cluster: workers by the pools that they reach, killed, or without a scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from bollard.core.fleet.dask_engine import DaskEngine
from bollard.core.spi import Unavailable

from .dask_rig import Cluster


class Watched(DaskEngine):
    """Tells how many tasks were handed out."""

    submitted = 0
    told: Callable[[int], object] = staticmethod(lambda _: None)

    def submit(self, task):
        """Count it."""
        future = super().submit(task)
        self.submitted += 1
        self.told(self.submitted)
        return future


@pytest.fixture
def cluster(tmp_path) -> Iterator[Cluster]:
    """A scheduler without workers."""
    (tmp_path / "dask").mkdir()
    with Cluster(tmp_path / "dask") as made:
        made.start_scheduler()
        yield made


@pytest.fixture
def engine(cluster) -> Iterator[Watched]:
    """The coordinator's client."""
    opened = Watched(f"tcp://{cluster.address}", patience=0.0, connect=10.0)
    yield opened
    opened.close()


def _two_workers(cluster: Cluster, night, engine: DaskEngine) -> None:
    cluster.start_worker("ann", "pool:ssd-1=2", night.config)
    cluster.start_worker("bob", "pool:ssd-1=2 pool:ssd-2=2", night.config)
    engine._client.wait_for_workers(2, timeout=60)


@pytest.mark.slow
def test_tasks_go_to_workers_that_reach_their_pool(night, cluster, engine):
    """Both share the pool that both reach; the other pool is one worker's; a third nobody reaches."""
    files = {"vol-1": night.make("vol-1", windows=6), "vol-2": night.make("vol-2", pool="ssd-2", windows=3)}
    _two_workers(cluster, night, engine)
    # Whoever is quick does all of a small volume: ann holds what she has in hand until the last is given out.
    engine.told = lambda count: {1: cluster.pause, 6: cluster.resume}.get(count, str)("ann")
    rows = night.run(engine, [night.job("vol-1")], config=None)
    rows |= night.run(engine, [night.job("vol-2", pool="ssd-2")], config=None)

    assert len(rows["vol-1"].shares) == 2
    [only] = rows["vol-2"].shares
    assert only.endswith(f":{cluster.processes['bob'].pid}")
    assert all(night.same(file, rows[volume]) for volume, file in files.items())
    with pytest.raises(Unavailable, match=r"reaches the pool 'hdd'.*pool:ssd-1, pool:ssd-2.*--resources"):
        engine.check("hdd")


@pytest.mark.slow
def test_a_worker_killed_with_tasks_in_hand(night, cluster, engine):
    """One that hangs and is then killed has its windows done by the other; the archive is right."""
    file = night.make("vol-1", windows=8)
    _two_workers(cluster, night, engine)
    engine.told = lambda count: {1: lambda: cluster.pause("ann"), 7: lambda: cluster.kill("ann")}.get(
        count, bool
    )()
    bob = cluster.processes["bob"].pid
    row = night.run(engine, [night.job("vol-1")], config=None)["vol-1"]

    assert "ann" not in cluster.processes
    assert {worker.rpartition(":")[2] for worker in row.shares} == {str(bob)}
    assert night.same(file, row)


@pytest.mark.slow
def test_a_scheduler_killed_ends_the_job_and_the_repeated_run_finishes_it(night, cluster, engine):
    """Without its scheduler a job fails, typed; with a new one the same run adopts what was stored."""
    file = night.make("vol-1", windows=6)
    _two_workers(cluster, night, engine)
    engine.told = lambda count: cluster.kill("scheduler") if count == 5 else None
    failed = night.run(engine, [night.job("vol-1")], config=None)["vol-1"]
    stored = set((night.home / "store").rglob("*.zip"))
    for name in ("ann", "bob"):
        cluster.kill(name)
    cluster.start_scheduler()
    again = Watched(f"tcp://{cluster.address}", patience=0.0)
    _two_workers(cluster, night, again)
    row = night.run(again, [night.job("vol-1")], config=None)["vol-1"]
    again.close()

    assert isinstance(failed.error, Unavailable)
    assert "repeat the command" in failed.error.message
    assert stored
    assert stored <= set((night.home / "store").rglob("*.zip"))
    assert len(list((night.home / "store").rglob("*.zip"))) == 6
    assert night.same(file, row)


def test_no_scheduler_is_said(tmp_path):
    """Where nobody listens, the engine says so and names the address."""
    with pytest.raises(Unavailable, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        DaskEngine("tcp://127.0.0.1:9", connect=0.5)
