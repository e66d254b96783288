"""A night on threads and processes: every volume in the archive, fairly, whatever happens to one of them."""

from __future__ import annotations

import json
import os
import pickle
import signal
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

from bollard.core.fleet import ExecutorEngine, Limits, jobs_in, jobs_of, open_engine, site_of, store_windows
from bollard.core.spi import Call, Conflict, InvalidArgument, NotFound, Unavailable


@pytest.mark.parametrize("url", ["threads:2", "processes:2"])
def test_a_night_archives_every_volume(night, url):
    """Many small volumes and one of several windows come back as they were, from both pools."""
    files = {f"vol-{i}": night.make(f"vol-{i}", pool=f"ssd-{i % 2 + 1}") for i in range(4)}
    files["huge"] = night.make("huge", windows=5)
    jobs = [*jobs_of(site_of(night.config).pool("ssd-1")), *jobs_of(site_of(night.config).pool("ssd-2"))]
    with open_engine(url) as engine:
        rows = night.run(engine, jobs)

    assert sorted(rows) == sorted(files)
    assert sum(rows["huge"].shares.values()) == 5
    for volume, row in rows.items():
        assert night.same(files[volume], row)


def test_a_failed_volume_stops_no_other_and_a_repeat_finishes_it(night):
    """What cannot be archived is a row with its error; repeated, the run does only what is left."""
    file = night.make("vol-1")
    jobs = [night.job("vol-1"), night.job("vol-2"), night.job("vol-3", pool="none")]
    with open_engine("threads:2") as engine:
        first = night.run(engine, jobs)
        other = night.make("vol-2")
        second = night.run(engine, jobs)

    assert [type(first[v].error) for v in ("vol-1", "vol-2", "vol-3")] == [type(None), NotFound, NotFound]
    assert [second[v].fresh for v in ("vol-1", "vol-2")] == [False, True]
    assert second["vol-1"].manifest == first["vol-1"].manifest
    assert night.same(file, second["vol-1"])
    assert night.same(other, second["vol-2"])


def test_the_next_run_is_an_increment(night):
    """Under another name the same volumes are archived anew, on top of what is there."""
    file = night.make("vol-1", windows=2)
    with open_engine("threads:2") as engine:
        monday = night.run(engine, [night.job("vol-1")], run="mon")["vol-1"]
        with file.open("r+b") as volume:
            volume.write(b"tuesday")
        tuesday = night.run(engine, [night.job("vol-1")], run="tue")["vol-1"]

    assert tuesday.manifest.parent == monday.snapshot
    assert tuesday.manifest.windows[0] != monday.manifest.windows[0]
    assert tuesday.manifest.windows[1] == monday.manifest.windows[1]
    assert night.same(file, tuesday)


def test_a_process_killed_in_the_midst_costs_a_retry(night):
    """A child that dies with its tasks takes the executor along; a new one does them, and the rest."""
    file = night.make("vol-1", windows=6)
    killed: list[int] = []

    class Killing(ExecutorEngine):
        def submit(self, task):
            future = super().submit(task)
            children: Any = self._executor
            # Only when all are there: Python 3.11 starts them one by one, and what looks after a broken pool
            # stumbles over one that is just being added ("dictionary changed size", in 2 of 5 runs).
            if not killed and len(children._processes) == 2:
                killed.append(next(iter(children._processes)))
                os.kill(killed[0], signal.SIGKILL)
            return future

    engine = Killing(lambda: ProcessPoolExecutor(2, mp_context=get_context("spawn")), 2)
    row = night.run(engine, [night.job("vol-1")])["vol-1"]
    engine.close()

    assert killed
    assert night.same(file, row)


