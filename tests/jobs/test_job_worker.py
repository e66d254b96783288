"""The worker's threads around claims, with a real catalog."""

from __future__ import annotations

import threading

import pytest

from bollard.core.jobs import Claims, JobState, Order, Orders, RetryPolicy, Worker
from bollard.core.spi import Busy, OutOfCapacity

pytest_plugins = ["catalog_fixture"]

SOON = 20.0


@pytest.fixture
def real_orders(catalog) -> Orders:
    """Orders by the real clock: the worker's heartbeats are."""
    return Orders(catalog)


@pytest.fixture
def work(catalog, real_orders):
    """Start a worker with one handler for "test"; it is stopped afterwards."""
    started = []

    def start(handler, *, lease: float = 60.0, **options) -> Worker:
        claims = Claims(catalog, lease=lease, retry=RetryPolicy(first=0.001))
        worker = Worker(claims, {"test": handler}, poll=0.05, beat=0.05, **options)
        real_orders.listen(worker.wake)
        started.append(worker)
        return worker.__enter__()

    yield start
    for worker in started:
        assert worker.close()


def _ended(orders: Orders, job: str, until=lambda job: job.state.over):
    """Poll until the job is over."""
    deadline = threading.Event()
    timer = threading.Timer(SOON, deadline.set)
    timer.start()
    try:
        while not until(found := orders.get(job)):
            assert not deadline.wait(0.01), f"the job is {found.state}"
        return found
    finally:
        timer.cancel()
        timer.join()


def test_result_and_progress_arrive(work, real_orders):
    """What a handler returns is the result; what it reports on the way is seen while it runs."""
    go = threading.Event()

    def handler(run):
        run.call.progress(3, 10)
        run.tell("copying")
        assert go.wait(SOON)
        return {"volume": run.job.arguments["volume"], "request": run.call.request_id}

    work(handler)
    job = real_orders.submit(Order(kind="test", arguments={"volume": "v"}, request_id="req-1"))
    seen = _ended(real_orders, job.id, until=lambda job: job.text == "copying")
    go.set()

    assert (seen.state, seen.done, seen.total) == (JobState.RUNNING, 3, 10)
    assert _ended(real_orders, job.id).result == {"volume": "v", "request": "req-1"}


def test_cancel_stops_a_running_job(work, real_orders):
    """The call of a running job is cancelled, and the job ends as cancelled."""

    def handler(run):
        assert run.call.cancel.wait(SOON)
        run.call.check()
        return {}

    work(handler)
    job = real_orders.submit(Order(kind="test"))
    _ended(real_orders, job.id, until=lambda job: job.state is JobState.RUNNING)
    real_orders.cancel(job.id)

    assert _ended(real_orders, job.id).state is JobState.CANCELLED


def test_a_passing_failure_is_tried_again(work, real_orders):
    """A retryable error costs an attempt, not the job."""
    failures = [Busy("in use"), Busy("in use")]

    def handler(run):
        if failures:
            raise failures.pop()
        return {}

    work(handler)
    ended = _ended(real_orders, real_orders.submit(Order(kind="test")).id)

    assert (ended.state, ended.attempts, ended.error) == (JobState.SUCCEEDED, 3, None)


def test_an_error_keeps_its_code_and_outcome(work, real_orders):
    """A failed job says what the driver said."""

    def handler(run):
        raise OutOfCapacity("the pool is full")

    work(handler)
    ended = _ended(real_orders, real_orders.submit(Order(kind="test")).id)

    assert ended.state is JobState.FAILED
    assert ended.error == OutOfCapacity("the pool is full").to_json()


def test_a_bug_ends_the_job_and_not_the_worker(work, real_orders, caplog):
    """An exception of nobody's taxonomy is Internal with an unknown outcome, without its text."""

    def handler(run):
        raise RuntimeError("password hunter2")

    work(handler, slots=1)
    ended = [_ended(real_orders, real_orders.submit(Order(kind="test")).id) for _ in range(2)]

    assert {job.error["code"] for job in ended} == {"internal"}
    assert "hunter2" not in str(ended[0].error)


@pytest.mark.parametrize("ends", ["with a text that is no UTF-8", "with a result that is no JSON"])
def test_an_end_that_cannot_be_written_is_a_failure(work, real_orders, ends):
    """Whatever a handler returns or raises, its job ends, and its worker does the next one."""

    def handler(run):
        if "ends" not in run.job.arguments:
            return {}
        if "JSON" in ends:
            return {"never": object()}
        raise OutOfCapacity("no room for vol-1.\udcff")

    work(handler, slots=1)
    ended = _ended(real_orders, real_orders.submit(Order(kind="test", arguments={"ends": True})).id)
    after = _ended(real_orders, real_orders.submit(Order(kind="test")).id)

    assert (ended.state, after.state) == (JobState.FAILED, JobState.SUCCEEDED)
    assert ended.error["code"] == ("internal" if "JSON" in ends else "out_of_capacity")


def test_a_stopping_worker_gives_its_jobs_back(work, real_orders):
    """What runs when the worker stops is queued again, and the next worker does it."""
    started = threading.Event()

    def slow(run):
        started.set()
        assert run.call.cancel.wait(SOON)
        run.call.check()
        return {}

    first = work(slow)
    job = real_orders.submit(Order(kind="test"))
    assert started.wait(SOON)
    assert first.close()
    assert real_orders.get(job.id).state is JobState.QUEUED

    work(lambda _run: {"second": True})
    assert _ended(real_orders, job.id).result == {"second": True}


def test_a_worker_that_lost_its_job_stops_and_says_nothing(catalog, work, real_orders, clock):
    """A worker whose job another one has taken over is cancelled, and its result does not count."""
    stopped = threading.Event()

    def handler(run):
        assert run.call.cancel.wait(SOON)
        stopped.set()
        return {"late": True}

    work(handler)
    job = real_orders.submit(Order(kind="test"))
    _ended(real_orders, job.id, until=lambda job: job.state is JobState.RUNNING)
    clock.now = 9e9  # for this one the lease has passed long ago
    thief = Claims(catalog, clock=clock).claim("thief", ["test"])

    assert thief is not None
    assert stopped.wait(SOON)
    assert real_orders.get(job.id).result is None
