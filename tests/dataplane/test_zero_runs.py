"""Finding zeros in buffers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bollard.core.dataplane import ZEROS, fill_zeros, is_zero, runs

buffers = st.lists(st.sampled_from([bytes(7), bytes(16), b"\1", bytes(15) + b"x"]), max_size=8).map(b"".join)


@given(buffers)
def test_is_zero_agrees_with_any(data: bytes) -> None:
    """A buffer is zero if no byte of it is set."""
    assert is_zero(memoryview(data)) is not any(data)


def test_the_last_byte_of_a_large_buffer_counts() -> None:
    """One byte behind several MiB of zeros is found."""
    buffer = bytearray(3 * len(ZEROS) + 5)
    assert is_zero(memoryview(buffer))
    buffer[-1] = 1
    assert not is_zero(memoryview(buffer))


@given(buffers, st.integers(1, 20))
def test_runs_are_the_longest_runs_of_zero_granules(data: bytes, granule: int) -> None:
    """Runs touch, cover the buffer, alternate, and each granule is in a run of its kind."""
    found = list(runs(memoryview(data), granule))
    assert [stop for _, stop, _ in found[:-1]] == [start for start, _, _ in found[1:]]
    assert (found[0][0], found[-1][1]) == (0, len(data)) if data else found == []
    assert all(a[2] is not b[2] for a, b in pairwise(found))
    for start, stop, zero in found:
        cells = [data[at : at + granule] for at in range(start, stop, granule)]
        assert all(any(cell) is not zero for cell in cells)


def test_fill_zeros_overwrites_all() -> None:
    """Old memory never shines through, whatever the length."""
    buffer = bytearray(b"x" * (len(ZEROS) + 3))
    fill_zeros(memoryview(buffer))
    assert not any(buffer)


def test_the_kept_zeros_cannot_be_spoiled() -> None:
    """Whoever is handed the shared zeros cannot write to them."""
    assert ZEROS.readonly
