"""Listings and changed blocks: everything that exists, once, and nothing that cannot be true."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.core.extent_guard import checked_extents
from bollard.core.paging import all_pages
from bollard.core.spi import Extent, ExtentKind, Internal, NotFound, Page, Unavailable, VolumeSpec
from bollard.transfer_objects.ids import SnapshotId, VolumeId

from .ram_driver import BLOCK

V1, S1, S2 = VolumeId("v-1"), SnapshotId("s-1"), SnapshotId("s-2")


# -- pages --------------------------------------------------------------------------------------------


@given(items=st.lists(st.integers()), size=st.integers(1, 5))
def test_pages_give_every_item_once_and_in_order(items, size):
    """However a listing is cut into pages, the walk gives the list."""

    def fetch(after):
        start = int(after or 0)
        more = start + size < len(items)
        return Page(items=items[start : start + size], after=str(start + size) if more else None)

    assert list(all_pages(fetch)) == items


@given(lead=st.integers(0, 5), loop=st.integers(1, 5))
def test_any_loop_of_cursors_ends(lead, loop):
    """A backend that sends us round in a circle of any length is `Internal`, not a hang."""
    cursors = itertools.chain(
        (f"lead-{n}" for n in range(lead)), itertools.cycle([f"loop-{n}" for n in range(loop)])
    )
    walk = all_pages(lambda _: Page(items=["x"], after=next(cursors)))

    with pytest.raises(Internal, match="twice"):
        list(itertools.islice(walk, 100))


def test_empty_page_in_the_middle_is_no_end():
    """Only a missing cursor ends a listing; S3 and Swift may send empty pages."""
    pages = iter([Page(items=[1], after="a"), Page(items=[], after="b"), Page(items=[2])])

    assert list(all_pages(lambda _: next(pages))) == [1, 2]


def test_listing_is_fetched_as_it_is_read(make_pool):
    """The first volumes are there before the last page was asked for; each page is retried by itself."""
    pool = make_pool()
    for n in range(5):
        pool.volumes.create(VolumeSpec(id=VolumeId(f"v-{n}"), size=512))
    pool.driver.fail("list_volumes", Unavailable("x"))

    listing = pool.volumes.list()
    assert next(listing).id == "v-0"
    assert pool.driver.calls.count("list_volumes") == 2
    assert [v.id for v in listing] == ["v-1", "v-2", "v-3", "v-4"]
    assert pool.driver.calls.count("list_volumes") == 4


def test_looping_driver_is_found_out(make_pool):
    """A driver's cursors that come round are `Internal` at the client."""
    pool = make_pool(prepare=lambda d: setattr(d, "page_cursors", itertools.cycle(["a", "b"])))

    with pytest.raises(Internal):
        list(pool.volumes.list())


# -- extents ------------------------------------------------------------------------------------------

SIZE = 64
KINDS = st.sampled_from(ExtentKind)


@st.composite
def good_extents(draw):
    """Sorted, disjoint, non-empty extents inside of SIZE bytes."""
    edges = sorted(draw(st.sets(st.integers(0, SIZE), max_size=12)))
    pairs = zip(edges[::2], edges[1::2], strict=False)
    return [Extent(start, end - start, draw(KINDS)) for start, end in pairs]


@given(good_extents())
def test_good_extents_pass_unchanged(extents):
    """What obeys the contract comes out as it went in."""
    assert list(checked_extents(extents, SIZE)) == extents


@given(st.lists(st.builds(Extent, st.integers(-2, SIZE + 2), st.integers(-2, SIZE + 2), KINDS), max_size=5))
def test_whatever_passes_obeys_the_contract(extents):
    """No list of extents, however wrong, comes through unless it is sorted, disjoint and inside."""
    covered = [b for e in extents for b in range(e.offset, e.end)]
    good = (
        all(e.length > 0 for e in extents)
        and covered == sorted(set(covered))
        and set(covered) <= set(range(SIZE))
    )

    try:
        assert list(checked_extents(extents, SIZE)) == extents
        assert good
    except Internal:
        assert not good


@given(good_extents(), st.data())
def test_extents_before_the_bad_one_are_handed_out_as_they_come(extents, data):
    """The guard holds nothing back: a bad extent is reported when it arrives."""
    at = data.draw(st.integers(0, len(extents)))
    guard = checked_extents([*extents[:at], Extent(0, 0), *extents[at:]], SIZE)

    assert [next(guard) for _ in range(at)] == extents[:at]
    with pytest.raises(Internal, match="sorted, disjoint and inside"):
        next(guard)


# -- changed blocks -----------------------------------------------------------------------------------


@pytest.fixture
def compared(make_pool):
    """A pool with two snapshots of a volume of four blocks, of which the second and fourth changed."""
    pool = make_pool()
    pool.volumes.create(VolumeSpec(id=V1, size=4 * BLOCK))
    pool.snapshots.create(V1, S1)
    with (pool.driver.path("v", V1, "raw")).open("r+b") as file:
        for block in (1, 3):
            file.seek(block * BLOCK)
            file.write(b"new")
    pool.snapshots.create(V1, S2)
    return pool


def test_changed_gives_what_differs(compared):
    """The extents of the driver arrive, from the beginning or from where an earlier reader stopped."""
    assert list(compared.snapshots.changed(S1, S2)) == [Extent(BLOCK, BLOCK), Extent(3 * BLOCK, BLOCK)]
    assert list(compared.snapshots.changed(S1, S2, start=2 * BLOCK)) == [Extent(3 * BLOCK, BLOCK)]
    assert sum(e.length for e in compared.snapshots.changed(None, S2)) == 4 * BLOCK


def test_changed_streams(compared):
    """The first extent is there before the driver was asked for the last one."""
    asked = []

    def extents():
        for offset in range(0, 4 * BLOCK, BLOCK):
            asked.append(offset)
            yield Extent(offset, BLOCK)

    compared.driver.extents = extents()
    next(compared.snapshots.changed(S1, S2))

    assert asked == [0]


@pytest.mark.parametrize(
    "bad",
    [
        [Extent(BLOCK, BLOCK), Extent(0, BLOCK)],
        [Extent(0, 2 * BLOCK), Extent(BLOCK, BLOCK)],
        [Extent(0, 0)],
        [Extent(3 * BLOCK, BLOCK + 1)],
        [Extent(-1, BLOCK)],
    ],
)
def test_bad_extents_of_a_driver_are_internal(compared, bad):
    """Unsorted, overlapping, empty or outside extents stop the increment: they would lose data."""
    compared.driver.extents = bad

    with pytest.raises(Internal):
        list(compared.snapshots.changed(S1, S2))


def test_stream_that_breaks_is_typed(compared):
    """An error in the middle of the stream is typed like any other."""
    compared.driver.fail("next extent", lambda: None, lambda: None, RuntimeError("bug"))

    stream = compared.snapshots.changed(S1, S2)
    assert next(stream) == Extent(BLOCK, BLOCK)
    with pytest.raises(Internal, match="RuntimeError"):
        next(stream)


def test_lost_tracking_is_told_at_once(compared):
    """What the backend no longer knows is `NotFound`, never an empty stream."""
    compared.driver.fail("changed", NotFound("tracking lost"))

    with pytest.raises(NotFound, match="tracking lost"):
        compared.snapshots.changed(S1, S2)
