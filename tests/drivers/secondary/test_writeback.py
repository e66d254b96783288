"""A file is written back in steps while it grows; what was begun is gapless, and lags 8 MiB at most."""

from __future__ import annotations

import os
from ctypes import c_int64, c_uint
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.drivers.secondary import _writeback
from bollard.drivers.secondary._writeback import Writeback

MIB = 1024 * 1024


class Asked:
    """Stands for the C library: remembers which ranges the kernel was asked to write."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = []

    def sync_file_range(self, _fd: int, offset: c_int64, length: c_int64, flags: c_uint) -> int:
        """Remember the range; to wait for anything is not what we want."""
        assert flags.value == 2
        self.ranges.append((offset.value, length.value))
        return 0


@given(st.lists(st.integers(1, 9 * MIB), max_size=40))
def test_ranges_are_gapless_and_never_far_behind(sizes: list[int]) -> None:
    """After any writes all but the last 8 MiB have been begun, each byte once."""
    asked, total = Asked(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_writeback, "_LIBC", asked)
        writeback = Writeback(3)
        for size in sizes:
            writeback.wrote(size)
            total += size
            begun = sum(length for _, length in asked.ranges)
            assert total - begun < 8 * MIB
    ends = [offset + length for offset, length in asked.ranges]
    assert [offset for offset, _ in asked.ranges] == [0, *ends][: len(ends)]


def test_the_kernel_takes_it(tmp_path: Path) -> None:
    """The real call refuses nothing of what it is told: file, range and flags are right."""
    with (tmp_path / "file").open("wb") as file:
        os.write(file.fileno(), bytes(8 * MIB))
        assert _writeback._LIBC is not None
        result = _writeback._LIBC.sync_file_range(file.fileno(), c_int64(0), c_int64(8 * MIB), c_uint(2))
        assert result == 0
        Writeback(file.fileno()).wrote(8 * MIB)
