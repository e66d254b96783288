"""The journal of temporary objects: written before the act, removed after the undo.

    begin(kind, fields) ── fsync'ed file, locked by its owner ──> act ──> undo ──> entry removed
                                    │                              └── replace: the point of no return
                        kill -9 ────┘  the lock dies with the process; `abandoned()` finds the entry

CloudStack's temp volume protocol leaves an orphan LUN when the management server dies between two
steps, and nothing sweeps it; here every temporary object has an entry for as long as it may exist.
One file per entry: a torn write can only hurt an entry whose act has not begun.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import uuid
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .dataplane.os_errors import os_errors
from .intents import Entry
from .spi import Outcome

_log = logging.getLogger("bollard.journal")

_SUFFIX = ".intent"
_LOCK_FILES = 64
_OURS, _DEAD = "this process", "a process of this machine that has ended"
_NAME = re.compile(r"[0-9a-f]{32}\.intent")


@dataclass(slots=True, kw_only=True)
class FileEntry(Entry):
    """An intent in a file of its own, which its owner has locked."""

    path: Path
    _files: list[IO[bytes]]

    def done(self) -> None:
        """Remove the entry: nothing that it names exists any more. Repeatable."""
        self.path.unlink(missing_ok=True)
        self.release()

    def complete(self) -> None:
        """See `Entry.complete`; nobody else can have it: it is locked as long as we live."""
        with os_errors(f"cannot remove the journal's entry {self.path}"):
            self.done()

    def release(self) -> None:
        """Let go of the entry without removing it: a sweep may now finish it."""
        for file in self._files:
            file.close()


class Journal:
    """A directory of intents, shared by the processes of one machine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def begin(self, kind: str, **fields: str) -> FileEntry:
        """Make an intent durable. Nothing that it names may exist before this returns.

        Raises:
            StorageError: the journal cannot be written; nothing may be begun without it.
        """
        with os_errors(f"cannot write the journal {self._directory}"):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._directory / f"{uuid.uuid4().hex}{_SUFFIX}"
            file = self._put(path, kind, fields)
        return FileEntry(
            path=path, kind=kind, fields=dict(fields), began=_mtime(path), owner=_OURS, _files=[file]
        )

    def replace(self, entry: FileEntry, kind: str, **fields: str) -> None:
        """Turn an intent into another one, in a single step: a crash leaves the one or the other.

        Raises:
            StorageError: outcome unknown; whether it was replaced is what a sweep will find.
        """
        with os_errors(f"cannot write the journal {self._directory}", outcome=Outcome.UNKNOWN):
            # The old file stays open, and so locked: a sweep that has just opened it must not get it.
            entry._files.append(self._put(entry.path, kind, fields))  # noqa: SLF001 - its maker
        entry.kind, entry.fields = kind, dict(fields)

    def _put(self, path: Path, kind: str, fields: Mapping[str, str]) -> IO[bytes]:
        with self.deciding(fields):
            file = _write_locked(path.with_suffix(".new"), {"kind": kind, "fields": fields})
            path.with_suffix(".new").rename(path)
        self._sync_directory()
        return file

    def abandoned(self) -> Iterator[FileEntry]:
        """Yield the entries whose owners are dead, oldest first; each is locked by us until released.

        One that cannot be read is left where it is, with a warning: it must not stop the others.
        """
        if not self._directory.is_dir():
            return
        self._drop_unborn()
        names = [p for p in self._directory.iterdir() if _NAME.fullmatch(p.name)]
        for path in sorted(names, key=lambda p: (_mtime(p), p.name)):
            entry = _claim(path)
            if entry is not None:
                yield entry

    def named(self, field: str, **like: str) -> set[str]:
        """See `Intents.named`."""
        every = (_content(path).get("fields", {}) for path in self._directory.glob(f"*{_SUFFIX}"))
        return {str(one[field]) for one in every if field in one and like.items() <= one.items()}

    def claim(self, entry: FileEntry) -> FileEntry | None:
        """Take an entry that was let go of in hand again; None: somebody else has it, or has ended it."""
        return _claim(entry.path)

    @contextmanager
    def deciding(self, fields: Mapping[str, str]) -> Iterator[None]:
        """Keep everybody else on this machine from beginning or ending anything with `fields`.

        Between "nobody else holds it" and "revoked", and between "written" and "granted", no other
        may come; the lock is freed by the kernel when its holder dies. Few files serve all objects.
        """
        spread = zlib.crc32(json.dumps(fields, sort_keys=True).encode()) % _LOCK_FILES
        with (self._directory / f"{spread:02}.lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def others_hold(self, entry: FileEntry, kinds: Collection[str]) -> bool:
        """Tell whether somebody living holds another entry of these kinds for the same object.

        Ask while `deciding`, and act before you leave.

        All processes of a machine are one host to an array: whoever revoked the host's access because
        *he* is ready, or because a third one died, would cut off a living one that uses the volume.
        """
        for path in self._directory.glob(f"*{_SUFFIX}"):
            other = _content(path) if path != entry.path else {}
            if other.get("fields") == entry.fields and other["kind"] in kinds and _is_held(path):
                return True
        return False

    def _drop_unborn(self) -> None:
        """Remove what a crash left between writing an entry and naming it: its act never began."""
        for path in self._directory.glob("*.new"):
            # Its owner may live, or name it just now.
            with suppress(BlockingIOError, FileNotFoundError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()

    def _sync_directory(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _write_locked(path: Path, content: object) -> IO[bytes]:
    """Write a new file durably; it is locked before it gets its last name, so no sweep sees it unlocked."""
    file = path.open("xb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not path.exists():  # a sweep took it for an unborn one, between our open and our lock
            file.close()
            return _write_locked(path, content)
        file.write(json.dumps(content).encode())
        file.flush()
        os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        file.close()
        raise
    return file


def _claim(path: Path) -> FileEntry | None:
    """Lock the entry of a dead owner, or return None: he lives, has finished, or it cannot be read."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    content = _content(path) if _is_at(path, file) else {}
    if content:
        return FileEntry(
            path=path,
            kind=content["kind"],
            fields=content["fields"],
            began=os.fstat(file.fileno()).st_mtime,
            owner=_DEAD,
            _files=[file],
        )
    if _is_at(path, file):  # else its owner finished or replaced it between our open and our lock
        _log.warning("journal entry %s cannot be read: look at it, then delete it", path)
    file.close()
    return None


def _is_at(path: Path, file: IO[bytes]) -> bool:
    """Tell whether an open file is the one that the path names now."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _is_held(path: Path) -> bool:
    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _content(path: Path) -> Mapping[str, Any]:
    """Return kind and fields; nothing if the entry is gone or damaged (so is whoever wrote it)."""
    try:
        content = json.loads(path.read_bytes())
        return {"kind": str(content["kind"]), "fields": dict(content["fields"])}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
