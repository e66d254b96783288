"""A download is right, or it is an error: whatever pieces it comes in."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.core.spi import Call, DataLoss, Unavailable
from bollard.drivers.secondary._download import Expected, verified

pieces = st.lists(st.binary(min_size=1, max_size=8), max_size=6)


@given(chunks=pieces)
def test_the_right_bytes_pass(chunks: list[bytes]) -> None:
    """They come through in the pieces that they arrived in."""
    data = b"".join(chunks)
    expected = Expected(len(data), hashlib.sha256(data).hexdigest())
    assert list(verified(chunks, expected, "k", Call())) == chunks


@given(chunks=pieces, missing=st.integers(1, 9))
def test_a_stream_that_ends_early_is_an_error(chunks: list[bytes], missing: int) -> None:
    """[store.get-exact] Also when the HTTP library believes that all is well."""
    with pytest.raises(Unavailable):
        list(verified(chunks, Expected(len(b"".join(chunks)) + missing), "k", Call()))


@given(chunks=pieces.filter(bool), extra=st.integers(1, 8))
def test_more_bytes_than_announced_are_an_error(chunks: list[bytes], extra: int) -> None:
    """They are not handed out."""
    size = max(0, len(b"".join(chunks)) - extra)
    got: list[bytes] = []
    with pytest.raises(DataLoss):
        got.extend(verified(chunks, Expected(size), "k", Call()))
    assert len(b"".join(got)) <= size


@given(chunks=pieces.filter(bool))
def test_wrong_bytes_are_never_complete(chunks: list[bytes]) -> None:
    """Who reads on until the digest is wrong has not got the last piece."""
    got: list[bytes] = []
    with pytest.raises(DataLoss):
        got.extend(verified(chunks, Expected(len(b"".join(chunks)), "0" * 64), "k", Call()))
    assert got == chunks[:-1]
