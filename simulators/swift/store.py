"""Objects on disk: a blob per object, committed by its row in the index.

incoming/<id>   being uploaded          (swept on start)
blobs/<id>      complete and fsynced    (swept on start when no row names it)
index.sqlite    the row is the commit

upload -> fsync -> rename to blobs/ -> fsync directory -> row  ==> visible, acknowledged
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from .index import Index, ObjectKey, ObjectRecord

NEVER = 9e15
"""A listing time that does not come: what was quarantined stays listed."""


class ObjectExistsError(Exception):
    """A conditional create found the object there."""


class NoContainerError(Exception):
    """The container is not there (any more)."""


class Upload:
    """An object under way; visible to nobody until ``Store.commit``.

    Attributes:
        blob: the name that its file gets.
        size: bytes written so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blob = path.name
        self.size = 0
        self._digest = hashlib.md5(usedforsecurity=False)  # Swift's ETag is MD5
        self._file = path.open("xb")

    @property
    def etag(self) -> str:
        """MD5 of what was written so far, hexadecimal."""
        return self._digest.hexdigest()

    def write(self, parts: Iterable[bytes]) -> None:
        """Appends."""
        for data in parts:
            self._file.write(data)
            self._digest.update(data)
            self.size += len(data)

    def seal(self) -> None:
        """Flushes to stable storage and closes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def discard(self) -> None:
        """Forgets the bytes, unless they were committed."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class Store:
    """The durable state of the simulator.

    Args:
        state: its directory.
        clock: seconds since the epoch.
    """

    def __init__(self, state: Path, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._incoming = state / "incoming"
        self._blobs = state / "blobs"
        for directory in (self._incoming, self._blobs):
            directory.mkdir(exist_ok=True)
        self.index = Index(state / "index.sqlite")
        self._sweep()

    def _sweep(self) -> None:
        """Removes what an earlier process was killed over."""
        needed = self.index.blobs()
        for path in self._incoming.iterdir():
            path.unlink()
        for path in self._blobs.iterdir():
            if path.name not in needed:
                path.unlink()

    def close(self) -> None:
        """Closes the index."""
        self.index.close()

    def begin(self) -> Upload:
        """A new upload; the caller discards it in the end, committed or not."""
        return Upload(self._incoming / uuid.uuid4().hex)

    def commit(self, upload: Upload, record: ObjectRecord, *, only_new: bool) -> None:
        """Makes an upload visible in one step.

        Raises:
            ObjectExistsError: when ``only_new`` and the object exists; nothing changed.
            NoContainerError: when the container was deleted meanwhile; nothing changed.
        """
        upload.seal()
        blob = self._blobs / record.blob
        upload.path.rename(blob)
        _sync_directory(self._blobs)
        try:
            old = self._publish(record, only_new=only_new)
        except (ObjectExistsError, NoContainerError):
            blob.unlink()
            raise
        if old is not None:
            self._unlink(old)

    def _publish(self, record: ObjectRecord, *, only_new: bool) -> ObjectRecord | None:
        with self.index.transaction():
            if not self.index.has_container(*record.key[:2]):
                raise NoContainerError
            old = self.find(record.key)
            if only_new and old is not None:
                raise ObjectExistsError
            self.index.put_object(record)
            return old

    def find(self, key: ObjectKey) -> ObjectRecord | None:
        """An object's record, or None."""
        return self.index.object(key, self.clock())

    def open(self, key: ObjectKey) -> tuple[ObjectRecord, IO[bytes]] | None:
        """An object's record and its open blob, or None; an overwrite afterwards changes neither."""
        with self.index.transaction():
            record = self.find(key)
            return None if record is None else (record, (self._blobs / record.blob).open("rb"))

    def delete(self, key: ObjectKey, *, listed_until: float | None = None) -> bool:
        """Removes an object; False when there was none."""
        with self.index.transaction():
            record = self.find(key)
            if record is None:
                return False
            self.index.remove_object(key, listed_until)
        self._unlink(record)
        return True

    def expire(self) -> None:
        """Frees the space of objects whose time is over."""
        now = self.clock()
        if not self.index.expired(now):
            return
        with self.index.transaction():  # asked again inside: a new object may have taken the name
            gone = self.index.expired(now)
            for record in gone:
                self.index.remove_object(record.key, None)
        for record in gone:
            self._unlink(record)

    def _unlink(self, record: ObjectRecord) -> None:
        (self._blobs / record.blob).unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
