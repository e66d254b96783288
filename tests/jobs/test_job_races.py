"""Real processes that race for the jobs of one catalog, one of which is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bollard.core.catalog import Catalog
from bollard.core.jobs import JobState, Order, Orders

pytest_plugins = ["catalog_fixture"]
pytestmark = pytest.mark.slow

RACER = Path(__file__).parents[1] / "lib" / "job_racer.py"
PROCESSES, JOBS, LIMIT, LEASE = 3, 40, 3, 6
PATIENCE = 60.0


@pytest.fixture
def racers(catalog_url, tmp_path) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that have begun to look for jobs."""
    Catalog(catalog_url).close()  # its tables are there
    (tmp_path / "running").mkdir()
    words = [sys.executable, str(RACER), catalog_url, str(tmp_path), str(LEASE), str(LIMIT)]
    made = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    for one in made:
        assert one.stdout
        assert one.stdout.readline() == "ready\n"
    yield made
    for one in made:
        one.communicate(timeout=PATIENCE)


def _until(true) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_each_job_is_done_by_one_and_a_dead_ones_by_another(racers, catalog_url, tmp_path):
    """Several processes do each job once, never more at a time than the limit; a killed one's job twice."""
    with closing(Catalog(catalog_url)) as catalog:
        orders = Orders(catalog)
        hanging = orders.submit(Order(kind="test", pool="p", arguments={"hang": True})).id
        _until(lambda: orders.get(hanging).owner)
        jobs = [orders.submit(Order(kind="test", pool="p")).id for _ in range(JOBS)]
        [owner] = [one for one in racers if f"-{one.pid}-" in orders.get(hanging).owner]
        owner.kill()
        _until(lambda: orders.counts()[JobState.SUCCEEDED] == JOBS + 1)
        taken_over = {one: orders.get(one).epoch for one in (hanging, *jobs)}

    lines = [line.split() for line in (tmp_path / "attempts").read_text().splitlines()]
    assert len({(job, epoch) for job, epoch, _ in lines}) == len(lines), "two have done one attempt"
    assert Counter(job for job, _, _ in lines).keys() == taken_over.keys()
    assert taken_over[hanging] == 2
    # What the dead one had besides is done again as well: two slots, one of which hung.
    assert sum(epoch > 1 for epoch in taken_over.values()) <= 2
    assert max(int(now) for _, _, now in lines) <= LIMIT
