"""Replacing an image: whatever fails or dies, the old one or the new one is there, and whole."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from bollard.core.archive import Archive, Manifest, Timing
from bollard.core.spi import Busy, Call, DeadlineExceeded, NotFound, Outcome, StorageError, Unavailable

SIZE = 8192
TIMING = Timing(lease=100, grace=50)


class Place:
    """An archive whose image vol-1/copy is replaced; beside it lies an increment of another snapshot."""

    def __init__(self, kit: Any, small: Any, inline: Any, store: Any) -> None:
        self.kit, self.small, self.inline, self.store = kit, small, inline, store
        self.clock = kit.FakeClock()
        self.numbers = itertools.count()
        self.old, self.new = kit.noise(1, SIZE), kit.noise(1, SIZE // 2) + kit.noise(2, SIZE // 2)
        archive = self.archive()
        for snapshot, parent in (("s0", None), ("s1", "s0")):
            source = kit.Ram(kit.noise(3, SIZE), cell=512)
            ids = {"volume": "vol-1", "snapshot": snapshot, "parent": parent}
            archive.create(source, Call(), **ids, options=small)

    def archive(self, writer: str = "agent-1") -> Archive:
        """A new process."""
        new_attempt = lambda: f"t{next(self.numbers)}"  # noqa: E731 - an argument
        more = {"clock": self.clock, "timing": TIMING, "new_attempt": new_attempt, "pause": lambda _: None}
        return self.inline(self.store, writer=writer, **more)

    def replace(self, content: bytes, writer: str = "agent-1") -> Manifest:
        """Put this content in the place."""
        source = self.kit.Ram(content, cell=512)
        archive = self.archive(writer)
        return archive.replace(source, Call(), volume="vol-1", snapshot="copy", options=self.small)

    def content(self) -> bytes:
        """What is in the place, checked."""
        sink = self.kit.Ram(SIZE)
        self.archive().restore(sink, Call(), volume="vol-1", snapshot="copy")
        return bytes(sink.data)

    def stored(self) -> set[str]:
        """Everything on the store that is the place's."""
        page = self.store.list("v1/vol-1/copy/", Call())
        assert page.after is None
        return {item.key for item in page.items}

    def assert_only(self, content: bytes) -> None:
        """Once all leases are over, this content is in the place, and nothing of any other."""
        self.clock.now += TIMING.lease + TIMING.grace + 1
        archive = self.archive()
        archive.collect(Call(), volume="vol-1", known=["s0", "s1", "copy"])
        assert self.content() == content
        manifest = archive.show(Call(), volume="vol-1", snapshot="copy")
        needed = {manifest.key_of(window, part) for window, part in manifest.parts()}
        assert self.stored() == needed | {"v1/vol-1/copy/manifest.json"}
        for snapshot in ("s0", "s1"):
            assert archive.verify(Call(), volume="vol-1", snapshot=snapshot).problems == ()


@pytest.fixture
def place(kit, small, inline, store) -> Place:
    """A place on each kind of store."""
    return Place(kit, small, inline, store)


class Hit:
    """Raises before or after the call of a number, and with `dead` at each later one."""

    def __init__(self, when: str, number: int, error: BaseException, *, dead: bool) -> None:
        self.when, self.left, self.error, self.dead = when, number, error, dead

    @property
    def struck(self) -> bool:
        """Whether it came to that call."""
        return self.left < 0

    def __call__(self, moment: str, *_: str) -> None:
        """See `MemoryStore.hook`."""
        if self.struck and self.dead:
            raise self.error
        if moment == self.when and not self.struck:
            self.left -= 1
            if self.struck:
                raise self.error


def _hits(kit: Any, small: Any, inline: Any, error: BaseException, *, dead: bool) -> Iterator[Any]:
    """Yield places with an old image and a hit, each a call later than the one before, until none strikes."""
    for when, conditional in (("before", True), ("after", False)):
        for number in itertools.count():
            one = Place(kit, small, inline, kit.MemoryStore(kit.MemoryOptions(conditional_put=conditional)))
            one.replace(one.old)
            hit = Hit(when, number, error, dead=dead)
            yield one, hit
            if not hit.struck:
                assert number > 5
                break


def test_a_new_image_takes_the_place_of_the_old_one(place):
    """On each kind of store: the new content is read back, and nothing of the old one stays."""
    first = place.replace(place.old)
    assert place.content() == place.old
    second = place.replace(place.new)
    assert second.digest != first.digest
    assert place.content() == place.new
    place.assert_only(place.new)


def test_the_space_is_freed_at_once(place):
    """No lease has to be over before the old parts go, where a listing tells the truth."""
    place.replace(place.old)
    place.replace(place.new)
    manifest = place.archive().show(Call(), volume="vol-1", snapshot="copy")
    attempts = {key.split("/")[3] for key in place.stored()} - {"manifest.json"}
    if place.store.traits().listing_consistent:
        assert attempts == {manifest.attempt}
    else:
        assert manifest.attempt in attempts


