"""How core calls a driver: lock, deadline, retry with jitter, redaction, events. Once, for all.

    client method ── validated ──> Invoker.run ──> lock ──> [attempt ──> driver]* ──> result or error
                                                              ^ Busy, Unavailable: wait with jitter

Every SPI operation is idempotent, so an `unknown` outcome is answered by repeating the call with the
same request id, until the deadline.
"""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import TypeVar, cast

import tenacity

from .events import Event, Observer, Phase, ignore
from .limits import Throttle
from .locks import ObjectLocks
from .redact import Redactor
from .spi import Call, DeadlineExceeded, Internal, Outcome, StorageError

T = TypeVar("T")

MAX_ATTEMPTS = 6
FIRST_WAIT = 0.2
LONGEST_WAIT = 10.0
_END = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoker:
    """Runs driver calls for one pool or store; `sleep` is injected so that tests do not wait."""

    redact: Redactor
    observe: Observer = ignore
    sleep: Callable[[float], None] = time.sleep
    locks: ObjectLocks = field(default_factory=ObjectLocks)
    throttle: Throttle = field(default_factory=Throttle)

    def run(
        self,
        operation: str,
        keys: tuple[str, ...],
        call: Call,
        act: Callable[[Call], T],
        *,
        also_lock: tuple[str, ...] = (),
        local: bool = False,
        sends: int = 0,
    ) -> T:
        """Run `act(call)` under the locks of `keys` and `also_lock`, again while it is worth it.

        Args:
            local: the driver answers from memory, so the call takes none of the slots of the limits.
            sends: bytes that have been sent when it succeeds, for observers.

        Raises:
            StorageError: what the driver raised, redacted; anything else that escaped it becomes
                `Internal` with outcome unknown.
        """
        trace = _Trace(operation=operation, keys=keys, call=call, observe=self.observe)
        trace.tell(Phase.STARTED)
        try:
            with self.locks.holding((*keys, *also_lock), call):
                attempt = self._attempt if local else self._in_slot
                result: T = self._retrying(trace, call)(attempt, act, call, trace)
        except StorageError as error:
            trace.tell(Phase.FAILED, error.code)
            raise
        trace.sent = sends
        trace.tell(Phase.SUCCEEDED)
        return result

    def receive(self, operation: str, items: Iterator[bytes], call: Call) -> Iterator[bytes]:
        """Pass on a stream of bytes as `stream` does, and tell observers what came."""
        trace = _Trace(operation=operation, keys=(), call=call, observe=self.observe)
        trace.tell(Phase.STARTED)
        inner = self.stream(items, call)
        try:
            for chunk in inner:
                trace.received += len(chunk)
                yield chunk
        except StorageError as error:
            trace.tell(Phase.FAILED, error.code)
            raise
        except GeneratorExit:  # the consumer has enough
            trace.tell(Phase.SUCCEEDED)
            raise
        finally:
            inner.close()
        trace.tell(Phase.SUCCEEDED)

    def stream(self, items: Iterator[T], call: Call) -> Generator[T]:
        """Pass on what a driver streams after its call returned; its errors are treated alike.

        The driver counts as called while it makes an item, not while the consumer works on it.

        A broken stream is not repeated here: the consumer resumes it at an offset, or starts anew.
        """
        try:
            while True:
                with self.throttle.slot(call):
                    item = next(items, _END)
                if item is _END:
                    return
                yield cast("T", item)
        except Exception as error:  # noqa: BLE001 - the edge to foreign code, as in _attempt
            failure = self._typed(error)
        finally:  # a consumer that has enough gives the connection back now, not when memory is collected
            if isinstance(items, Generator):
                items.close()
        raise failure  # out here for the reason given in _attempt

    def pause(self, attempt: int, error: StorageError, call: Call) -> None:
        """Wait before a stream is taken up again, or raise `error` if it is not worth it (as in `run`)."""
        wait = backoff(attempt, error)
        if attempt >= MAX_ATTEMPTS or not worth_repeating(error) or _too_late(call, wait):
            raise error
        self.sleep(wait)

    def _in_slot(self, act: Callable[[Call], T], call: Call, trace: _Trace) -> T:
        with self.throttle.slot(call):
            return self._attempt(act, call, trace)

    def _attempt(self, act: Callable[[Call], T], call: Call, trace: _Trace) -> T:
        try:
            call.check()
            return act(call)
        except Exception as error:  # noqa: BLE001 - the edge to foreign code: what escapes is a bug there
            failure = self._typed(error)
        failure.outcome = trace.outcome_after(failure.outcome)
        # Not raised in the handler: there Python would hang the foreign exception, which may hold a
        # secret, on it as its context.
        raise failure

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
            trace.tell(Phase.RETRIED, _error_of(state).code)

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(worth_repeating),
            stop=lambda state: state.attempt_number >= MAX_ATTEMPTS or _too_late(call, state.upcoming_sleep),
            wait=lambda state: backoff(state.attempt_number, _error_of(state)),
            sleep=self.sleep,
            before_sleep=before_sleep,
            reraise=True,
        )

    def _clean(self, error: StorageError) -> StorageError:
        """Return the error without secrets; a cause or context that shows one is dropped."""
        error.message, error.detail = self.redact(error.message), self.redact(error.detail)
        error.args = (error.message,)
        if hasattr(error, "__notes__"):
            error.__notes__ = [self.redact(note) for note in error.__notes__]
        if self._shows_secret(error.__cause__) or self._shows_secret(error.__context__):
            error.__cause__ = error.__context__ = None
        return error

    def _shows_secret(self, error: BaseException | None) -> bool:
        """Tell whether a log of this exception, or of one that it hangs on, would show a secret."""
        todo, seen = [error], set[int]()
        while todo:
            one = todo.pop()
            if one is None or id(one) in seen:
                continue
            seen.add(id(one))
            text = f"{one} {one!r} {getattr(one, '__notes__', '')}"
            if self.redact(text) != text:
                return True
            todo += [one.__cause__, one.__context__]
        return False