def test_a_worker_lost_again_and_again_ends_the_job_and_the_next_run_goes_on(night):
    """After a few losses over one task the job fails, typed; the repeated run adopts what was stored."""
    file = night.make("vol-1", windows=3)

    class Losing(ExecutorEngine):
        def submit(self, task):
            future = super().submit(task)
            if task.windows[0].offset == 0:
                future.result()
                raise_lost = ThreadPoolExecutor(1)
                future = raise_lost.submit(_lose)
                raise_lost.shutdown()
            return future

        def lost(self, error):
            return isinstance(error, ChildProcessError)

    engine = Losing(lambda: ThreadPoolExecutor(1), 1)
    failed = night.run(engine, [night.job("vol-1")])["vol-1"]
    engine.close()
    parts = set((night.home / "store").rglob("*.zip"))
    with open_engine("threads:1") as threads:
        row = night.run(threads, [night.job("vol-1")])["vol-1"]

    assert isinstance(failed.error, Unavailable)
    assert set((night.home / "store").rglob("*.zip")) >= parts > set()
    assert len(list((night.home / "store").rglob("*.zip"))) == 3
    assert night.same(file, row)


def _lose():
    raise ChildProcessError("gone")


def test_a_task_names_no_secret_and_knows_when_the_job_is_over(night):
    """What travels is names and numbers; a worker that gets it after the end of the job puts nothing."""
    night.make("vol-1")
    seen = []

    class Keeping(ExecutorEngine):
        def submit(self, task):
            seen.append(pickle.dumps(task))
            return super().submit(task)

    engine = Keeping(lambda: ThreadPoolExecutor(1), 1)
    row = night.run(engine, [night.job("vol-1")])["vol-1"]
    engine.close()
    task = pickle.loads(seen[0])  # noqa: S301 - our own
    with night.archive() as archive:
        archive.delete(Call(), volume="vol-1", snapshot=row.snapshot)
    before = sorted((night.home / "store").rglob("*.zip"))

    assert task.pool == "ssd-1"
    assert str(night.home / "store").encode() not in seen[0]  # an address is the worker's own business, too
    with pytest.raises(Conflict, match="taken away"):
        store_windows(task)
    assert sorted((night.home / "store").rglob("*.zip")) == before == []


def test_a_file_of_jobs_is_checked_entry_by_entry(tmp_path):
    """What is wrong is told with its place; defaults are filled in."""
    path = tmp_path / "jobs.json"

    def read(entries):
        path.write_text(json.dumps(entries))
        return jobs_in(path, "ssd-1")

    assert [
        (j.volume, j.pool, j.tenant) for j in read([{"volume": "a"}, {"volume": "b", "tenant": "t"}])
    ] == [
        ("a", "ssd-1", ""),
        ("b", "ssd-1", "t"),
    ]
    for entries, said in [
        ({}, "must be a list"),
        ([{"volum": "a"}], "job 0: key 'volum' is unknown"),
        ([{"volume": "a"}, {"volume": "../b"}], "job 1: volume is missing or not an id"),
        ([{"volume": "a", "parent": 3}], "parent must be text"),
        ([{"volume": "a"}, {"volume": "a"}], "volume a of pool ssd-1 is there twice"),
    ]:
        with pytest.raises(InvalidArgument, match=said):
            read(entries)


def test_limits_and_names_are_checked_before_anything_is_cut(night):
    """A bad run name, store or limit is one error, and no snapshot was taken."""
    night.make("vol-1")
    with open_engine("threads:1") as engine:
        for more in ({"run": "No!"}, {"run": "x" * 60}):
            with pytest.raises(InvalidArgument, match="run must be an id"):
                night.run(engine, [night.job("vol-1")], **more)
        with pytest.raises(NotFound, match="no store"):
            night.run(engine, [night.job("vol-1")], store="weekly")
    with pytest.raises(InvalidArgument, match="per_pool"):
        Limits(per_pool=0)
    with pytest.raises(InvalidArgument, match="none of threads"), open_engine("ray://x:1"):
        pass
    assert list(site_of(night.config).pool("ssd-1").snapshots.list("vol-1")) == []