def test_died_at_each_call(kit, small, inline):
    """Old or new is there, whole; the next run puts the new one, and nothing else is left."""
    for one, hit in _hits(kit, small, inline, kit.Crash(), dead=True):
        one.store.hook = hit
        with contextlib.suppress(kit.Crash):
            one.replace(one.new)
        one.store.calm()
        assert one.content() in ((one.old, one.new) if hit.struck else (one.new,))
        one.replace(one.new)
        one.assert_only(one.new)


def test_a_store_that_fails_at_each_call(kit, small, inline):
    """What is told is true: without an error the new one is there; not applied: the old one is."""
    outcomes = set()
    for one, hit in _hits(kit, small, inline, Unavailable("away"), dead=False):
        one.store.hook = hit
        outcome = None
        try:
            one.replace(one.new)
        except StorageError as error:
            outcome = error.outcome
        outcomes.add(outcome)
        one.store.calm()
        expected = {None: [one.new], Outcome.NOT_APPLIED: [one.old], Outcome.UNKNOWN: [one.old, one.new]}
        assert one.content() in expected[outcome]
        one.replace(one.new)
        one.assert_only(one.new)
    assert outcomes == {None, Outcome.NOT_APPLIED, Outcome.UNKNOWN}


def test_another_writer_does_not_wait_for_one_that_has_ended(place):
    """A copy made a moment ago by another host is replaced at once."""
    place.replace(place.old, "agent-1")
    place.replace(place.new, "agent-2")
    assert place.content() == place.new


def test_another_writer_waits_for_one_that_is_at_work(kit, small, inline, memory):
    """While one host replaces it another one is refused, and the old one is still there."""
    place = Place(kit, small, inline, memory)
    place.replace(place.old)
    seen: list[object] = []

    def hook(moment: str, method: str, key: str) -> None:
        if not seen and method == "put" and key.endswith(".zip"):
            seen.append(key)
            with pytest.raises(Busy) as caught:
                place.replace(place.old, "agent-2")
            seen.append(caught.value.outcome)
            assert place.content() == place.old

    memory.hook = hook
    place.replace(place.new)
    memory.calm()
    assert seen[1] is Outcome.NOT_APPLIED
    place.assert_only(place.new)


def test_the_later_of_two_stays(kit, small, inline, memory):
    """Two runs of one host at once: who commits last is there, whole, and nothing of the other is left."""
    place = Place(kit, small, inline, memory)
    place.replace(place.old)
    inner: list[str] = []

    def hook(moment: str, method: str, key: str) -> None:
        if not inner and moment == "before" and method == "put" and key.endswith("copy/manifest.json"):
            inner.append(key)
            place.replace(place.old)

    memory.hook = hook
    place.replace(place.new)
    memory.calm()
    place.assert_only(place.new)


def test_a_run_that_slept_through_its_lease_replaces_nothing(kit, small, inline, memory):
    """Its parts may be gone; the old one stays."""
    place = Place(kit, small, inline, memory)
    place.replace(place.old)

    def hook(moment: str, method: str, key: str) -> None:
        if method == "put" and key.endswith(".zip"):
            place.clock.now += TIMING.lease + 1

    memory.hook = hook
    with pytest.raises(DeadlineExceeded) as caught:
        place.replace(place.new)
    memory.calm()
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert place.content() == place.old


def test_an_increment_to_the_old_one_stays_whole(kit, small, inline, memory):
    """What another snapshot took over of the old image is not freed with it."""
    place = Place(kit, small, inline, memory)
    place.replace(place.old)
    ids = {"volume": "vol-1", "snapshot": "later", "parent": "copy"}
    place.archive().create(kit.Ram(place.old, cell=512), Call(), **ids, options=small)
    place.replace(place.new)
    sink = kit.Ram(SIZE)
    place.archive().restore(sink, Call(), volume="vol-1", snapshot="later")
    assert sink.data == place.old


def test_a_damaged_image_is_replaced(kit, small, inline, memory):
    """A manifest that nobody can read keeps no new image away, and is gone then."""
    place = Place(kit, small, inline, memory)
    place.replace(place.old)
    memory.objects["v1/vol-1/copy/manifest.json"] += b"x"
    place.replace(place.new)
    place.assert_only(place.new)


def test_nothing_there(kit, small, inline, memory):
    """Where there was no image it is made, and one that dies leaves none."""
    place = Place(kit, small, inline, memory)
    memory.hook = Hit("before", 12, kit.Crash(), dead=True)
    with pytest.raises(kit.Crash):
        place.replace(place.new)
    memory.calm()
    with pytest.raises(NotFound):
        place.content()
    place.replace(place.new)
    place.assert_only(place.new)
