"""Orders and claims: who gets which job, when, and whose word counts."""

from __future__ import annotations

import pytest

from bollard.core.jobs import Beat, JobLimits, JobState, Order, RetryPolicy
from bollard.core.jobs.limits import Lane, Running, in_order
from bollard.core.spi import Busy, Conflict, InvalidArgument, NotFound, Outcome, OutOfCapacity, Unavailable

pytest_plugins = ["catalog_fixture"]

KINDS = ["copy"]


def _order(**fields) -> Order:
    return Order(kind="copy", **fields)


def test_a_job_is_done_once(orders, claims):
    """A claimed job is nobody else's; its result and progress are what its worker said last."""
    job = orders.submit(_order(arguments={"volume": "vol-1"}))
    claim = claims.claim("a", KINDS)

    assert claim.job.arguments == {"volume": "vol-1"}
    assert claims.claim("b", KINDS) is None
    claims.succeed(claim, Beat(done=5, total=5, text="copied"), {"size": 5})
    ended = orders.get(job.id)
    assert (ended.state, ended.result, ended.done, ended.text) == (
        JobState.SUCCEEDED,
        {"size": 5},
        5,
        "copied",
    )
    assert claims.claim("b", KINDS) is None


def test_a_worker_gets_only_what_it_can_do(orders, claims):
    """A job of a kind that a worker does not know stays in the queue."""
    orders.submit(_order())

    assert claims.claim("a", ["sync"]) is None
    assert claims.claim("a", KINDS) is not None


def test_a_dead_workers_job_is_taken_over_and_its_word_counts_no_more(orders, claims, clock):
    """After the lease another worker has the job; the old one can neither beat nor end it."""
    orders.submit(_order())
    old = claims.claim("a", KINDS)
    clock.now += claims.lease + 1
    new = claims.claim("b", KINDS)

    assert new.job.id == old.job.id
    assert new.epoch == old.epoch + 1
    for word in (
        lambda: claims.heartbeat(old, Beat()),
        lambda: claims.succeed(old, Beat(), {}),
        lambda: claims.fail(old, Beat(), Busy("late")),
        lambda: claims.release(old),
    ):
        with pytest.raises(Conflict):
            word()
    claims.succeed(new, Beat(), {})


def test_a_heartbeat_keeps_the_job(orders, claims, clock):
    """A worker that beats in time is never taken for dead."""
    orders.submit(_order())
    claim = claims.claim("a", KINDS)
    for _ in range(5):
        clock.now += claims.lease - 1
        claims.heartbeat(claim, Beat())

    assert claims.claim("b", KINDS) is None


def test_a_job_that_kills_its_workers_fails(orders, claims, clock):
    """After as many dead workers as attempts are allowed, the job has failed with an unknown outcome."""
    job = orders.submit(_order())
    for worker in "abc":
        assert claims.claim(worker, KINDS) is not None
        clock.now += claims.lease + 1

    assert claims.claim("d", KINDS) is None
    ended = orders.get(job.id)
    assert ended.state is JobState.FAILED
    assert ended.error["outcome"] == "unknown"


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (Busy("in use"), True),
        (Unavailable("no answer"), True),
        (Unavailable("it ran", outcome=Outcome.APPLIED), False),
        (OutOfCapacity("full"), False),
    ],
)
def test_only_what_may_be_repeated_is(orders, claims, error, again):
    """An attempt is made again where the error says that it may help and do no harm."""
    job = orders.submit(_order())
    state = claims.fail(claims.claim("a", KINDS), Beat(), error)

    assert state is (JobState.QUEUED if again else JobState.FAILED)
    assert orders.get(job.id).error["code"] == error.code


def test_retries_wait_longer_each_time_and_end(orders, claims, clock):
    """The second attempt comes after 2 s, the third after 4 s, and then the job has failed."""
    orders.submit(_order())
    for wait in (2, 4):
        claims.fail(claims.claim("a", KINDS), Beat(), Busy("in use"))
        clock.now += wait - 0.1
        assert claims.claim("a", KINDS) is None
        clock.now += 0.1

    assert claims.fail(claims.claim("a", KINDS), Beat(), Busy("in use")) is JobState.FAILED


def test_backoff_is_bounded_and_obeys_the_backend():
    """No wait is longer than the longest, nor shorter than half of its step or what the backend asked."""
    policy = RetryPolicy(attempts=2000, jitter=lambda: 0.0)

    assert policy.wait(Busy("x"), 1) == 1.0
    assert policy.wait(Busy("x"), 1500) == 150.0
    assert policy.wait(Busy("x", retry_after=400), 1) == 400


def test_cancel_of_a_waiting_job_is_immediate(orders, claims):
    """A job in the queue is cancelled at once, and no worker gets it."""
    job = orders.submit(_order())

    assert orders.cancel(job.id).state is JobState.CANCELLED
    assert claims.claim("a", KINDS) is None
    assert orders.cancel(job.id).state is JobState.CANCELLED


