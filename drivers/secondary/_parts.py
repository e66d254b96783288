r"""A large body in parts that go out side by side, with bounded memory.

body ── read, hash ──> part 1 ──> thread ──> store
part 2 ──> thread ──> store     at most `threads` + 1 parts in memory
part 3 (being read)
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ._body import CheckedReader

T = TypeVar("T")

# Very large objects need large parts; then fewer of them travel at a time.
_IN_FLIGHT = 512 * 1024 * 1024


def part_size_for(size: int, wanted: int, most: int) -> int:
    """Return the size of a part so that `size` bytes make at most `most` parts."""
    return max(wanted, -(-size // most))


def send_parts(
    reader: CheckedReader, part_size: int, threads: int, send: Callable[[int, bytes], T]
) -> list[T]:
    """Read the body in parts and run `send(number, data)` for each, numbers from 1; answers in order.

    The first failure, also one of the reader, stops reading and is raised when no request is under way
    any more: what comes next (an abort) doesn't race with a part still travelling.
    """
    waiting: deque[Future[T]] = deque()
    answers: list[T] = []
    most = max(1, min(threads, _IN_FLIGHT // part_size))
    with ThreadPoolExecutor(most, thread_name_prefix="bollard-upload") as pool:
        number = 0
        while data := read_full(reader, part_size):
            number += 1
            waiting.append(pool.submit(send, number, data))
            while len(waiting) >= most:
                answers.append(waiting.popleft().result())
        answers += [future.result() for future in waiting]
    return answers


def read_full(reader: CheckedReader, size: int) -> bytes:
    """Return `size` bytes, fewer only at the end: a pipe gives what it has."""
    first = reader.read(size)
    if len(first) in (0, size):
        return first
    # BytesIO gives its buffer away without a copy; bytes(bytearray) held a part of 32 MiB twice.
    buffer = io.BytesIO()
    buffer.write(first)
    while buffer.tell() < size and (more := reader.read(size - buffer.tell())):
        buffer.write(more)
    return buffer.getvalue()
