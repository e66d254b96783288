"""Limits: the rate holds, nobody is starved, a cancelled wait ends, and a thread never waits for itself."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.core.dataplane.file import FileSink, open_nofollow
from bollard.core.invoke import Invoker
from bollard.core.limits import Limits, Throttle
from bollard.core.redact import Redactor
from bollard.core.spi import Body, Call, DeadlineExceeded, InvalidArgument
from bollard.core.store import Store

from .ram_store import RamStore, RamStoreOptions

MIB = 2**20


class Time:
    """A clock that waiting moves; each wait is noted."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        """The time."""
        return self.now

    def wait(self, seconds: float, call: Call) -> None:
        """Let time pass."""
        call.check()
        self.waits.append(seconds)
        self.now += seconds


def throttle(time: Time, **limits: Any) -> Throttle:
    """A throttle on that clock."""
    return Throttle(Limits(**limits), clock=time, wait=time.wait)


@given(st.integers(1000, 10**9), st.lists(st.floats(0, 9), min_size=1, max_size=20))
def test_the_rate_holds(rate: int, seconds: list[float]):
    """However it is cut, the bytes take their time at the rate, less a quarter second at the start."""
    time, sizes = Time(), [int(rate * one) for one in seconds]
    limited = throttle(time, bandwidth=rate)
    for size in sizes:
        limited.spend(size, Call())
    expected = sum(sizes) / rate
    assert expected - 0.26 <= time.now - 1000 <= expected + 1e-3


def test_a_pause_saves_up_a_quarter_second_only():
    """After an hour of silence the line is not flooded."""
    time = Time()
    limited = throttle(time, bandwidth=100)
    time.now += 3600
    limited.spend(125, Call())
    assert sum(time.waits) == pytest.approx(1.0)


def test_a_big_transfer_waits_in_pieces():
    """A small one that comes later waits for a quarter second of the big one, not for all of it."""
    time, order = Time(), list[Any]()

    def wait(seconds: float, call: Call) -> None:
        time.now += seconds
        if len(order) == 0:
            order.append("small waits")
            limited.spend(1, Call())
            order.append(time.now)

    limited = Throttle(Limits(bandwidth=1000), clock=time, wait=wait)
    limited.spend(100_000, Call())
    assert order[1] < 1001
    assert time.now > 1099


def test_a_cancelled_wait_ends_at_once():
    """The wait for bandwidth is a wait for the cancel event: it would be 10,000 seconds otherwise."""
    call, limited = Call(), Throttle(Limits(bandwidth=1))
    limited.spend(1, call)
    caught: list[BaseException] = []

    def work() -> None:
        try:
            limited.spend(10_000, call)
        except DeadlineExceeded as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    call.cancel.set()
    thread.join(60)
    assert not thread.is_alive()
    assert "cancelled" in str(caught)


class Crowd:
    """Threads that want a slot and hold it until they are told."""

    def __init__(self, limited: Throttle) -> None:
        self.limited = limited
        self.inside: list[int] = []
        self.events: dict[int, threading.Event] = {}
        self.changed = threading.Condition()
        self.threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []

    def enter(self, name: int, call: Call) -> None:
        """Start one; returns when it is inside or in the queue."""
        self.events[name] = threading.Event()
        thread = threading.Thread(target=self._work, args=(name, call))
        before = len(self.limited._queue) + len(self.inside)
        thread.start()
        self.threads.append(thread)
        self.until(lambda: len(self.limited._queue) + len(self.inside) > before)

    def _work(self, name: int, call: Call) -> None:
        try:
            with self.limited.slot(call):
                self.inside.append(name)
                self.events[name].wait(60)
        except DeadlineExceeded as error:
            self.errors.append(error)

    def until(self, true: Callable[[], bool]) -> None:
        """Wait for something to become true."""
        tries = 0
        while not true():
            tries += 1
            assert tries < 60_000
            threading.Event().wait(0.001)

    def end(self) -> None:
        """Let all go."""
        for event in self.events.values():
            event.set()
        for thread in self.threads:
            thread.join(60)


def test_slots_are_given_in_the_order_of_asking():
    """Two at a time; who asked first is next, and a cancelled one leaves the queue without a slot."""
    crowd, calls = Crowd(Throttle(Limits(concurrency=2))), [Call() for _ in range(6)]
    for name, call in enumerate(calls):
        crowd.enter(name, call)
    assert crowd.inside == [0, 1]
    calls[3].cancel.set()
    crowd.until(lambda: len(crowd.errors) == 1)
    for name in (0, 1, 2):
        crowd.events[name].set()
        crowd.until(lambda wanted=name + 3: len(crowd.inside) == wanted)  # type: ignore[misc]  # bound now, on purpose
    assert crowd.inside[:5] == [0, 1, 2, 4, 5]
    crowd.end()
    assert crowd.limited._free == 2


def test_a_slot_given_to_a_cancelled_call_goes_to_the_next():
    """The moment between being served and giving up loses no slot."""
    limited = Throttle(Limits(concurrency=1))
    turn = threading.Event()
    limited._free = 0
    limited._give_up(turn)  # not in the queue any more: it was served
    assert limited._free == 1


def test_a_thread_does_not_wait_for_itself():
    """A body that is read from the same store, with one slot in all, goes through."""
    driver = RamStore(RamStoreOptions(), chunk=7)
    driver.objects["a"] = bytes(64)
    store = Store("s", driver, throttle=Throttle(Limits(concurrency=1)))
    data = bytes(64)

    def opened() -> BinaryIO:
        return io.BytesIO(b"".join(store.get("a", Call())))

    body = Body(size=64, sha256=Body.of(data).sha256, open=opened)
    store.put("b", body, Call())
    assert driver.objects["b"] == data


def test_store_waits_for_its_bytes():
    """What goes out and what comes in is counted; a repeated attempt is counted again."""
    time, driver = Time(), RamStore(RamStoreOptions(), chunk=16)
    store = Store("s", driver, throttle=throttle(time, bandwidth=64))
    store.put("a", Body.of(bytes(256)), Call())
    assert time.now - 1000 == pytest.approx(4 - 0.25)
    assert len(b"".join(store.get("a", Call()))) == 256
    assert time.now - 1000 == pytest.approx(8 - 0.25)


def test_a_stream_that_is_left_is_closed():
    """The driver's connection is given back when the consumer has enough."""
    closed = []

    def items() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.append(True)

    stream = Invoker(redact=Redactor([])).stream(items(), Call())
    assert next(stream) == 0
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    assert closed == [True]


