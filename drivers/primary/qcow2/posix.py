"""Small steps on a POSIX file system that are atomic and durable."""

from __future__ import annotations

from pathlib import Path

from ....core.dataplane.durable import sync
from ....core.dataplane.os_errors import os_errors
from ....core.spi import Outcome


def move(source: Path, target: Path) -> None:
    """Rename, replacing `target`, and make it durable. The rename is the one atomic step.

    Raises:
        StorageError: outcome unknown, if the rename was done but could not be made durable.
    """
    source.rename(target)
    with os_errors(f"cannot make {target.name} durable", outcome=Outcome.UNKNOWN):
        sync(target.parent)
        if source.parent != target.parent:
            sync(source.parent)


def write_atomically(path: Path, content: bytes, staged: Path) -> None:
    """Let `path` appear, or change, with all of `content` or not at all.

    It is written to `staged` first, which is on the same file system and the caller's alone.
    """
    staged.unlink(missing_ok=True)
    try:
        staged.touch(mode=0o600, exist_ok=False)
        staged.write_bytes(content)
        sync(staged)
        move(staged, path)
    except OSError:
        staged.unlink(missing_ok=True)
        raise


def remove(path: Path) -> None:
    """Delete a file if it is there, durably."""
    if path.parent.is_dir():
        path.unlink(missing_ok=True)
        sync(path.parent)
