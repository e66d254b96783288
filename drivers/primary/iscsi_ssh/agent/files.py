"""Files that are whole after a crash: JSON written atomically, reflinks, directories that appear at once.

XFS writes its log in order, so one `sync` at the end of a request makes all that was created, renamed,
removed or reflinked before durable, too; only the contents of a file need an fsync of their own.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from .errors import Refused

_FICLONE = 0x40049409  # <linux/fs.h>: share all blocks of another file of the same file system
_PRIVATE = 0o600


def read_json(path: Path) -> dict[str, Any] | None:
    """Return what `write_json` wrote, or None if there is no such file."""
    try:
        text = path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refused("data_loss", f"{path.name} is damaged on the array", "not_applied")
    return found


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write atomically; nobody but root can read it, for there are CHAP secrets in some."""
    draft = path.with_name(f".{path.name}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _PRIVATE)
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def sync(directory: Path) -> None:
    """Make what was done to a directory durable, and all that was done anywhere before."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def new_file(path: Path, size: int) -> None:
    """Make an empty sparse file of `size` bytes."""
    with path.open("xb") as file:
        file.truncate(size)


def reflink(source: Path, target: Path) -> None:
    """Make `target` share all blocks with `source`; atomic with respect to writes to it."""
    with source.open("rb") as origin, target.open("xb") as copy:
        fcntl.ioctl(copy.fileno(), _FICLONE, origin.fileno())


def grow(path: Path, size: int) -> None:
    """Make the file `size` bytes long."""
    os.truncate(path, size)


def names_in(directory: Path) -> list[str]:
    """Return the sorted names in a directory without drafts; none if there is no such directory."""
    try:
        return sorted(name for name in os.listdir(directory) if not name.startswith("."))  # noqa: PTH208 - half the time
    except (FileNotFoundError, NotADirectoryError):
        return []


def remove_tree(path: Path) -> None:
    """Remove a directory and what is in it; what is gone is fine. Not by shutil: it takes 10 ms to load."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    for name in os.listdir(path):  # noqa: PTH208 - as above
        remove_tree(path / name)
    path.rmdir()
