"""The draft of a file that is renamed to its name when it is whole; whoever dies at it leaves none for ever.

    begun/vm-1.pivoting           the file
    begun/.vm-1.pivoting.draft    its only draft: flock'd by the one who writes it

One name and not a random one: a kill -9 in the fsync before the rename left a draft that nobody looked for
again (seen in CI, at a kill 10 ms after a merge began). The lock dies with its owner, so a draft that can be
locked has no writer and may be taken over or removed.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def draft_path(path: Path) -> Path:
    """Where the draft of a file lies."""
    return path.with_name(f".{path.name}.draft")


@contextmanager
def draft_of(path: Path) -> Iterator[BinaryIO]:
    """Yield the draft, empty and ours alone; if it has not been renamed at the end, it goes."""
    draft = draft_path(path)
    with _locked(draft) as file:
        file.truncate()
        try:
            yield file
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def drop_dead_draft(path: Path) -> None:
    """Remove a draft that nobody writes any more; a living writer keeps his."""
    draft = draft_path(path)
    with suppress(FileNotFoundError, BlockingIOError), draft.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_still(draft, file):
            draft.unlink()


@contextmanager
def _locked(draft: Path) -> Iterator[BinaryIO]:
    while True:
        fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with open(fd, "r+b") as file:  # noqa: PTH123 - a descriptor has no Path
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_still(draft, file):  # else it was renamed or removed while we waited for the lock
                yield file
                return


def _is_still(draft: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(draft.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
