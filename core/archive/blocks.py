"""An archived snapshot as a `BlockSource`: any byte of it, in any order, straight from the store.

    read_into(offset, buffer)
        │  8 MiB at a time
        ├─> indices   window -> which frame owns which granule          tails of its parts, fetched once
        ├─> frames    fetched in parallel, checked, kept (bounded)      one ranged GET each
        └─> copy                  and, where reads are sequential, ask for what comes next

Nothing is given out that does not have the hash which the manifest vouches for; what is damaged or cannot be
had in time is an error, never other bytes. Holes and zeros cost no request for data.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, TypeVar

from ..dataplane.extents import merge
from ..dataplane.zero import fill_zeros
from ..spi.call import Call
from ..spi.errors import DeadlineExceeded, InvalidArgument, Outcome
from ..spi.model import Extent, ExtentKind
from .frames import (
    Directory,
    Frame,
    Range,
    WindowIndex,
    fetch_directory,
    fetch_frame,
    load_index,
)
from .manifest import Manifest, PartRef, Window
from .part import MAX_FRAME, Region
from .shared import Shared
from .store import Store

T = TypeVar("T")

# At most 2 frames of each of 8 layers per 4 MiB: what a single read makes us hold beside the cache.
_STEP = 2 * MAX_FRAME
# An index of a 64 MiB window takes 40 KiB and its frames' names; 256 of them span 16 GiB.
_INDICES = 256
_CANCEL_SECONDS = 0.5  # until a read that waits for the store sees that it is cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How a snapshot is read from the store.

    Attributes:
        cache: bytes of checked data that are kept.
        workers: requests to the store at a time.
        timeout: seconds that one read may take; then it fails, and may be repeated.
        read_ahead: bytes behind a sequential read that are asked for before somebody wants them.
    """

    cache: int = 256 * 1024**2
    workers: int = 8
    timeout: float = 60.0
    read_ahead: int = 4 * MAX_FRAME

    def __post_init__(self) -> None:
        if min(self.cache, self.read_ahead) < 0 or self.workers < 1 or self.timeout <= 0:
            raise InvalidArgument("cache, read_ahead must not be negative; workers, timeout must be positive")