def test_cancel_reaches_the_worker_with_the_next_heartbeat(orders, claims):
    """A running job is cancelling until its worker says how it ended."""
    job = orders.submit(_order())
    claim = claims.claim("a", KINDS)
    orders.cancel(job.id)

    assert claims.heartbeat(claim, Beat()) is JobState.CANCELLING
    assert claims.fail(claim, Beat(), Busy("stopped")) is JobState.CANCELLED
    assert orders.get(job.id).error["code"] == "busy"


def test_a_job_that_was_faster_than_its_cancellation_succeeded(orders, claims):
    """What is done is done, and the user is told so."""
    job = orders.submit(_order())
    claim = claims.claim("a", KINDS)
    orders.cancel(job.id)
    claims.succeed(claim, Beat(), {"size": 1})

    assert orders.get(job.id).state is JobState.SUCCEEDED


def test_a_cancelling_job_of_a_dead_worker_is_taken_over(orders, claims, clock):
    """Cancelling is no state to rest in: the next worker gets the job, still cancelled."""
    job = orders.submit(_order())
    claims.claim("a", KINDS)
    orders.cancel(job.id)
    clock.now += claims.lease + 1

    assert claims.claim("b", KINDS).job.state is JobState.CANCELLING


def test_a_released_job_has_not_used_up_an_attempt(orders, claims):
    """A worker that stops gives its job back as if it had never had it, but for the epoch."""
    job = orders.submit(_order())
    claim = claims.claim("a", KINDS)
    claims.release(claim)

    waiting = orders.get(job.id)
    assert (waiting.state, waiting.attempts, waiting.epoch) == (JobState.QUEUED, 0, 1)


def test_limits_hold_per_host_and_per_pool(orders, claims):
    """Two per host and three per pool run at once; the next one comes when one ends."""
    for host in ("h1", "h1", "h1", "h2", "h3"):
        orders.submit(_order(host=host, pool="p1"))
    got = [claims.claim(f"w{n}", KINDS) for n in range(4)]

    assert [claim.job.host for claim in got if claim] == ["h1", "h1", "h2"]
    claims.succeed(got[0], Beat(), {})
    assert claims.claim("w5", KINDS).job.host == "h1"


def test_tenants_take_turns(orders, claims):
    """A tenant with a hundred jobs does not make another one wait for all of them."""
    for _ in range(100):
        orders.submit(_order(tenant="big"))
    orders.submit(_order(tenant="small"))

    assert [claims.claim(f"w{n}", KINDS).job.tenant for n in range(3)] == ["big", "small", "big"]


def test_priority_goes_before_age():
    """Higher priority first, then the tenant with less running, then age; full pools are left out."""
    lanes = [
        Lane("a", "", "full", 9, 1),
        Lane("a", "", "", 0, 2),
        Lane("b", "", "", 0, 4),
        Lane("b", "", "", 0, 3),
        Lane("a", "", "", 5, 5),
    ]
    running = [Running("a", "", "full")]

    assert [lane.first for lane in in_order(lanes, running, JobLimits(per_pool=1))] == [5, 3, 4, 2]


def test_the_same_key_is_the_same_job(orders):
    """A repeated order returns the first one's job; another order under its key is refused."""
    first = orders.submit(_order(tenant="t", arguments={"v": 1}, idempotency_key="k"))

    assert orders.submit(_order(tenant="t", arguments={"v": 1}, idempotency_key="k")).id == first.id
    assert orders.submit(_order(tenant="u", arguments={"v": 2}, idempotency_key="k")).id != first.id
    with pytest.raises(Conflict):
        orders.submit(_order(tenant="t", arguments={"v": 2}, idempotency_key="k"))


def test_pages_walk_all_jobs(orders):
    """Pages by number show each job once, with those of a tenant or state alone where asked for."""
    made = [orders.submit(_order(tenant="ab"[n % 2])).id for n in range(7)]
    seen, after = [], 0
    while page := orders.page(after=after, limit=3):
        seen += [job.id for job in page]
        after = page[-1].number

    assert seen == made
    assert len(orders.page(tenant="a")) == 4
    assert orders.page(state=JobState.RUNNING) == []
    assert orders.counts()[JobState.QUEUED] == 7
    with pytest.raises(InvalidArgument):
        orders.page(limit=0)


def test_what_is_not_there_is_not_found(orders):
    """Looking at or cancelling a job of nobody is a NotFound."""
    for act in (orders.get, orders.cancel):
        with pytest.raises(NotFound):
            act("nobody's")


def test_old_jobs_are_pruned(orders, claims, clock):
    """Only jobs that ended long ago go."""
    old = orders.submit(_order())
    claims.succeed(claims.claim("a", KINDS), Beat(), {})
    clock.now += 100
    young = orders.submit(_order())

    assert orders.prune(older_than=50) == 1
    assert orders.prune(older_than=50) == 0
    with pytest.raises(NotFound):
        orders.get(old.id)
    assert orders.get(young.id).state is JobState.QUEUED


def test_limits_that_make_no_sense_are_refused():
    """A negative limit is an InvalidArgument."""
    with pytest.raises(InvalidArgument):
        JobLimits(per_host=-1)
