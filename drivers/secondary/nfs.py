r"""A mounted NFS export, or any directory, as an image store.

    <path>/v1/vol-1/snap-2/0000000000000000.zip      objects, under their keys
    <path>/.bollard-tmp/_v1%2Fvol-1%2F…,4f0c…        uploads, under key and a random token

    put:  create (O_EXCL) ── write, hash ── fsync ── link | rename ── fsync(directory) ── unlink
             └───── kill -9: abort_uploads finds it ─────┘  └──────── the object is there ───────┘

Bollard doesn't mount: the host does, with the options that its site needs. A *hard* mount blocks a
process that touches it for as long as the server is away, and no deadline reaches into the kernel;
mount `softerr` (or `soft`) with a `timeo` below the deadlines that you set. Between two reads or writes
of 1 MiB the deadline and the cancel flag of the call are looked at.
"""

from __future__ import annotations

import builtins
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, unquote

from ...core.spi import (
    TIB,
    Body,
    Call,
    Conflict,
    DataLoss,
    ImageStoreDriver,
    InvalidArgument,
    NotFound,
    Outcome,
    OutOfCapacity,
    Page,
    PermissionDenied,
    StoredObject,
    StoreTraits,
    Unavailable,
    Unsupported,
    option,
)
from ._body import CHUNK, CheckedReader, check_range
from ._errno import from_errno, translated
from ._keys import check_prefix, is_key, split_key
from ._tree import Found, Tree

_UPLOADS = ".bollard-tmp"

# A name of 200 leaves room for the token within NAME_MAX (255); longer ones become directories.
_CHUNK_OF_NAME = 200

# Nothing there; or a file, or a symbolic link, where the key has a directory; or a link in its place.
_NO_OBJECT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

# O_NONBLOCK: opening a FIFO that somebody put there must not wait for its other end.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class NfsOptions:
    """How the export is reached."""

    path: Path = option(help="Directory where the export is mounted", example="/mnt/secondary")
    url: str = option(
        help="What is mounted there; empty for a directory of this machine",
        default="",
        example="nfs://10.2.128.5/export/secondary-a",
    )
    must_be_mounted: bool = option(
        help="Refuse a path that is not a mount point, so that a missing mount cannot fill the root disk",
        default=False,
    )