class ArchiveSource:
    """A snapshot, readable at any place and by several threads at once; clones share requests and cache.

    Args:
        store: an opened driver; its owner closes it, after this.
        manifest: the snapshot.
        options: cache, parallelism, time.
    """

    def __init__(self, store: Store, manifest: Manifest, options: ReadOptions) -> None:
        self._reader = _Reader(store, manifest, options)
        self._expected = 0
        self._open = True

    @property
    def manifest(self) -> Manifest:
        """The snapshot that is read."""
        return self._reader.manifest

    @property
    def size(self) -> int:
        """Bytes of the image."""
        return self._reader.manifest.size

    def clone(self) -> Self:
        """Return another user of the snapshot."""
        self._reader.enter()
        twin = object.__new__(type(self))
        twin._reader, twin._expected, twin._open = self._reader, 0, True
        return twin

    def cancel(self) -> None:
        """Let every read, of all clones, end with DeadlineExceeded; for a store that hangs."""
        self._reader.cancel.set()

    def close(self) -> None:
        """Close; repeatable. The last one ends the requests that are on their way."""
        if self._open:
            self._open = False
            self._reader.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Yield extents that cover the range; only the ends of parts are read for it.

        Raises:
            DataLoss: a part is missing or damaged.
            DeadlineExceeded: the store was too slow.
        """
        self._check_range(offset, length)
        return merge(self._reader.extents(offset, offset + length))

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill all of `buffer` from `offset`.

        Raises:
            DataLoss: a part is missing or damaged; the message names it.
            DeadlineExceeded: the store was too slow.
            StorageError: what the store says.
        """
        self._check_range(offset, len(buffer))
        call = self._reader.call()
        end = offset + len(buffer)
        if offset == self._expected:
            self._reader.prefetch(end, min(end + self._reader.options.read_ahead, self.size))
        self._expected = end
        for start in range(offset, end, _STEP):
            stop = min(start + _STEP, end)
            self._reader.read(start, buffer[start - offset : stop - offset], call)

    def _check_range(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise InvalidArgument(f"{length} bytes at {offset} lie outside of the {self.size} bytes")


class _Reader:
    """What the clones share."""

    def __init__(self, store: Store, manifest: Manifest, options: ReadOptions) -> None:
        self.manifest = manifest
        self._store = store
        self.options = options
        self._windows = {window.offset: window for window in manifest.windows}
        self.cancel = threading.Event()
        self._users = 1
        self._lock = threading.Lock()
        # Two pools: a window waits for its parts, and must not wait for its own place among them.
        self._fetchers = ThreadPoolExecutor(options.workers, thread_name_prefix="archive-fetch")
        self._indexers = ThreadPoolExecutor(options.workers, thread_name_prefix="archive-index")
        self._indices: Shared[int, WindowIndex] = Shared(self._indexers, _INDICES)
        self._frames: Shared[Frame, memoryview] = Shared(self._fetchers, options.cache, len)

    def enter(self) -> None:
        """Count one user more."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """Count one user less; after the last one all work ends."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
        self.cancel.set()
        for pool in (self._indexers, self._fetchers):
            pool.shutdown(wait=False, cancel_futures=True)  # a store that hangs must not hang us

    def call(self) -> Call:
        """Return the call of one read."""
        return replace(Call.within(self.options.timeout), cancel=self.cancel)

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """Yield extents of `start` to `end`, not merged."""
        call = self.call()
        for begin, stop, window in self._pieces(start, end):
            if window is None:
                yield Extent(begin, stop - begin, ExtentKind.HOLE)
                continue
            for one in _result(self._index(window), call).ranges(begin, stop):
                kind = ExtentKind.DATA if one.frame else ExtentKind.HOLE
                yield Extent(one.start, one.stop - one.start, kind)

    def read(self, offset: int, buffer: memoryview, call: Call) -> None:
        """Fill `buffer`: first everything is asked for, then waited for."""
        pieces = list(self._pieces(offset, offset + len(buffer)))
        waiting = [(piece, self._index(piece[2]) if piece[2] else None) for piece in pieces]
        parts: list[tuple[Range, Future[memoryview] | None]] = []
        for (start, stop, _), future in waiting:
            index = _result(future, call) if future else None
            if index:
                parts += [
                    (one, self._frame(one.frame, index) if one.frame else None)
                    for one in index.ranges(start, stop)
                ]
            else:
                parts.append((Range(start, stop, None), None))
        for one, data in parts:
            target = buffer[one.start - offset : one.stop - offset]
            if data is None or one.frame is None:
                fill_zeros(target)
            else:
                begin = one.start - one.frame.offset
                target[:] = _result(data, call)[begin : begin + len(target)]

    def prefetch(self, start: int, end: int) -> None:
        """Ask for what lies in a range, without waiting: frames where the window's index is there already."""
        for begin, stop, window in self._pieces(start, end):
            if window is None:
                continue
            future = self._index(window)
            if not future.done() or future.exception():
                continue
            index = future.result()
            for one in index.ranges(begin, stop):
                if one.frame:
                    self._frame(one.frame, index)

    def _pieces(self, start: int, end: int) -> Iterator[tuple[int, int, Window | None]]:
        """Cut a range at the borders of windows."""
        step = self.manifest.window_size
        while start < end:
            base = start // step * step
            stop = min(base + step, end)
            yield start, stop, self._windows.get(base)
            start = stop

    def _index(self, window: Window) -> Future[WindowIndex]:
        def load() -> WindowIndex:
            return load_index(self.manifest, window, self._directory, self.call())

        return self._indices.get(window.offset, load)

    def _directory(self, key: str, ref: PartRef, region: Region) -> Future[Directory]:
        return self._fetchers.submit(lambda: fetch_directory(self._store, key, ref, region, self.call()))

    def _frame(self, frame: Frame, index: WindowIndex) -> Future[memoryview]:
        return self._frames.get(frame, lambda: fetch_frame(self._store, frame, index, self.call()))


def _result(future: Future[T], call: Call) -> T:
    """Wait for a result until the call's end, or until it is cancelled.

    Raises:
        DeadlineExceeded: it did not come in time.
    """
    while not future.done():
        wait([future], call.remaining(_CANCEL_SECONDS))
    try:
        return future.result()
    except (TimeoutError, CancelledError) as error:  # its own: it waited for another one
        raise DeadlineExceeded("the store was too slow", outcome=Outcome.NOT_APPLIED) from error
