"""Whatever a driver does, the suite goes on and knows what happened."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from bollard.conformance.hosting.failures import DriverRaised, NotReturned
from bollard.conformance.hosting.wire import NotCarried
from bollard.core.pool import Pool
from bollard.core.spi import (
    Body,
    Call,
    Capability,
    DeadlineExceeded,
    Internal,
    NotFound,
    Outcome,
    PoolInfo,
    StorageError,
    Unavailable,
    VolumeSpec,
)
from odd_drivers import KeptDriver, OddDriver, OddStore
from primary_rig import S1, WEB, call

Hosted = Callable[..., Any]


def test_arguments_arrive_as_they_were_given(steady: Any) -> None:
    """By place and by keyword, with defaults, request id and deadline."""
    assert steady.open(call()) == PoolInfo(identity="odd", name="canary-5d3f")
    assert steady.traits().max_size == 12345 * 512
    assert steady.list_volumes(call()).after == "None 1000"
    assert steady.list_volumes(call=call(), limit=5, after="x").after == "x 5"
    assert steady.unavailable(call()) == {Capability.CAPACITY: "no licence"}
    asked = Call.within(30)
    assert steady.create_volume(VolumeSpec(id=WEB, size=512), asked).private == {"request": asked.request_id}
    assert steady.capacity(asked)["deadline"] == asked.deadline
    assert steady.capacity(Call())["deadline"] is None


def test_errors_keep_their_kind_and_facts(steady: Any) -> None:
    """A vendor's subclass arrives as the taxonomy's class, with everything it said."""
    with pytest.raises(NotFound) as caught:
        steady.get_volume("typed", call())
    error = caught.value
    assert type(error) is NotFound
    assert (error.message, error.outcome, error.detail) == ("no such LUN", Outcome.APPLIED, "LUN 7")
    assert (error.retry_after, error.__notes__) == (1.5, ["seen on port 2"])
    assert repr(error.__cause__) == "KeyError('lun-7')"


@pytest.mark.parametrize(
    ("deed", "name", "text"),
    [
        ("foreign", "ZeroDivisionError", "1/0 in the SDK"),
        ("sys-exit", "SystemExit", "enough"),
        ("interrupt", "KeyboardInterrupt", ""),
        ("recurse", "RecursionError", "maximum recursion depth"),
        ("rude", "Rude", "whose text raises RuntimeError"),
        ("half-made", "NotFound", ""),
        ("no-such-deed", "KeyError", "no-such-deed"),
    ],
)
def test_what_is_not_in_the_taxonomy_stays_foreign(steady: Any, deed: str, name: str, text: str) -> None:
    """It is an ordinary exception of the original's name here, told with the trace from over there."""
    with pytest.raises(DriverRaised) as caught:
        steady.get_volume(deed, call())
    assert text in str(caught.value)
    assert type(caught.value).__name__ == name
    assert not isinstance(caught.value, StorageError)
    assert "odd_drivers.py" in caught.value.__notes__[0] or "no trace" in caught.value.__notes__[0]
    assert steady.host.alive


def test_core_calls_a_foreign_exception_internal(steady: Any) -> None:
    """Core says of it what it says of one that was raised in its own process."""
    pool = Pool("odd", steady)
    with pytest.raises(Internal, match="the driver raised ZeroDivisionError: 1/0 in the SDK") as caught:
        pool.run("x", (), lambda c: steady.get_volume("foreign", c))
    assert "odd_drivers.py" in caught.value.detail


def test_the_bare_base_of_the_taxonomy_is_carried(steady: Any) -> None:
    """A driver that raises `StorageError` itself breaks the contract, and the suite can see it."""
    with pytest.raises(StorageError) as caught:
        steady.get_volume("bare", call())
    assert type(caught.value) is StorageError