class NfsDriver(ImageStoreDriver[NfsOptions]):
    """Objects are files. Safe for any number of processes and hosts on one export."""

    spi = (1, 0)
    Options: ClassVar[type[NfsOptions]] = NfsOptions

    def __init__(self, options: NfsOptions) -> None:
        super().__init__(options)
        self._tree: Tree | None = None
        self._links = False

    def open(self, call: Call) -> None:
        """Open the directory and learn whether it takes hard links, on which `if_absent` rests.

        A store that may only be read is opened too: restoring needs no more.

        Raises:
            NotFound: the directory is not there, or nothing is mounted on it though `must_be_mounted` is set.
        """
        call.check()
        path = self.options.path
        with translated(f"the store {path}", Outcome.NOT_APPLIED):
            if self.options.must_be_mounted and not path.is_mount():
                raise NotFound(f"nothing is mounted on {path}")
            self.close()
            self._tree = Tree(path)
            self._links = self._probe_links(self._tree)

    def close(self) -> None:
        """Let go of the directory."""
        tree, self._tree = self._tree, None
        if tree is not None:
            tree.close()

    def traits(self) -> StoreTraits:
        """Return the store's manners; other NFS clients list a new file up to a minute late."""
        return StoreTraits(
            conditional_put=self._links, max_object_size=16 * TIB, listing_consistent=not self.options.url
        )

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        """Write a hidden file, make it durable, then give it its name in one step."""
        parts = split_key(key)
        call.check()
        if if_absent and not self._links:
            raise Unsupported("this file system has no hard links: conditional put is not possible")
        folder, name = _upload_place(key)
        try:
            with translated(key, Outcome.NOT_APPLIED):
                fd = self._opened.inside(folder, lambda d: os.open(name, _CREATE, 0o640, dir_fd=d))
                size = _fill(fd, body, call)
            with translated(key):
                self._publish(folder, name, parts, if_absent=if_absent)
        finally:
            self._discard(folder, name)
        return StoredObject(key=key, size=size)

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Stream the file from one open descriptor: a later replacement doesn't mix in."""
        parts = split_key(key)
        call.check()
        with translated(key):
            fd = self._open_object(key, parts)
            try:
                left = check_range(key, os.fstat(fd).st_size, offset, length)
                while left:
                    call.check()
                    data = os.pread(fd, min(CHUNK, left), offset)
                    if not data:
                        raise DataLoss(f"{key!r} became shorter while it was read")
                    offset, left = offset + len(data), left - len(data)
                    yield data
            finally:
                os.close(fd)

    def head(self, key: str, call: Call) -> StoredObject:
        """Return the file's size."""
        parts = split_key(key)
        call.check()
        with translated(key):
            status = self._status(parts)
        if status is None:
            raise NotFound(f"there is no object {key!r}")
        return _stored(Found(key, status))

    def list(
        self, prefix: str, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[StoredObject]:
        """Walk the tree in the order of the keys; files with other names than keys are left out."""
        check_prefix(prefix)
        if limit < 1:
            raise InvalidArgument(f"limit must be at least 1, got {limit}")
        call.check()
        with translated(f"the keys under {prefix!r}"):
            found = (f for f in self._opened.walk((), prefix=prefix, after=after or "") if is_key(f.path))
            items = [_stored(f) for f in islice(found, limit + 1)]
        more = len(items) > limit
        return Page(items=items[:limit], after=items[limit - 1].key if more else None)

    def delete(self, key: str, call: Call) -> None:
        """Unlink the file and the directories that it leaves empty."""
        parts = split_key(key)
        call.check()
        with translated(key):
            if self._status(parts) is None:
                return
            with suppress(FileNotFoundError), self._opened.directory(parts[:-1]) as fd:
                os.unlink(parts[-1], dir_fd=fd)
                os.fsync(fd)
            self._opened.prune(parts[:-1])

    def abort_uploads(self, prefix: str, call: Call, *, older_than: float) -> int:
        """Remove uploads of keys under `prefix` that nobody has written to for `older_than` seconds.

        Age is told by the server's clock, which also stamps the files: a host whose clock is an hour
        fast must not abort what another is writing.
        """
        check_prefix(prefix)
        call.check()
        removed = 0
        with translated(f"the uploads under {prefix!r}"):
            now = self._server_time()
            uploads = builtins.list(self._opened.walk((_UPLOADS,)))
            for path, status in uploads:
                call.check()
                if _key_of_upload(path).startswith(prefix) and now - status.st_mtime >= older_than:
                    folder, _, name = path.rpartition("/")
                    self._discard((_UPLOADS, *folder.split("/")) if folder else (_UPLOADS,), name)
                    removed += 1
        return removed

    @property
    def _opened(self) -> Tree:
        if self._tree is None:
            raise Unavailable("the store is not open", outcome=Outcome.NOT_APPLIED)
        return self._tree

    def _probe_links(self, tree: Tree) -> bool:
        """Tell whether the file system links files (SMB and some FUSE file systems don't)."""
        name, other = f"probe,{secrets.token_hex(8)}", f"probe,{secrets.token_hex(8)}"

        def probe(fd: int) -> None:
            os.close(os.open(name, _CREATE, 0o640, dir_fd=fd))
            os.link(name, other, src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)

        try:
            tree.inside((_UPLOADS,), probe)
        except OSError as error:
            known = from_errno(error, "links")
            if isinstance(known, OutOfCapacity):
                return True  # a full store must open, or nothing could be restored from it or deleted
            if isinstance(known, PermissionDenied | Unsupported):
                return False
            raise
        finally:
            self._discard((_UPLOADS,), name)
            self._discard((_UPLOADS,), other)
        return True

    def _publish(
        self, folder: tuple[str, ...], name: str, parts: tuple[str, ...], *, if_absent: bool
    ) -> None:
        def step(target: int) -> None:
            with self._opened.directory(folder) as source:
                ours = os.stat(name, dir_fd=source, follow_symlinks=False)
                if if_absent:
                    _link(source, name, target, parts[-1], ours)
                else:
                    os.replace(name, parts[-1], src_dir_fd=source, dst_dir_fd=target)
            os.fsync(target)

        try:
            self._opened.inside(parts[:-1], step)
        except FileNotFoundError as error:
            text = "the upload was aborted by another process"
            raise Unavailable(text, outcome=Outcome.NOT_APPLIED) from error

    def _open_object(self, key: str, parts: tuple[str, ...]) -> int:
        try:
            with self._opened.directory(parts[:-1]) as folder:
                fd = os.open(parts[-1], _READ, dir_fd=folder)
        except OSError as error:
            if error.errno in _NO_OBJECT:
                raise NotFound(f"there is no object {key!r}") from error
            raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise NotFound(f"there is no object {key!r}")
        return fd

    def _status(self, parts: tuple[str, ...]) -> os.stat_result | None:
        """Return the status of an object's file, or None where there is none."""
        try:
            with self._opened.directory(parts[:-1]) as fd:
                status = os.stat(parts[-1], dir_fd=fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status if stat.S_ISREG(status.st_mode) else None

    def _discard(self, folder: tuple[str, ...], name: str) -> None:
        """Remove an upload. What cannot be removed now is left to `abort_uploads`: the first error counts."""
        with suppress(OSError):
            with self._opened.directory(folder) as fd:
                os.unlink(name, dir_fd=fd)
            self._opened.prune(folder, keep=1)

    def _server_time(self) -> float:
        name = f"probe,{secrets.token_hex(8)}"

        def stamp(fd: int) -> float:
            file = os.open(name, _CREATE, 0o640, dir_fd=fd)
            try:
                return os.fstat(file).st_mtime
            finally:
                os.close(file)

        try:
            return self._opened.inside((_UPLOADS,), stamp)
        finally:
            self._discard((_UPLOADS,), name)


def _fill(fd: int, body: Body, call: Call) -> int:
    """Write all of the body to `fd`, make it durable and close it; returns the bytes written."""
    try:
        with CheckedReader(body, call) as reader:
            while data := reader.read(CHUNK):
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    return body.size


def _link(source: int, name: str, target: int, final: str, ours: os.stat_result) -> None:
    try:
        os.link(name, final, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except FileExistsError as error:
        there = os.stat(final, dir_fd=target, follow_symlinks=False)
        if stat.S_ISDIR(there.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from error
        if os.path.samestat(ours, there):
            return  # an NFS client that lost the answer sent the request again and finds its own link
        raise Conflict("an object of this key exists") from error


def _upload_place(key: str) -> tuple[tuple[str, ...], str]:
    """Return directory and name of a new upload of `key`, from which `_key_of_upload` reads it back."""
    text = quote(key, safe="")
    chunks = [f"_{text[i : i + _CHUNK_OF_NAME]}" for i in range(0, len(text), _CHUNK_OF_NAME)]
    return (_UPLOADS, *chunks[:-1]), f"{chunks[-1]},{secrets.token_hex(16)}"


def _key_of_upload(path: str) -> str:
    text = path.rpartition(",")[0]
    return unquote("".join(chunk[1:] for chunk in text.split("/")))


def _stored(found: Found) -> StoredObject:
    status = found.status
    return StoredObject(
        key=found.path,
        size=status.st_size,
        etag=f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}",
    )
