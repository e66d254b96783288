"""How core calls a driver: retries, deadlines, redaction and events, with time and jitter in hand."""

from __future__ import annotations

import base64
import threading
import traceback
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.core.events import Event, Phase
from bollard.core.invoke import FIRST_WAIT, LONGEST_WAIT, MAX_ATTEMPTS, Invoker
from bollard.core.redact import Redactor
from bollard.core.spi import (
    TAXONOMY,
    Busy,
    Call,
    DataLoss,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    Outcome,
    StorageError,
    Unavailable,
)
from bollard.transfer_objects.secret import Secret

PASSWORD = "corr3ct/horse+battery"
RETRIED = {Busy, Unavailable}


class Bench:
    """An invoker whose sleeping moves its own clock, and which notes what happened."""

    def __init__(self, deadline: float | None = None) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.events: list[Event] = []
        self.calls: list[Call] = []
        self.call = Call(deadline=deadline, clock=lambda: self.now)
        self.invoker = Invoker(
            redact=Redactor([Secret(PASSWORD)]), observe=self.events.append, sleep=self.sleep
        )

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        assert seconds >= 0  # as time.sleep
        self.slept.append(seconds)
        self.now += seconds

    def run(self, *answers: object, takes: float = 0.0) -> object:
        """Run an operation whose attempts raise or return these, the last one for ever."""
        left = list(answers)

        def act(call: Call) -> object:
            self.calls.append(call)
            self.now += takes
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, BaseException):
                raise answer
            return answer() if callable(answer) else answer

        return self.invoker.run("volume.create", ("v-1",), self.call, act)

    @property
    def phases(self) -> list[tuple[str, int, str]]:
        """What observers heard."""
        return [(e.phase.value, e.attempt, e.error) for e in self.events]


def everything_shown(error: BaseException) -> str:
    """What a log, a debugger or a careless `print` could show of an error."""
    text = ""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        text += f"{one}{one!r}{vars(one)}" + "".join(traceback.format_exception(one))
        todo += [one.__cause__, one.__context__]
    return text


# -- retries ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", TAXONOMY)
def test_only_retryable_errors_are_repeated(cls):
    """Busy and Unavailable are tried again; every other class reaches the caller at once."""
    bench = Bench()

    if cls in RETRIED:
        assert bench.run(cls("x"), "done") == "done"
    else:
        with pytest.raises(cls):
            bench.run(cls("x"), "done")
    assert len(bench.calls) == (2 if cls in RETRIED else 1)


def test_applied_is_not_repeated():
    """An answer that is bad after the deed means look, not repeat, even where the class is retryable."""
    bench = Bench()

    with pytest.raises(Unavailable):
        bench.run(Unavailable("reply garbled", outcome=Outcome.APPLIED), "done")
    assert len(bench.calls) == 1


def test_attempts_are_limited():
    """Without a deadline, core gives up after its number of attempts with the driver's own error."""
    bench = Bench()

    with pytest.raises(Unavailable, match="down"):
        bench.run(Unavailable("down"))
    assert len(bench.calls) == MAX_ATTEMPTS


def test_same_request_id_on_each_attempt():
    """A backend can recognise the repetition: every attempt carries the same call."""
    bench = Bench()
    bench.run(Busy("x"), Unavailable("x"), "done")

    assert [c.request_id for c in bench.calls] == [bench.call.request_id] * 3


def test_waits_are_bounded_and_grow():
    """Each wait lies between zero and a bound that doubles, up to the longest one."""
    bench = Bench()
    for _ in range(30):
        with pytest.raises(Busy):
            bench.run(Busy("x"))

    for nth, wait in enumerate(bench.slept):
        assert 0 <= wait <= min(LONGEST_WAIT, FIRST_WAIT * 2 ** (nth % (MAX_ATTEMPTS - 1)))
    assert len(set(bench.slept)) > len(bench.slept) // 2  # jitter: two clients do not march in step


@pytest.mark.parametrize(("asked", "waits"), [(7.5, 7.5), (0.0, 0.0), (-3.0, 0.0), (float("nan"), 0.0)])
def test_retry_after_is_honoured(asked, waits):
    """The backend's own wish replaces the jitter; a wish in the past means now."""
    bench = Bench()
    bench.run(Unavailable("x", retry_after=asked), "done")

    assert bench.slept == [waits]


@given(
    deadline=st.floats(0.1, 60),
    takes=st.floats(0.001, 5),
    asked=st.none() | st.floats(0, 30),
)
def test_no_attempt_begins_after_the_deadline(deadline, takes, asked):
    """Core never sleeps up to or past the deadline: the caller has the driver's own error in time."""
    bench = Bench(deadline)

    with pytest.raises(Unavailable):
        bench.run(Unavailable("down", retry_after=asked), takes=takes)

    assert bench.now < deadline + takes
    assert bench.now - takes < deadline  # the last attempt began before the deadline


