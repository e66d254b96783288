"""What the SPI gives each driver to keep its limits and to cut its pages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.core.spi import InvalidArgument, LimitExceeded, Outcome, Page, Traits, Volume
from bollard.transfer_objects.ids import VolumeId

MIB = 2**20


@given(size=st.integers(MIB, 64 * MIB), granule=st.sampled_from([512, 4096, MIB]))
def test_size_is_rounded_up_to_the_granularity(size: int, granule: int) -> None:
    """The size that a volume gets is a multiple of the granularity, and the least that is large enough."""
    rounded = Traits(min_size=MIB, max_size=64 * MIB, size_granularity=granule).rounded(size)

    assert rounded % granule == 0
    assert size <= rounded < size + granule


@pytest.mark.parametrize(
    ("size", "error"),
    [(-512, InvalidArgument), (0, InvalidArgument), (MIB - 1, InvalidArgument), (2 * MIB + 1, LimitExceeded)],
)
def test_size_outside_of_the_limits_is_refused(size: int, error: type[InvalidArgument]) -> None:
    """Too small is InvalidArgument, too large LimitExceeded, and nothing was applied."""
    with pytest.raises(error) as raised:
        Traits(min_size=MIB, max_size=2 * MIB).rounded(size)

    assert raised.value.outcome is Outcome.NOT_APPLIED


@given(count=st.integers(0, 12), limit=st.integers(1, 5))
def test_pages_follow_each_other_without_gap(count: int, limit: int) -> None:
    """Pages, each asked for behind the cursor of the last, give each item once and in order."""
    items = [Volume(id=VolumeId(f"v{n:02}"), size=512) for n in range(count)]
    seen: list[Volume] = []
    after: str | None = ""
    while after is not None:
        page = Page.first((i for i in items if i.id > after), limit)
        assert len(page.items) <= limit
        seen += page.items
        after = page.after

    assert seen == items


def test_page_of_nothing_is_refused() -> None:
    """A limit below 1 would make a listing that never ends."""
    with pytest.raises(InvalidArgument, match="at least 1"):
        Page.first([], 0)
