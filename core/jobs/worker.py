"""Doing jobs: some threads that claim and do them, and one that keeps the leases alive.

    slot  ─ claim ─> handler(run) ─> succeed | fail | release
    beat  ─ every few seconds, for each run: progress out; cancellation, or loss of the job, in

A run whose lease could not be renewed in time is cancelled from inside, before anybody else may take the job
over: a worker that was cut off from the catalog stops by itself.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from ..catalog import requested_by
from ..spi.errors import Busy, Conflict, Internal, StorageError, Unavailable
from .claims import Claim, Claims
from .run import Run
from .states import JobState

_log = logging.getLogger("bollard.jobs")

Handler = Callable[[Run], Mapping[str, Any]]


def worker_name() -> str:
    """Return a name that no other worker has or had."""
    return f"{socket.gethostname()[:24]}-{os.getpid()}-{uuid.uuid4().hex[:16]}"


class Worker:
    """Does jobs of some kinds; use it in a `with` block.

    Args:
        claims: where jobs come from.
        handlers: what does each kind; it returns the result as JSON values, or raises `StorageError`.
        slots: jobs at the same time.
        poll: seconds after which to look for jobs of other processes.
        beat: seconds between heartbeats; a third of the lease at most.
        grace: seconds that `close` waits for jobs to notice.
        clock: monotonic, seconds.
    """

    def __init__(
        self,
        claims: Claims,
        handlers: Mapping[str, Handler],
        *,
        slots: int = 4,
        poll: float = 1.0,
        beat: float = 2.0,
        grace: float = 20.0,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._claims = claims
        self._handlers = dict(handlers)
        self._poll = poll
        self._beat = min(beat, claims.lease / 3)
        self._grace = grace
        self._name = name or worker_name()
        self._clock = clock
        self._changed = threading.Condition()
        self._news = 0
        self._stopping = False
        self._runs: set[Run] = set()
        names = [(f"jobs-{slot}", self._serve) for slot in range(slots)] + [("jobs-beat", self._keep_alive)]
        self._threads = [threading.Thread(target=work, name=name, daemon=True) for name, work in names]

    def __enter__(self) -> Worker:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin; once."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Look at the catalog now: there is a new job, or one was cancelled."""
        with self._changed:
            self._news += 1
            self._changed.notify_all()

    def close(self) -> bool:
        """Interrupt what runs, give it back to the queue and stop; False: something did not notice in time.

        What did not notice ends with the process, and is taken over when its lease has passed.
        """
        with self._changed:
            self._stopping = True
            for run in self._runs:
                run.call.cancel.set()
            self._changed.notify_all()
        end = self._clock() + self._grace
        for thread in self._threads:
            thread.join(max(0.0, end - self._clock()))
        return not any(thread.is_alive() for thread in self._threads)

    def _serve(self) -> None:
        while not self._stopping:
            seen, now = self._news, self._clock()
            claim = self._claim()
            if claim is None:
                self._rest(seen, self._poll)
            else:
                self._do(Run(claim, now))

    def _claim(self) -> Claim | None:
        try:
            return self._claims.claim(self._name, list(self._handlers))
        except StorageError as error:
            _log.warning("no job could be claimed: %s", error)
            return None

    def _rest(self, seen: int, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._news != seen, seconds)

    def _do(self, run: Run) -> None:
        with self._changed:
            self._runs.add(run)
            if self._stopping or run.job.state is JobState.CANCELLING:
                run.call.cancel.set()
        try:
            self._record(run, self._attempt(run))
        finally:
            with self._changed:
                self._runs.discard(run)
                self._changed.notify_all()

    def _attempt(self, run: Run) -> Mapping[str, Any] | StorageError:
        try:
            with requested_by(run.job.request_id):
                result = self._handlers[run.job.kind](run)
            json.dumps(
                result
            )  # what is none is a bug of the handler, and is told now, not when it is written
            return result
        except StorageError as error:
            return error
        except Exception as error:  # noqa: BLE001 - the edge: one bad job must not end the worker
            # The text may hold anything, a secret too; the log has the class and the place.
            _log.exception("[%s] job %s failed", run.job.request_id, run.job.id)
            return Internal(f"the job failed by a bug: {type(error).__name__}")

    def _record(self, run: Run, ended: Mapping[str, Any] | StorageError) -> None:
        """Write down how it ended; if that fails, too, the lease ends and somebody does the job again."""
        if run.lost:
            return
        try:
            for attempt in _patiently():
                with attempt:
                    self._write(run, ended)
        except Conflict as error:
            _log.warning("[%s] %s", run.job.request_id, error)
        except StorageError:
            _log.exception("[%s] the end of job %s was not recorded", run.job.request_id, run.job.id)

    def _write(self, run: Run, ended: Mapping[str, Any] | StorageError) -> None:
        if not isinstance(ended, StorageError):
            self._claims.succeed(run.claim, run.beat(), ended)
        elif self._stopping and run.call.cancelled():
            self._claims.release(run.claim)
        else:
            self._claims.fail(run.claim, run.beat(), ended)

    def _keep_alive(self) -> None:
        """Beat until the last run is over: a job that is slow to stop must not be taken over meanwhile."""
        while not self._done():
            seen = self._news
            with self._changed:
                runs = list(self._runs)
            for run in runs:
                self._beat_for(run)
            self._rest_between_beats(seen)

    def _rest_between_beats(self, seen: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._news != seen or self._done(), self._beat)

    def _done(self) -> bool:
        return self._stopping and not self._runs

    def _beat_for(self, run: Run) -> None:
        now = self._clock()
        try:
            state = self._claims.heartbeat(run.claim, run.beat())
        except Conflict:
            run.lose()
        except StorageError as error:
            _log.warning("[%s] no heartbeat: %s", run.job.request_id, error)
            # A locked database holds a heartbeat up for half a minute; the rest is for the driver to notice.
            if self._clock() > run.renewed + self._claims.lease / 2:
                run.lose()
        else:
            run.renewed = now
            if state is JobState.CANCELLING:
                run.call.cancel.set()


def _patiently() -> Retrying:
    return Retrying(
        retry=retry_if_exception_type((Busy, Unavailable, Internal)),
        stop=stop_after_attempt(4),
        wait=wait_exponential(multiplier=0.2, max=2),
        reraise=True,
    )
