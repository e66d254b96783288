"""The store: core's manners around a driver, and a `get` that survives broken connections."""

from __future__ import annotations

from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.core.invoke import LONGEST_WAIT, MAX_ATTEMPTS
from bollard.core.plugins import registered
from bollard.core.spi import (
    Body,
    Busy,
    Call,
    Conflict,
    DataLoss,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from bollard.core.store import Store, open_store

from .ram_driver import RamManaged
from .ram_store import TOKEN, RamStore, RamStoreOptions

DATA = bytes(range(64))


class Bench:
    """A store over an object of 64 bytes, whose sleeping moves its own clock."""

    def __init__(self, *, chunk: int = 7, deadline: float | None = None) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.driver = RamStore(RamStoreOptions(), chunk=chunk)
        self.driver.objects["a"] = DATA
        self.events: list[object] = []
        self.store = Store("s", self.driver, sleep=self.sleep, observe=self.events.append)
        self.call = Call(deadline=deadline, clock=lambda: self.now)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept.append(seconds)
        self.now += seconds

    def get(self, **range_: int | None) -> bytes:
        """Read the object or a range of it."""
        return b"".join(self.store.get("a", self.call, **range_))  # type: ignore[arg-type]  # passed on as given


BROKEN = st.sampled_from([Unavailable, Busy])


@given(
    breaks=st.lists(st.tuples(st.integers(1, 40), BROKEN), max_size=6),
    chunk=st.integers(1, 70),
    start=st.integers(0, 63),
    length=st.none() | st.integers(1, 64),
)
def test_get_resumes_where_it_broke(breaks, chunk, start, length):
    """Wherever the connection breaks, every byte of the range arrives exactly once, in order."""
    length = None if length is None else min(length, 64 - start)
    bench = Bench(chunk=chunk)
    bench.driver.breaks.extend((allowed, error("broke")) for allowed, error in breaks)
    end = 64 if length is None else start + length

    assert bench.get(offset=start, length=length) == DATA[start:end]
    offsets = [offset for offset, _ in bench.driver.ranges]
    assert offsets == sorted(offsets)
    assert all(n is None or offset + n == end for offset, n in bench.driver.ranges)


def test_break_after_the_last_byte_is_no_failure():
    """Everything arrived, then the connection broke: there is nothing to ask for, which stores refuse."""
    for length in (None, 64):
        bench = Bench()
        bench.driver.breaks.append((64, Unavailable("broke")))

        assert bench.get(length=length) == DATA
        assert bench.driver.calls.count("get") == 1


def test_waits_between_attempts():
    """A store that restarts is given time: waits with jitter, or as long as it asks for."""
    bench = Bench()
    bench.driver.breaks.extend(
        [(0, Unavailable("x", retry_after=9.0)), (5, Unavailable("x")), (0, Busy("x"))]
    )

    assert bench.get() == DATA
    assert bench.slept[0] == 9.0
    assert len(bench.slept) == 3
    assert all(0 <= s <= LONGEST_WAIT for s in bench.slept)


def test_attempts_without_progress_are_limited():
    """A store that gives nothing any more is given up after as many attempts as any call."""
    bench = Bench()
    bench.driver.breaks.extend([(7, Unavailable("down"))] + [(0, Unavailable("down"))] * 50)

    with pytest.raises(Unavailable, match="down"):
        bench.get()
    assert bench.driver.calls.count("get") == MAX_ATTEMPTS


def test_progress_starts_the_count_anew():
    """A long download may break more often than a call may fail, as long as it gets on."""
    bench = Bench(chunk=1)
    bench.driver.breaks.extend([(1, Unavailable("flaky"))] * 60)

    assert bench.get() == DATA


def test_get_does_not_wait_past_the_deadline():
    """The store's own error comes in time instead of a sleep up to the deadline."""
    bench = Bench(deadline=5.0)
    bench.driver.breaks.append((7, Unavailable("down", retry_after=5.0)))

    with pytest.raises(Unavailable, match="down"):
        bench.get()
    assert bench.slept == []


def test_cancelled_get_is_not_resumed():
    """A cancelled download ends at the next break."""
    bench = Bench()
    bench.driver.breaks.append((7, Unavailable("down")))
    bench.call.cancel.set()

    with pytest.raises(Unavailable):
        bench.get()
    assert bench.driver.calls == ["get"]


@pytest.mark.parametrize("length", [10, 64])
def test_short_stream_is_data_loss(length):
    """A stream that ends early without an error is caught by counting."""
    bench = Bench()
    bench.driver.breaks.append((length - 3, None))

    with pytest.raises(DataLoss, match="ended 3 bytes early"):
        bench.get(length=length)


def test_short_stream_after_a_break_is_data_loss_even_without_a_length():
    """Once resumed, core knows the size, and counts."""
    bench = Bench()
    bench.driver.breaks.extend([(7, Unavailable("x")), (5, None)])

    with pytest.raises(DataLoss, match="early"):
        bench.get()


def test_long_stream_is_data_loss():
    """A driver that ignores the length is caught before the excess is handed out."""
    bench = Bench(chunk=64)
    bench.driver._stream = lambda *_: iter([DATA])  # type: ignore[method-assign]  # this store lies

    with pytest.raises(DataLoss, match="54 bytes more"):
        bench.get(length=10)


@pytest.mark.parametrize("error", [NotFound("x"), DataLoss("x"), InvalidArgument("x")])
def test_other_errors_end_the_stream(error):
    """What a retry would not cure reaches the reader at once."""
    bench = Bench()
    bench.driver.breaks.append((7, error))

    with pytest.raises(type(error)):
        bench.get()
    assert bench.driver.calls == ["get"]


def test_foreign_exceptions_are_typed_and_clean():
    """In the call itself or while streaming: `Internal`, without the token."""
    streaming, calling = Bench(), Bench()
    streaming.driver.breaks.append((7, OSError(f"Token {TOKEN}")))
    calling.driver.faults.append(OSError(f"Token {TOKEN}"))

    for bench in (streaming, calling):
        with pytest.raises(Internal) as caught:
            bench.get()
        assert TOKEN not in str(caught.value) + caught.value.detail
        assert caught.value.__context__ is None


OTHERS = {
    "put": lambda b: b.store.put("b", Body.of(b"x"), b.call),
    "head": lambda b: b.store.head("a", b.call),
    "list": lambda b: b.store.list("", b.call),
    "delete": lambda b: b.store.delete("a", b.call),
    "abort_uploads": lambda b: b.store.abort_uploads("", b.call, older_than=60),
    "open": lambda b: b.store.open(b.call),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_call_is_retried_and_clean(name):
    """Each method repeats what is retryable, and types and redacts the rest."""
    bench = Bench()
    bench.driver.faults.extend([Unavailable("x"), Busy("x")])
    OTHERS[name](bench)
    assert bench.driver.calls == [name] * 3

    bench.driver.faults.append(ValueError(TOKEN))
    with pytest.raises(Internal) as caught:
        OTHERS[name](bench)
    assert TOKEN not in str(caught.value) + caught.value.detail


def test_put_opens_the_body_anew_for_each_attempt():
    """A retry sends all bytes again from the first one."""
    bench, body = Bench(), Body.of(b"hello")
    opened: list[bool] = []

    def open_body() -> BinaryIO:
        opened.append(True)
        return body.open()

    counted = Body(size=body.size, sha256=body.sha256, open=open_body)
    bench.driver.objects.clear()
    original, failing = bench.driver.put, [Unavailable("reply lost")]

    def put(*args: object, **kwargs: object) -> object:
        result = original(*args, **kwargs)  # type: ignore[arg-type]  # passed on as given
        if failing:
            raise failing.pop()
        return result

    bench.driver.put = put  # type: ignore[method-assign, assignment]  # this store counts
    bench.store.put("a", counted, bench.call)

    assert bench.driver.objects == {"a": b"hello"}
    assert len(opened) == 2


def test_too_large_bodies_are_refused_before_anything_is_sent():
    """The store's limit is core's to check."""
    bench = Bench()

    with pytest.raises(InvalidArgument, match="1001 bytes, the store takes at most 1000"):
        bench.store.put("b", Body.of(bytes(1001)), bench.call)
    assert bench.driver.calls == []
    bench.store.put("b", Body.of(bytes(1000)), bench.call)


def test_if_absent_reaches_the_driver():
    """A conditional put keeps what is there."""
    bench = Bench()

    with pytest.raises(Conflict):
        bench.store.put("a", Body.of(b"other"), bench.call, if_absent=True)
    assert bench.driver.objects["a"] == DATA


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\nb", "a\0", "\ud800", None]
)
def test_bad_keys_never_reach_the_driver(key):
    """A key that could leave its directory or break a listing is refused by every method."""
    bench = Bench()
    for act in (
        lambda: bench.store.put(key, Body.of(b"x"), bench.call),
        lambda: list(bench.store.get(key, bench.call)),
        lambda: bench.store.head(key, bench.call),
        lambda: bench.store.delete(key, bench.call),
    ):
        with pytest.raises(InvalidArgument, match="key"):
            act()
    assert bench.driver.calls == []


@pytest.fixture
def born():
    """The drivers that `open_store("ram-store", …)` makes, failing as planned."""
    made: list[RamStore] = []
    faults: list[Exception] = []

    class Planned(RamStore):
        """A store whose faults are planned before it exists."""

        def __init__(self, options):
            super().__init__(options)
            self.faults.extend(faults)
            made.append(self)

    with registered("ram-store", Planned), registered("ram", RamManaged):
        yield made, faults


def test_open_store_opens_and_closes(born):
    """Options are parsed, the driver is opened, and close reaches it."""
    store = open_store("nightly", "ram-store", {"token": "x"})
    store.close()

    assert (born[0][0].calls, born[0][0].closed) == (["open"], 1)
    assert store.name == "nightly"


@pytest.mark.parametrize("fault", [NotFound("no bucket"), RuntimeError(TOKEN)])
def test_driver_is_closed_when_opening_the_store_fails(born, fault):
    """A store that cannot be opened leaves no connection, and its error is typed and clean."""
    born[1].append(fault)

    with pytest.raises((NotFound, Internal)) as caught:
        open_store("nightly", "ram-store", {})
    assert born[0][0].closed == 1
    assert TOKEN not in str(caught.value)


def test_wrong_kind_or_options_are_refused(born):
    """A primary driver is no store, and a bad option is told before anything is made."""
    with pytest.raises(InvalidArgument, match="'ram' is not a secondary store driver"):
        open_store("nightly", "ram", {})
    with pytest.raises(InvalidArgument, match="did you mean 'token'"):
        open_store("nightly", "ram-store", {"tokn": "x"})
    with pytest.raises(InvalidArgument, match=r"store\.name"):
        open_store("a/b", "ram-store", {})
    assert [d.calls for d in born[0]] == [[]] * len(born[0])