def test_expired_call_does_not_reach_the_driver():
    """With no time left the driver is not touched, and nothing was applied."""
    bench = Bench(deadline=0.0)

    with pytest.raises(DeadlineExceeded) as caught:
        bench.run("done")
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert bench.calls == []


def test_cancelled_call_is_not_repeated():
    """Cancelling while an attempt runs ends the retries with the driver's error."""
    bench = Bench()

    def cancel() -> None:
        bench.call.cancel.set()
        raise Unavailable("x")

    with pytest.raises(Unavailable):
        bench.run(cancel)
    assert len(bench.calls) == 1


def test_unknown_stays_unknown():
    """If a first attempt may have run, the operation may have: a later "not applied" does not deny it."""
    for last in (Busy("x"), NotFound("x"), InvalidArgument("x")):
        bench = Bench()
        with pytest.raises(type(last)) as caught:
            bench.run(Unavailable("reply lost"), last)
        assert caught.value.outcome is Outcome.UNKNOWN


def test_cancelled_while_waiting_keeps_the_outcome():
    """Cancelled between two attempts, of which the first may have run: the outcome is unknown."""
    bench = Bench()
    bench.invoker = Invoker(redact=Redactor([]), sleep=lambda _: bench.call.cancel.set())

    with pytest.raises(StorageError) as caught:
        bench.run(Unavailable("reply lost"), "done")
    assert caught.value.outcome is Outcome.UNKNOWN


def test_refusals_that_did_nothing_stay_so():
    """Busy, then refused: nothing was applied at any time."""
    bench = Bench()
    with pytest.raises(NotFound) as caught:
        bench.run(Busy("x"), NotFound("x"))
    assert caught.value.outcome is Outcome.NOT_APPLIED


# -- what escapes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shown",
    [
        PASSWORD,
        urllib.parse.quote(PASSWORD, safe=""),
        urllib.parse.quote_plus(PASSWORD),
        base64.b64encode(PASSWORD.encode()).decode(),
        base64.b64encode(f"admin:{PASSWORD}".encode()).decode(),
        base64.b64encode(f"root:{PASSWORD}".encode()).decode(),
        repr(PASSWORD.encode()),
    ],
)
def test_foreign_exception_becomes_internal_without_the_secret(shown):
    """What escapes a driver is `Internal`, outcome unknown, and shows the secret nowhere."""
    bench = Bench()

    with pytest.raises(Internal, match="RuntimeError") as caught:
        bench.run(RuntimeError(f"login failed: {shown}"))

    assert caught.value.outcome is Outcome.UNKNOWN
    assert "RuntimeError" in caught.value.detail
    assert "act" in caught.value.detail  # where in the driver
    assert PASSWORD not in everything_shown(caught.value)
    assert shown not in everything_shown(caught.value)
    assert len(bench.calls) == 1


def chained() -> StorageError:
    """A driver's error whose cause is clean, but whose cause's cause shows the secret."""
    try:
        try:
            raise ConnectionError(f"https://admin:{PASSWORD}@array")
        except ConnectionError as error:
            raise TimeoutError("connect") from error
    except TimeoutError as error:
        return _raised(InvalidArgument("cannot connect"), error)


def implicit() -> StorageError:
    """A driver's error that was raised while handling one that shows the secret, without `from`."""
    try:
        raise ConnectionError(PASSWORD)
    except ConnectionError:
        try:
            raise InvalidArgument("cannot connect")
        except InvalidArgument as error:
            return error


def noted() -> StorageError:
    """A driver's error with a note that shows the secret."""
    error = InvalidArgument("cannot connect")
    error.add_note(f"tried {PASSWORD}")
    return error


def _raised(error: StorageError, cause: BaseException) -> StorageError:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "make",
    [
        lambda: InvalidArgument(f"bad {PASSWORD}", detail=f"sent {PASSWORD}"),
        lambda: _raised(InvalidArgument("no"), ValueError(PASSWORD)),
        chained,
        implicit,
        noted,
    ],
)
def test_typed_errors_are_redacted_with_all_that_hangs_on_them(make):
    """Message, detail, notes and the whole chain of causes are clean when the caller gets the error."""
    bench = Bench()

    with pytest.raises(InvalidArgument) as caught:
        bench.run(make())

    assert PASSWORD not in everything_shown(caught.value)


def test_harmless_cause_stays():
    """A cause without a secret is kept: it says why."""
    bench = Bench()

    with pytest.raises(InvalidArgument) as caught:
        bench.run(_raised(InvalidArgument("no"), ValueError("port 0")))

    assert repr(caught.value.__cause__) == "ValueError('port 0')"


