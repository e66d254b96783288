"""The journal of temporary objects: written before the act, removed after the undo.

    begin(kind, fields) ── fsync'ed file, locked by its owner ──> act ──> undo ──> entry removed
                                    │
                        kill -9 ────┘  the lock dies with the process; `abandoned()` finds the entry

CloudStack's temp volume protocol leaves an orphan LUN when the management server dies between two
steps, and nothing sweeps it; here every temporary object has an entry for as long as it may exist.
One file per entry: a torn write can only hurt an entry whose act has not begun.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .spi import Internal

_SUFFIX = ".intent"
_NAME = re.compile(r"[0-9a-f]{32}\.intent")


@dataclass(slots=True, kw_only=True)
class Entry:
    """One intent. Hold it open while its objects may exist; `done()` when they are gone."""

    path: Path
    kind: str
    fields: Mapping[str, str]
    _file: IO[bytes]

    def done(self) -> None:
        """Remove the entry: nothing that it names exists any more. Repeatable."""
        self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Let go of the entry without removing it: a sweep may now finish it."""
        self._file.close()


class Journal:
    """A directory of intents, shared by the processes of one machine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def begin(self, kind: str, **fields: str) -> Entry:
        """Make an intent durable. Nothing that it names may exist before this returns."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._directory / f"{uuid.uuid4().hex}{_SUFFIX}"
        temporary = path.with_suffix(".new")
        # The lock is taken on the inode before it gets its name: no sweep can see it unlocked.
        file = temporary.open("xb")
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps({"kind": kind, "fields": fields}).encode())
        file.flush()
        os.fsync(file.fileno())
        temporary.rename(path)
        self._sync_directory()
        return Entry(path=path, kind=kind, fields=dict(fields), _file=file)

    def abandoned(self) -> Iterator[Entry]:
        """Yield the entries whose owners are dead, oldest first; each is locked by us until released."""
        if not self._directory.is_dir():
            return
        self._drop_unborn()
        names = [p for p in self._directory.iterdir() if _NAME.fullmatch(p.name)]
        for path in sorted(names, key=lambda p: (_mtime(p), p.name)):
            entry = self._claim(path)
            if entry is not None:
                yield entry

    def others_hold(self, entry: Entry) -> bool:
        """Tell whether a living process holds another entry for the same object.

        All processes of a machine are one host to an array: a sweep that revoked a dead process's
        grant would cut off a living one that uses the same volume.
        """
        for path in self._directory.glob(f"*{_SUFFIX}"):
            if path == entry.path:
                continue
            other = self._claim(path)
            if other is not None:
                other.release()
            elif _fields(path) == entry.fields:
                return True
        return False

    def _claim(self, path: Path) -> Entry | None:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()  # its owner lives
            return None
        if not path.exists():
            file.close()  # its owner finished between our open and our lock
            return None
        try:
            content = json.loads(file.read())
            return Entry(path=path, kind=content["kind"], fields=content["fields"], _file=file)
        except (ValueError, KeyError, TypeError) as error:
            file.close()
            raise Internal(f"journal entry {path} cannot be read: look at it, then delete it") from error

    def _drop_unborn(self) -> None:
        """Remove what a crash left between writing an entry and naming it: its act never began."""
        for path in self._directory.glob("*.new"):
            with path.open("rb") as file, contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)

    def _sync_directory(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _fields(path: Path) -> Mapping[str, str] | None:
    try:
        fields: Mapping[str, str] = json.loads(path.read_bytes())["fields"]
    except FileNotFoundError:
        return None
    return fields


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