@dataclass(slots=True, kw_only=True)
class _Trace:
    operation: str
    keys: tuple[str, ...]
    call: Call
    observe: Observer
    attempt: int = 1
    started: float = field(default_factory=time.monotonic)
    may_have_run: bool = False
    sent: int = 0
    received: int = 0

    def outcome_after(self, outcome: Outcome) -> Outcome:
        """Return the operation's outcome: a refused retry does not undo an attempt that may have run."""
        if self.may_have_run and outcome is Outcome.NOT_APPLIED:
            return Outcome.UNKNOWN
        self.may_have_run = outcome is not Outcome.NOT_APPLIED
        return outcome

    def tell(self, phase: Phase, error: str = "") -> None:
        self.observe(
            Event(
                operation=self.operation,
                object_id=",".join(self.keys),
                request_id=self.call.request_id,
                phase=phase,
                attempt=self.attempt,
                seconds=time.monotonic() - self.started,
                error=error,
                sent=self.sent,
                received=self.received,
            )
        )


def worth_repeating(error: BaseException) -> bool:
    """Tell whether core repeats a call that failed so; what was applied is looked at, not repeated."""
    if not isinstance(error, StorageError) or isinstance(error, DeadlineExceeded):
        return False
    return error.retryable and error.outcome is not Outcome.APPLIED


def backoff(attempt: int, error: StorageError) -> float:
    """Return the seconds to wait after a failed attempt (1, 2, …).

    As long as the backend asked, else a random time below a bound that doubles (no retry storms).
    """
    if error.retry_after is not None:
        return error.retry_after if error.retry_after > 0 else 0.0  # NaN and the past mean now
    return random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1)))  # noqa: S311 - no secret


def _error_of(state: tenacity.RetryCallState) -> StorageError:
    """Return the error of an attempt that `worth_repeating` wants again; tenacity types it wider."""
    return cast("StorageError", cast("tenacity.Future", state.outcome).exception())


def _too_late(call: Call, wait: float) -> bool:
    """Tell whether nothing may begin after `wait` more seconds: the caller gets the real error sooner."""
    late = call.deadline is not None and call.clock() + wait >= call.deadline
    return late or call.cancelled()
