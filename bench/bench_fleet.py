"""What a second worker brings, and whether `bollard archive plan` foretells it.

    python bench/bench_fleet.py [windows]

One volume goes to an S3 server behind a proxy that answers each PUT of a part late, as a slow store does:
so the limit is the connection and not the two cores that all processes here share. The workers are processes
of a Dask cluster on this machine, of one thread and one connection each. One worker and two take turns,
three times; then the plan, from figures measured through the same proxy, is set beside the medians. The row
goes into bench/results/latest.json.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path += [str(Path(__file__).parents[1])]

import distributed

from bench.report import add
from bench.rows import compared
from bollard.core.fleet import Fleet, Job, close_sites, open_engine, site_of
from bollard.core.fleet.calibrate import calibrate
from bollard.core.fleet.forecast import forecast
from bollard.core.fleet.scenario import scenario_of
from bollard.core.spi import Call, VolumeSpec
from bollard.simulators.faults import Fault, FaultProxy
from bollard.simulators.s3 import S3Simulator
from bollard.transfer_objects.ids import VolumeId

MIB = 2**20
WINDOW = 64 * MIB
DATA = 256 * 1024  # of each window: the store is slow, not the volume large
DELAY = 0.75
ROUNDS = 3
SLOW = r"\.zip|calibration/"  # what carries data, and what is measured beforehand


@contextmanager
def slow_store(home: Path) -> Iterator[str]:
    """An S3 server whose answers to the PUT of a part take `DELAY` seconds."""
    with (
        S3Simulator(home / "s3", buckets=["archive"]) as server,
        FaultProxy.http(upstream=server.url, state=home / "proxy") as proxy,
    ):
        proxy.plan([Fault.delay(seconds=DELAY, method="PUT", path=SLOW, every=1)])
        yield proxy.url


def configure(home: Path, url: str) -> Path:
    """Write a configuration with one pool of raw files and that store."""
    for name in ("pool", "s3", "proxy"):
        (home / name).mkdir(exist_ok=True)
    s3 = f'endpoint_url = "{url}", bucket = "archive", access_key = "a", secret_key = "correct-horse"'
    config = home / "bollard.toml"
    config.write_text(
        f'[pools.p]\ndriver = "qcow2"\noptions = {{ path = "{home}/pool", format = "raw" }}\n'
        f'[stores.s]\ndriver = "s3"\noptions = {{ {s3} }}\n'
    )
    config.chmod(0o600)
    return config


def make(config: Path, volume: str, windows: int) -> Job:
    """Make a volume with some noise in each of its windows."""
    pool = site_of(config).pool("p")
    pool.volumes.create(VolumeSpec(id=VolumeId(volume), size=windows * WINDOW))
    noise = random.Random(volume)
    with (config.parent / "pool" / "volumes" / f"{volume}.raw").open("r+b") as file:
        for window in range(windows):
            file.seek(window * WINDOW)
            file.write(noise.randbytes(DATA))
    return Job(volume=VolumeId(volume), pool="p", parent="none")


def night(config: Path, engine: str, run: str, job: Job) -> float:
    """Archive one volume; return the seconds, without starting the workers."""
    with open_engine(engine) as opened:
        share = {"config": config, "batch": 1, "lanes": 1}
        fleet = Fleet(site=site_of(config), engine=opened, run=run, store="s", share=share)
        began = time.perf_counter()
        for row in fleet.rows([job], Call.within(600)):
            if row.error is not None:
                raise row.error
        return time.perf_counter() - began


@contextmanager
def workers(count: int) -> Iterator[str]:
    """A Dask cluster of so many worker processes; yields the engine's URL."""
    options = {"n_workers": count, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options, resources={"pool:p": 1}, host="127.0.0.1") as cluster:
        yield "dask://" + cluster.scheduler_address.removeprefix("tcp://")


def planned(windows: int, count: int, latency: float, volume_seconds: float) -> float:
    """Return what the plan says of the same night."""
    found = forecast(
        scenario_of(
            {
                "volumes": [{"pool": "p", "size": windows * WINDOW, "full": True}],
                "pools": {"p": {"tracks_changes": True}},
                "store": {"latency": latency},
                "workers": [{"pools": ["p"], "count": count}],
                "coordinator": {"batch": 1, "lanes": 1, "volume_seconds": volume_seconds},
            }
        )
    )
    return found.seconds


def main() -> None:
    """Measure, plan, compare."""
    windows = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        os.environ["BOLLARD_STATE"] = str(home / "state")
        with slow_store(home) as url:
            config = configure(home, url)
            latency = calibrate(site_of(config).store("s"), Call())["store"]["latency"]
            jobs = {name: make(config, name, size) for name, size in (("few", 4), ("huge", windows))}
            seconds: dict[int, list[float]] = {1: [], 2: []}
            small = []
            for number in range(ROUNDS):
                for count in (1, 2):
                    with workers(count) as engine:
                        first = night(config, engine, f"few-{number}-{count}", jobs["few"])  # opens drivers
                        small += [first] if count == 1 else []
                        seconds[count].append(night(config, engine, f"run-{number}-{count}", jobs["huge"]))
            close_sites()
    one, two = (statistics.median(seconds[count]) for count in (1, 2))
    print(
        f"{windows} windows, each PUT {latency:.2f} s: 1 worker {one:.1f} s, 2 {two:.1f} s: {one / two:.2f} x"
    )
    case = f"one volume of {windows} windows, two workers"
    add([compared(case, "scale", "one worker", seconds[2], seconds[1], 0.0, "the store answers a PUT late")])
    # A volume of few windows costs what every volume costs, and its parts one after the other.
    fixed = max(0.0, statistics.median(small) - 4 * latency)
    for count, actual in ((1, one), (2, two)):
        said = planned(windows, count, latency, fixed)
        print(f"{count} worker(s): planned {said:.1f} s, took {actual:.1f} s: ratio {said / actual:.2f}")


if __name__ == "__main__":
    main()
