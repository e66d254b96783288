"""Random histories of jobs with workers that die, sleep and come back, against a model."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bollard.core.catalog import Catalog
from bollard.core.jobs import Beat, Claims, JobLimits, JobState, Order, Orders, RetryPolicy
from bollard.core.jobs.states import HELD
from bollard.core.spi import Busy, Conflict, OutOfCapacity

HOSTS = st.sampled_from(["h1", "h1", "h1", "h2", ""])


class JobHistories(RuleBasedStateMachine):
    """Two workers, two of a host at a time, and everything that may happen between."""

    @initialize()
    def begin(self) -> None:
        """Open an empty catalog."""
        self.directory = tempfile.TemporaryDirectory()
        self.catalog = Catalog(f"sqlite:///{Path(self.directory.name)}/c.db")
        self.now = 0.0
        self.orders = Orders(self.catalog, clock=lambda: self.now)
        self.limits = Claims(
            self.catalog,
            clock=lambda: self.now,
            limits=JobLimits(per_host=2),
            retry=RetryPolicy(attempts=3, jitter=lambda: 1.0),
        )
        self.held: list = []  # claims, also of workers that slept for too long
        self.valid: dict = {}  # job -> the claim whose word counts
        self.over: dict = {}  # job -> how it ended

    def teardown(self) -> None:
        """Close it."""
        self.catalog.close()
        self.directory.cleanup()

    @rule(host=HOSTS)
    def submit(self, host: str) -> None:
        """Somebody wants something."""
        self.orders.submit(Order(kind="k", host=host))

    @rule(worker=st.integers(0, 1))
    def claim(self, worker: int) -> None:
        """A worker asks for a job; it gets none that a living one has."""
        claim = self.limits.claim(f"w{worker}", ["k"])
        if claim is None:
            return
        before = self.valid.get(claim.job.id)
        assert before is None or before[1] < self.now
        assert claim.job.id not in self.over
        self.valid[claim.job.id] = (claim, self.now + self.limits.lease)
        self.held.append(claim)

    @rule(seconds=st.sampled_from([1.0, 30.0, 61.0]))
    def pass_time(self, seconds: float) -> None:
        """Leases end and pauses pass."""
        self.now += seconds

    @rule(choice=st.integers(0, 100), word=st.sampled_from(["beat", "succeed", "busy", "full", "release"]))
    def say(self, choice: int, word: str) -> None:
        """A worker says something about a job that it had, perhaps long ago."""
        if not self.held:
            return
        claim = self.held[choice % len(self.held)]
        mine = self.valid.get(claim.job.id, (None,))[0] is claim
        try:
            self._word(claim, word)
        except Conflict:
            # Nobody else has it: it failed because too many workers died.
            assert not mine or self.orders.get(claim.job.id).state is JobState.FAILED
            return
        assert mine
        if word == "beat":
            self.valid[claim.job.id] = (claim, self.now + self.limits.lease)
        else:
            del self.valid[claim.job.id]

    def _word(self, claim, word: str) -> None:
        match word:
            case "beat":
                self.limits.heartbeat(claim, Beat(done=1, total=2))
            case "succeed":
                self.limits.succeed(claim, Beat(), {"by": claim.epoch})
            case "busy":
                self.limits.fail(claim, Beat(), Busy("in use"))
            case "full":
                self.limits.fail(claim, Beat(), OutOfCapacity("full"))
            case "release":
                self.limits.release(claim)

    @rule(choice=st.integers(0, 100))
    def cancel(self, choice: int) -> None:
        """Somebody changes his mind."""
        jobs = self.orders.page()
        if jobs:
            self.orders.cancel(jobs[choice % len(jobs)].id)

    @invariant()
    def what_is_over_stays_over(self) -> None:
        """A resting state is never left, and no limit is broken."""
        jobs = self.orders.page(limit=1000) if hasattr(self, "orders") else []
        for job in jobs:
            if job.state.over:
                assert self.over.setdefault(job.id, job.state) is job.state
                assert job.owner == ""
                assert job.ended >= job.created
        for host in ("h1", "h2"):
            assert sum(job.host == host and job.state in HELD for job in jobs) <= 2

    @rule()
    def everything_ends(self) -> None:
        """With one living worker, every job comes to rest in the end."""
        for _ in range(200):
            self.now += 400
            claim = self.limits.claim("last", ["k"])
            if claim is None and not any(job.state in HELD for job in self.orders.page(limit=1000)):
                break
            if claim is not None:
                self.held.append(claim)
                with suppress(Conflict):
                    self.limits.succeed(claim, Beat(), {})
        assert all(job.state.over for job in self.orders.page(limit=1000))
        self.valid.clear()


JobHistories.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestJobHistories = JobHistories.TestCase