def test_keyboard_interrupt_passes():
    """Ctrl-C is nobody's bug: it passes as it is, and frees the locks."""
    bench = Bench()

    with pytest.raises(KeyboardInterrupt):
        bench.run(KeyboardInterrupt())
    assert bench.invoker.locks._locks == {}


# -- streams ------------------------------------------------------------------------------------------


def stream_of(*items: object) -> Iterator[object]:
    """Yield the items; raise those that are exceptions."""
    for item in items:
        if isinstance(item, Exception):
            raise item
        yield item


@pytest.mark.parametrize("error", [RuntimeError(PASSWORD), InvalidArgument(PASSWORD), KeyError(PASSWORD)])
def test_errors_in_a_stream_are_typed_and_redacted(error):
    """What breaks after the call returned is treated like what breaks within it."""
    stream = Bench().invoker.stream(stream_of(1, 2, error), Call())
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(StorageError) as caught:
        next(stream)

    assert type(caught.value) is (InvalidArgument if isinstance(error, InvalidArgument) else Internal)
    assert PASSWORD not in everything_shown(caught.value)


def test_stream_that_is_none_is_a_bug_of_the_driver():
    """A driver that forgot to return its iterator gives `Internal`, not a TypeError."""
    with pytest.raises(Internal):
        list(Bench().invoker.stream(None, Call()))  # type: ignore[arg-type]  # wrong on purpose


def test_consumer_that_stops_closes_the_drivers_stream():
    """Leaving early runs the driver's clean-up."""
    closed = []

    def items() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    stream = Bench().invoker.stream(items(), Call())
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # a generator, typed as an iterator

    assert closed == [True]


# -- events -------------------------------------------------------------------------------------------


def test_events_of_a_success_after_retries():
    """Started once, retried with the reason of each, succeeded once."""
    bench = Bench()
    bench.run(Busy("x"), Unavailable("x"), "done")

    assert bench.phases == [
        ("started", 1, ""),
        ("retried", 2, "busy"),
        ("retried", 3, "unavailable"),
        ("succeeded", 3, ""),
    ]


@pytest.mark.parametrize("answers", [[NotFound("x")], [Busy("x"), DataLoss("x")], [RuntimeError("x")]])
def test_events_of_a_failure_end_with_it(answers):
    """An operation fails exactly once, last of all, with the code of its error."""
    bench = Bench()
    with pytest.raises(StorageError) as caught:
        bench.run(*answers)

    assert [e.phase for e in bench.events].count(Phase.FAILED) == 1
    assert bench.phases[0] == ("started", 1, "")
    assert bench.phases[-1] == ("failed", len(answers), caught.value.code)


def test_event_says_what_it_is_about():
    """An event names operation, object and request, and how long it took."""
    bench = Bench()
    bench.run("done")

    for event in bench.events:
        assert (event.operation, event.object_id, event.request_id) == (
            "volume.create",
            "v-1",
            bench.call.request_id,
        )
        assert event.seconds >= 0


# -- locks --------------------------------------------------------------------------------------------


def in_two_threads(first: Callable[[], object], second: Callable[[], object]) -> list[object]:
    """Run both at once; return results or errors."""
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(f) for f in (first, second)]
        return [d.exception(20) or d.result(20) for d in done]


def test_one_operation_per_object():
    """Two threads on one object never meet in the driver; on two objects they do."""
    invoker = Invoker(redact=Redactor([]))
    meeting = threading.Barrier(2)

    def act(call: Call) -> str:
        try:
            meeting.wait(0.3)
        except threading.BrokenBarrierError:
            return "alone"
        return "met"

    def run(key: str) -> object:
        return invoker.run("x", (key,), Call.within(20), act)

    assert in_two_threads(lambda: run("a"), lambda: run("b")) == ["met", "met"]
    meeting.reset()
    assert in_two_threads(lambda: run("a"), lambda: run("a")) == ["alone", "alone"]


def test_object_that_stays_busy_fails_with_an_event():
    """Waiting in vain for the object gives `Busy`, and observers hear the end of the operation."""
    bench = Bench()
    nested: list[StorageError] = []

    def act(call: Call) -> None:
        try:
            bench.invoker.run("inner", ("v-1",), Call.within(0.05), lambda _: None)
        except Busy as error:
            nested.append(error)

    bench.invoker.run("outer", ("v-1",), bench.call, act)

    assert [e.outcome for e in nested] == [Outcome.NOT_APPLIED]
    assert [(e.operation, e.phase.value, e.error) for e in bench.events] == [
        ("outer", "started", ""),
        ("inner", "started", ""),
        ("inner", "failed", "busy"),
        ("outer", "succeeded", ""),
    ]