@pytest.mark.parametrize(
    ("deed", "text"),
    [
        ("function", r"OddDriver.get_volume gave a function .* builtins.function"),
        ("coroutine", "gave a coroutine"),
        ("half-made-value", "a Volume without 'id'"),
        ("huge", "gave a str that cannot leave the driver host: 4.* bytes"),
        ("huge-error", "raised an error that is too large"),
        ("deep", "gave a list .* too deeply nested"),
        ("digits", "gave a int .* digits"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the coroutine's, in the host
def test_what_cannot_be_passed_on_is_named(steady: Any, deed: str, text: str) -> None:
    """A return value that is nothing of the SPI gives an error that names method and type."""
    with pytest.raises(NotReturned, match=text):
        steady.get_volume(deed, call())
    assert steady.get_volume("text", call()) == "not a volume"


@pytest.mark.parametrize(
    ("deed", "how"),
    [
        ("os-exit", "exit code 3"),
        ("segfault", "signal 11"),
        ("rubbish", "signal 9"),
        ("close-sockets", r"\("),
    ],
)
def test_a_host_that_ends_under_a_call(odd: Any, deed: str, how: str) -> None:
    """Exit, crash, rubbish on our socket: unknown for the call, not applied for later ones; close is fine."""
    with pytest.raises(Unavailable, match=rf"the driver host is dead .*{how}") as caught:
        odd.get_volume(deed, call())
    assert caught.value.outcome is Outcome.UNKNOWN
    with pytest.raises(Unavailable) as later:
        odd.traits()
    assert later.value.outcome is Outcome.NOT_APPLIED
    odd.close()


def test_what_is_printed_and_logged_is_kept(odd: Any) -> None:
    """Standard output and error go to one file, log records of every level to another; neither disturbs."""
    odd.get_volume("print", call())
    output, log = odd.host.files.output.read_text(), odd.host.files.log.read_text()
    assert output.splitlines() == ["printed", "complained", "written"]
    assert "acme.sdk DEBUG logged" in log
    assert "-> get_volume" in log
    assert odd.host.files.log.stat().st_mode & 0o077 == 0


def test_a_cancelled_call_stops(steady: Any) -> None:
    """The driver sees the flag within a moment, and its answer comes back."""
    asked = call()
    timer = threading.Timer(0.2, asked.cancel.set)
    timer.start()
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="cancelled"):
        steady.get_volume("until-stopped", asked)
    assert time.monotonic() - begun < 10
    timer.join()


def test_a_driver_that_oversleeps_its_deadline_is_ended(hosted: Hosted) -> None:
    """A call that never returns costs the host its life, and the suite no more than its patience."""
    odd = hosted(OddDriver, patience=0.3)
    with pytest.raises(Unavailable, match=r"within 0 s after its deadline; its host was ended"):
        odd.get_volume("forever", Call.within(0.2))
    assert not odd.host.alive


def test_calls_of_several_threads_run_at_once(steady: Any) -> None:
    """One that waits does not keep others from running, and each thread keeps its own over there."""
    waiting = call()

    def wait() -> None:
        with pytest.raises(DeadlineExceeded):
            steady.get_volume("until-stopped", waiting)

    thread = threading.Thread(target=wait)
    thread.start()
    mine = steady.get_volume("thread", call())
    assert steady.get_volume("thread", call()) == mine
    others: list[int] = []
    other = threading.Thread(target=lambda: others.append(steady.get_volume("thread", call())))
    other.start()
    other.join()
    assert others != [mine]
    waiting.cancel.set()
    thread.join()


def test_the_suites_first_thread_is_the_hosts_main_thread(steady: Any) -> None:
    """A driver that sets a signal handler may do so, as it may without a host."""
    steady.get_volume("signal", call())


def test_progress_comes_back(steady: Any) -> None:
    """Steps arrive in order and the last of them always; not all, for nobody could look at them."""
    seen: list[tuple[int, int]] = []
    steady.get_volume("progress", Call.within(30, progress=lambda done, total: seen.append((done, total))))
    assert seen == sorted(seen)
    assert seen[-1] == (999, 999)
    assert len(seen) < 500


def test_what_the_suite_itself_raises_ends_the_wait(steady: Any) -> None:
    """A failing progress sink is the suite's own: it gets out, the driver is told to stop, others go on."""

    def broken(done: int, total: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        steady.get_volume("progress", Call.within(30, progress=broken))
    assert steady.get_volume("text", call()) == "not a volume"


def test_extents_are_streamed(steady: Any) -> None:
    """All of them, in order; from anywhere; and what breaks the stream comes at its place."""
    assert [e.offset // 512 for e in steady.changed(None, "x", call(), start=3)] == list(range(3, 5003))
    stream = steady.changed(None, "breaks", call())
    for number in range(1500):
        assert next(stream).offset == 512 * number
    with pytest.raises(Unavailable, match="restarting"):
        next(stream)
    stream = steady.changed(None, "odd", call())
    with pytest.raises(NotReturned, match=r"changed gave a"):
        list(stream)
    assert list(stream) == []


def test_nothing_is_made_ahead_of_its_consumer(hosted: Hosted) -> None:
    """A generator is asked for what is wanted, not run to its end, and closed when the consumer is."""
    kept = hosted(KeptDriver)
    stream = kept.changed(None, "made", call())
    next(stream), next(stream)
    assert kept.get_volume("made", call()) <= 3
    assert kept.get_volume("closed", call()) is False
    stream.close()
    assert kept.get_volume("closed", call()) is True


@pytest.mark.parametrize("key", ["all", "into", "thread"])
def test_bodies_can_be_read_in_every_way(hosted: Hosted, key: str) -> None:
    """At once and larger than a frame, into a buffer, and from a thread of the driver's own."""
    store, data = hosted(OddStore), bytes(range(256)) * 4096 * (20 if key != "into" else 1)
    store.put(key, Body.of(data), call())
    assert b"".join(store.get(key, call())) == data


def test_bodies_can_be_read_from_the_middle(hosted: Hosted) -> None:
    """What a reader can do here, it can do there."""
    store = hosted(OddStore)
    store.put("seek", Body.of(b"0123456789"), call())
    assert b"".join(store.get("seek", call())) == b"567"


class Broken(io.BytesIO):
    """A body that cannot be read."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def read(self, _size: int | None = -1) -> bytes:
        """Fail."""
        raise self.error


@pytest.mark.parametrize("error", [OSError(5, "bad block"), LookupError("lost"), NotFound("gone")])
def test_what_a_body_raises_comes_back_as_itself(hosted: Hosted, error: Exception) -> None:
    """The very exception, if the driver lets it through."""
    store = hosted(OddStore)
    with pytest.raises(type(error)) as caught:
        store.put("k", Body(size=1, sha256="", open=lambda: Broken(error)), call())
    assert caught.value is error


def test_a_driver_can_handle_what_a_body_raises(hosted: Hosted) -> None:
    """An OSError arrives as one over there, with its number."""
    store = hosted(OddStore)
    body = Body(size=1, sha256="", open=lambda: Broken(OSError(5, "bad block")))
    with pytest.raises(Unavailable, match="errno 5"):
        store.put("swallow", body, call())


def test_ctrl_c_in_a_body_gets_out_at_once(hosted: Hosted) -> None:
    """No driver stands between the user's interrupt and the suite."""
    store = hosted(OddStore)
    with pytest.raises(KeyboardInterrupt):
        store.put("k", Body(size=1, sha256="", open=lambda: Broken(KeyboardInterrupt())), call())
    store.put("k", Body.of(b"x"), call())


def test_a_body_that_is_read_after_its_call_is_over_is_refused(hosted: Hosted) -> None:
    """A thread that a driver left behind gets an error, and hangs nothing."""
    store = hosted(OddStore)
    for _ in range(3):
        store.put("late", Body.of(b"x"), call())
    assert store.traits().max_object_size == 1 << 40


class CountingGuest:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def freeze(self) -> None:
        """Freeze."""
        self.asked.append("freeze")

    def thaw(self) -> None:
        """Thaw."""
        self.asked.append("thaw")


def test_a_guest_is_frozen_here(steady: Any) -> None:
    """A guest is an object of the suite's; its methods are called in the thread that made the call."""
    guest = CountingGuest()
    with pytest.raises(NotFound, match="web-1 s1"):
        steady.create_quiesced_snapshot(WEB, S1, guest, call())
    assert guest.asked == ["freeze", "thaw"]


def test_arguments_that_are_no_values_are_the_suites_fault(steady: Any) -> None:
    """What the suite must not pass is refused before anything is sent."""
    with pytest.raises(NotCarried, match=r"builtins\.object"):
        steady.get_volume(cast("Any", object()), call())
    with pytest.raises(NotCarried, match="get_volume"):
        steady.get_volume("x" * (40 << 20), call())
    assert steady.get_volume("text", call()) == "not a volume"
