"""The simulated night: right where the answer is known, as the real queue where rates are injected."""

from __future__ import annotations

import heapq
import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from bollard.core.fleet import ExecutorEngine
from bollard.core.fleet.calibrate import calibrate
from bollard.core.fleet.forecast import forecast
from bollard.core.fleet.scenario import read_scenario, scenario_of
from bollard.core.spi import Call, InvalidArgument
from bollard.core.store import open_store

MIB = 2**20
GIB = 2**30


def _fleet(*, pool=None, store=None, worker=None, coordinator=None, **volumes):
    """A fleet of one pool that makes fulls, endlessly fast but for what is named."""
    return {
        "volumes": [{"pool": "p", "size": GIB, "full": True, **volumes}],
        "pools": {"p": {"tracks_changes": True, **(pool or {})}},
        "store": store or {},
        "workers": [{"pools": ["p"], "count": 2, "threads": 2, "cores": 2, **(worker or {})}],
        "coordinator": {"lanes": 1, **(coordinator or {})},
    }


@pytest.mark.parametrize(
    ("fleet", "seconds", "limit"),
    [
        (_fleet(count=10, pool={"bandwidth": "100MiB"}), 102.4, "pool bandwidth"),
        (_fleet(count=10, store={"bandwidth": 50 * MIB}), 204.8, "store bandwidth"),
        (_fleet(count=10, worker={"link": 64 * MIB}), 84.0, "worker links"),  # 4 s until the first task is in
        (_fleet(count=10, worker={"hash": 64 * MIB}), 40.0, "workers"),
        (_fleet(count=10, store={"connection": 16 * MIB}), 160.0, "store connection"),
        (_fleet(count=10, store={"latency": 1.0}), 40.0, "store connection"),
        (_fleet(count=100, coordinator={"volume_seconds": 2, "volumes": 4}), 50.0, "volumes at once"),
        (_fleet(count=10, store={"latency": 1.0}, coordinator={"per_store": 1}), 160.0, "store connection"),
    ],
)
def test_what_limits_a_night(fleet, seconds, limit):
    """Where one thing limits all, the night lasts as long as that thing needs, and it is named."""
    found = forecast(scenario_of(fleet))

    assert found.seconds == pytest.approx(seconds, rel=0.03)
    assert found.limit == limit
    assert found.gains[limit] > 1.8


def test_an_increment_reads_what_changed_where_the_pool_knows():
    """Else all data is read and compared, and in the end the copy is read back."""
    increment = {"full": False, "data": 0.5, "changed": 0.1, "count": 4, "store": {"bandwidth": MIB}}
    known, unknown = (
        forecast(scenario_of(_fleet(pool={"tracks_changes": tracked}, **increment)))
        for tracked in (True, False)
    )

    assert known.read == known.stored == pytest.approx(0.05 * 4 * GIB)
    assert unknown.stored == pytest.approx(known.stored)
    assert unknown.read == 0.5 * 4 * GIB
    assert unknown.seconds > 5 * known.seconds
    assert "store out" not in known.utilisation


def test_the_same_seed_is_the_same_night():
    """Sizes are drawn; another seed draws others."""
    drawn = _fleet(
        count=50, size={"median": "4GiB", "sigma": 0.7}, changed={"min": 0.01, "max": 0.2}, full=False
    )
    drawn |= {"store": {"bandwidth": "100MiB"}}
    first, again, other = (forecast(scenario_of(drawn | {"seed": seed})) for seed in (1, 1, 2))

    assert first == again
    assert first.seconds != other.seconds


class Synthetic(ExecutorEngine):
    """Does tasks at once, and counts how long workers of an injected speed would have had them."""

    def __init__(self, workers: int, seconds_per_window: float) -> None:
        super().__init__(lambda: ThreadPoolExecutor(1), workers)
        self.free = [0.0] * workers
        self._seconds = seconds_per_window
        self._booking = threading.Lock()

    def submit(self, task):
        """Give it to the worker that is free first."""
        with self._booking:
            heapq.heapreplace(self.free, self.free[0] + len(task.windows) * self._seconds)
        return super().submit(task)


def test_the_real_queue_at_injected_rates_takes_as_long_as_planned(night):
    """A huge volume and small ones, on workers of known speed: within 10 % of the plan."""
    night.make("huge", windows=12)
    for number in range(5):
        night.make(f"small-{number}")
    engine = Synthetic(2, seconds_per_window=3.0)
    jobs = [night.job("huge", size=12), *(night.job(f"small-{number}", size=1) for number in range(5))]
    rows = night.run(engine, jobs, batch=2)
    engine.close()
    fleet = _fleet(
        size=12 * 64 * MIB,
        worker={"threads": 1},
        store={"latency": 3.0},
        coordinator={"lanes": 1, "batch": 2},
    )
    fleet["volumes"].append({"pool": "p", "size": 64 * MIB, "full": True, "count": 5})

    assert all(row.manifest for row in rows.values())
    assert forecast(scenario_of(fleet)).seconds == pytest.approx(max(engine.free), rel=0.1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"volumes": []}, "volumes must be a list"),
        ({"volumes": [{"pool": "q", "size": 1}]}, r"volumes\[0\].pool: there is no pool 'q'"),
        ({"volumes": [{"pool": "p"}]}, r"volumes\[0\].size is missing"),
        ({"volumes": [{"pool": "p", "size": {"min": 3, "max": 1}}]}, r"size must have median and sigma"),
        ({"pools": {"p": {"bandwidth": "fast"}}}, "pools.p.bandwidth must be a number"),
        ({"store": {"bandwidth": 0}}, "store.bandwidth must be above 0"),
        ({"workers": [{"pools": ["q"]}]}, "no worker reaches 'p'"),
        ({"workers": [{"pools": "p"}]}, r"workers\[0\].pools must be a list"),
        ({"coordinator": {"batch": 0}}, "coordinator.batch must be a whole number of at least 1"),
        ({"coordinater": {}}, "key 'coordinater' is unknown"),
    ],
)
def test_a_fleet_on_paper_is_checked_field_by_field(tmp_path, change, said):
    """What is wrong is named with its place and rule."""
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(_fleet() | change))
    with pytest.raises(InvalidArgument, match=said):
        read_scenario(path)


def test_calibrating_measures_and_leaves_nothing(tmp_path):
    """Figures are bytes per second and seconds of the clock that is given; the store is as before."""
    ticks = itertools.count()
    store = open_store("nightly", "nfs", {"path": str(tmp_path)})
    found = calibrate(store, Call(), clock=lambda: float(next(ticks)))
    left = store.list("calibration/", Call()).items
    store.close()

    assert found["store"]["latency"] == 1.0
    assert found["worker"]["hash"] == found["worker"]["compress"] == 16 * MIB
    assert not left