def test_sources_and_sinks_are_slowed(kit_source: Any):
    """Reads and writes ask first, clones too, zeros are free; without a limit nothing is wrapped."""
    time = Time()
    limited = throttle(time, bandwidth=100)
    with limited.source(kit_source, Call()) as source, source.clone() as clone:
        assert source.size == 512
        clone.read_into(0, memoryview(bytearray(50)))
        assert list(source.extents(0, 512))
        sink: Any = limited.sink(kit_source, Call())
        sink.write(0, bytes(75))
        sink.zero(0, 512)
        sink.flush()
    assert time.now - 1000 == pytest.approx(1.0)
    assert throttle(time).source(kit_source, Call()) is kit_source


@pytest.fixture
def kit_source(tmp_path: Any) -> Any:
    """A small file, opened for writing and reading."""
    path = tmp_path / "disk"
    path.write_bytes(bytes(512))
    with FileSink(path, open_nofollow(path, writable=True)) as sink:
        yield sink


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"bandwith": 1}, "bandwith"),
        ({"bandwidth": 0}, "bandwidth"),
        ({"bandwidth": "fast"}, "fast"),
        ({"bandwidth": "1MB"}, "1MB"),
        ({"concurrency": True}, "concurrency"),
        ({"concurrency": "8"}, "concurrency"),
    ],
)
def test_bad_limits_are_refused(options: dict[str, Any], told: str):
    """The error names the place, the key and the rule."""
    with pytest.raises(InvalidArgument, match=r"^\[stores.x.limits\]: ") as caught:
        Limits.parse(options, "[stores.x.limits]")
    assert told in caught.value.message


def test_limits_are_read():
    """Bandwidth may have a unit."""
    assert Limits.parse({"bandwidth": "100MiB", "concurrency": 8}) == Limits(
        bandwidth=100 * MIB, concurrency=8
    )
    assert Limits.parse({"bandwidth": 5}).bandwidth == 5
