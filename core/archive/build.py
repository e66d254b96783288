"""Parts that are built while their window is still being read.

    worker     read frame 0, hash granules | read frame 1, hash granules | ...        | send
    beside                                 | pack, CRC, hash frame 0     | frame 1 ...|

A window so takes the time of the slower of the two hashes, not of both.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from queue import SimpleQueue

from ..dataplane.api import BlockSource
from .lanes import Lane
from .packing import Compression
from .part import MAX_FRAME, Member, Region, build
from .pieces import Joined

# A smaller window is done before another thread has woken up.
_WORTH_A_THREAD = 2 * MAX_FRAME


def beside(count: int) -> ThreadPoolExecutor:
    """Return threads for so many workers; none is started before it is needed."""
    return ThreadPoolExecutor(count, thread_name_prefix="archive-pack")


class Builder:
    """Makes the part of one window.

    Args:
        pool: has a thread for each window that is being built.
        lane: whose buffer the members lie in.
        region: the window.
    """

    def __init__(
        self, compression: Compression, pool: Executor, lane: Lane[BlockSource], region: Region
    ) -> None:
        self._compression = compression
        self._pool = pool
        self._lane = lane
        self._region = region

    def at_once(self, members: Iterable[Member], hashes: bytearray) -> Joined:
        """Build of members that are all there."""
        return build(members, hashes, self._compression, self._release)

    def streamed(self, members: Iterable[Member], hashes: bytearray) -> Joined:
        """Build of members that come one by one; `hashes` are complete after the last."""
        if self._region.length < _WORTH_A_THREAD:
            return self.at_once(members, hashes)
        waiting: SimpleQueue[Member | None] = SimpleQueue()
        arriving = iter(waiting.get, None)
        future = self._pool.submit(build, arriving, hashes, self._compression, self._release)
        try:
            for member in members:
                waiting.put(member)
        finally:
            waiting.put(None)
            wait([future])  # it still looks into the buffer
        return future.result()

    def _release(self, member: Member) -> None:
        """Give back the memory of a frame of which the part has a packed copy."""
        start = member.offset - self._region.offset
        self._lane.drop(start, start + member.length)
