"""One operation per object at a time: no race, no deadlock, no litter."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bollard.core.locks import ObjectLocks
from bollard.core.spi import Busy, Call, DeadlineExceeded, Outcome

PATIENT = 20.0


def test_same_object_waits_its_turn():
    """The second thread enters only after the first has left."""
    locks, inside, order = ObjectLocks(), threading.Event(), []

    def first():
        with locks.holding(("v-1",), Call.within(PATIENT)):
            inside.set()
            assert second_waits.wait(PATIENT)
            order.append("first")

    def second():
        with locks.holding(("v-1",), Call.within(PATIENT)):
            order.append("second")

    second_waits = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(first)
        assert inside.wait(PATIENT)
        two = pool.submit(second)
        while locks._locks["v-1"][1] < 2:  # the second has announced itself
            assert not two.done()
        second_waits.set()
        one.result(PATIENT)
        two.result(PATIENT)

    assert order == ["first", "second"]
    assert locks._locks == {}


def test_other_objects_do_not_wait():
    """Two objects can be held at once."""
    locks = ObjectLocks()
    with locks.holding(("v-1",), Call.within(PATIENT)), locks.holding(("v-2",), Call.within(0.05)):
        pass


def test_busy_at_the_deadline():
    """Who waits until the deadline gets `Busy`, not applied, which names the object."""
    locks = ObjectLocks()
    with (
        locks.holding(("v-1",), Call.within(PATIENT)),
        pytest.raises(Busy, match="'v-1'") as caught,
        locks.holding(("v-1",), Call.within(0.05)),
    ):
        pytest.fail("entered")

    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert locks._locks == {}


def test_partly_taken_locks_are_given_back():
    """Failing on the second key frees the first one."""
    locks = ObjectLocks()
    with (
        locks.holding(("b",), Call.within(PATIENT)),
        pytest.raises(Busy),
        locks.holding(("a", "b"), Call.within(0.05)),
    ):
        pass

    with locks.holding(("a", "b"), Call.within(0.05)):
        pass
    assert locks._locks == {}


def test_expired_call_takes_nothing():
    """A call whose deadline has passed does not get a lock, even a free one."""
    locks = ObjectLocks()
    with pytest.raises(DeadlineExceeded), locks.holding(("v-1",), Call(deadline=1.0, clock=lambda: 2.0)):
        pass

    assert locks._locks == {}


def test_body_that_raises_frees_the_lock():
    """An error inside passes through, and the lock is free again."""
    locks = ObjectLocks()
    with pytest.raises(ZeroDivisionError), locks.holding(("v-1",), Call.within(PATIENT)):
        raise ZeroDivisionError

    assert locks._locks == {}


def test_waiter_holds_nothing_that_comes_later_in_the_order():
    """Keys are taken in sorted order: who waits for "a" does not sit on "b" meanwhile."""
    locks = ObjectLocks()

    def take_both() -> None:
        with locks.holding(("b", "a"), Call.within(PATIENT)):
            pass

    with ThreadPoolExecutor(1) as pool:
        with locks.holding(("a",), Call.within(PATIENT)):
            waiting = pool.submit(take_both)
            while locks._locks["a"][1] < 2 and "b" not in locks._locks:  # it has come to its first key
                assert not waiting.done()
            with locks.holding(("b",), Call.within(0.2)):
                pass
        waiting.result(PATIENT)


def test_key_named_twice_is_taken_once():
    """A volume cloned onto its own id does not wait for itself."""
    locks = ObjectLocks()
    with locks.holding(("v-1", "v-1"), Call.within(0.05)):
        pass


@settings(max_examples=15)
@given(st.lists(st.permutations(["a", "b", "c"]), min_size=4, max_size=4))
def test_crossed_keys_never_deadlock(orders):
    """Threads that name the same objects in any order all get through, one at a time."""
    locks, start, inside, most = ObjectLocks(), threading.Barrier(len(orders)), [], []

    def work(keys):
        start.wait(PATIENT)
        for _ in range(20):
            with locks.holding(tuple(keys[:2]), Call.within(PATIENT)):
                inside.append(keys[0])
                most.append(len(inside))
                inside.pop()

    with ThreadPoolExecutor(len(orders)) as pool:
        for done in [pool.submit(work, keys) for keys in orders]:
            done.result(PATIENT)

    assert max(most) == 1  # any two of three keys overlap
    assert locks._locks == {}
