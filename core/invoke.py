"""How core calls a driver: lock, deadline, retry with jitter, redaction, events. Once, for all.

    client method ── validated ──> Invoker.run ──> lock ──> [attempt ──> driver]* ──> result or error
                                                              ^ Busy, Unavailable: wait with jitter

Every SPI operation is idempotent, so an `unknown` outcome is answered by repeating the call with the
same request id, until the deadline.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import tenacity

from .events import Event, Observer, Phase, ignore
from .locks import ObjectLocks
from .redact import Redactor
from .spi import Call, DeadlineExceeded, Internal, Outcome, StorageError

T = TypeVar("T")

MAX_ATTEMPTS = 6
FIRST_WAIT = 0.2
LONGEST_WAIT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoker:
    """Runs driver calls for one pool or store; `sleep` is injected so that tests do not wait."""

    redact: Redactor
    observe: Observer = ignore
    sleep: Callable[[float], None] = time.sleep
    locks: ObjectLocks = field(default_factory=ObjectLocks)

    def run(self, operation: str, keys: tuple[str, ...], call: Call, act: Callable[[Call], T]) -> T:
        """Run `act(call)` under the locks of `keys`, again while it is worth it.

        Raises:
            StorageError: what the driver raised, redacted; anything else that escaped it becomes
                `Internal` with outcome unknown.
        """
        trace = _Trace(operation=operation, keys=keys, call=call, observe=self.observe)
        trace.tell(Phase.STARTED, 1)
        with self.locks.holding(keys, call):
            result: T = self._retrying(trace, call)(self._attempt, act, call, trace)
            return result

    def stream(self, items: Iterator[T]) -> Iterator[T]:
        """Pass on what a driver streams after its call returned; its errors are treated alike.

        A broken stream is not repeated here: the consumer resumes it at an offset, or starts anew.
        """
        try:
            yield from items
        except Exception as error:  # noqa: BLE001 - the edge to foreign code, as in _attempt
            raise self._typed(error) from None

    def _attempt(self, act: Callable[[Call], T], call: Call, trace: _Trace) -> T:
        try:
            call.check()
            result = act(call)
        except Exception as error:  # noqa: BLE001 - the edge to foreign code: what escapes is a bug there
            typed = self._typed(error)
            trace.tell(Phase.FAILED, trace.attempt, typed.code)
            raise typed from typed.__cause__
        trace.tell(Phase.SUCCEEDED, trace.attempt)
        return result

    def _typed(self, error: Exception) -> StorageError:
        """Return the error without secrets; what is outside of the taxonomy becomes `Internal`."""
        if isinstance(error, StorageError):
            return self._clean(error)
        # Not chained: the foreign exception may hold a secret in its text; `detail` has the trace.
        text = self.redact(f"the driver raised {type(error).__name__}: {error}")
        detail = self.redact("".join(traceback.format_exception(error)))
        return Internal(text, outcome=Outcome.UNKNOWN, detail=detail)

    def _retrying(self, trace: _Trace, call: Call) -> tenacity.Retrying:
        def before_sleep(state: tenacity.RetryCallState) -> None:
            trace.attempt = state.attempt_number + 1
            trace.tell(Phase.RETRIED, trace.attempt)

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(_worth_repeating),
            stop=tenacity.stop_after_attempt(MAX_ATTEMPTS) | _DeadlinePasses(call),
            wait=_wait,
            sleep=self.sleep,
            before_sleep=before_sleep,
            reraise=True,
        )

    def _clean(self, error: StorageError) -> StorageError:
        """Return an equal error without secrets; the cause is dropped if it shows one."""
        error.message, error.detail = self.redact(error.message), self.redact(error.detail)
        error.args = (error.message,)
        if error.__cause__ is not None and self.redact(repr(error.__cause__)) != repr(error.__cause__):
            error.__cause__ = None
        return error


@dataclass(slots=True, kw_only=True)
class _Trace:
    operation: str
    keys: tuple[str, ...]
    call: Call
    observe: Observer
    attempt: int = 1
    started: float = field(default_factory=time.monotonic)

    def tell(self, phase: Phase, attempt: int, error: str = "") -> None:
        self.observe(
            Event(
                operation=self.operation,
                object_id=",".join(self.keys),
                request_id=self.call.request_id,
                phase=phase,
                attempt=attempt,
                seconds=time.monotonic() - self.started,
                error=error,
            )
        )


def _worth_repeating(error: BaseException) -> bool:
    return isinstance(error, StorageError) and error.retryable and not isinstance(error, DeadlineExceeded)


_jitter = tenacity.wait_random_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT)


def _wait(state: tenacity.RetryCallState) -> float:
    """Wait as long as the backend asked, else a random time that doubles (no retry storms)."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, StorageError) else None
    return asked if asked is not None else _jitter(state)


class _DeadlinePasses(tenacity.stop.stop_base):
    """Stop when the next wait would end after the deadline: the caller gets the real error sooner."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def __call__(self, state: tenacity.RetryCallState) -> bool:
        call = self._call
        late = call.deadline is not None and call.clock() + state.upcoming_sleep >= call.deadline
        return late or call.cancelled()
