r"""An NFS export, mounted or not, or any directory, as an image store.

    <root>/v1/vol-1/snap-2/0000000000000000.zip      objects, under their keys
    <root>/.bollard-tmp/_v1%2Fvol-1%2F…,4f0c…        uploads, under key and a random token

    put:  create (O_EXCL) ── write, hash ── fsync ── link | rename ── fsync(directory) ── unlink
             └───── kill -9: abort_uploads finds it ─────┘  └──────── the object is there ───────┘

Bollard doesn't mount. With `path` the host has done it, with the options that its site needs. A *hard* mount
blocks a process that touches it for as long as the server is away, and no deadline reaches into the kernel;
mount `softerr` (or `soft`) with a `timeo` below the deadlines that you set. Without `path`, the server that
`url` names is spoken to in user space, and each request has a timeout. Between two reads or writes of 1 MiB
the deadline and the cancel flag of the call are looked at.
"""

from __future__ import annotations

import builtins
import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar, NamedTuple
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
    Unfinished,
    Unsupported,
    option,
)
from ._body import CHUNK, CheckedReader, check_range
from ._errno import from_errno, translated
from ._export import parse_export
from ._folder import File, Folder, Root, Status
from ._keys import check_prefix, is_key, split_key
from ._local import LocalRoot
from ._remote import RemoteRoot
from ._tree import Found, Tree

_UPLOADS = ".bollard-tmp"

# A name of 200 leaves room for the token within NAME_MAX (255); longer ones become directories.
_CHUNK_OF_NAME = 200

# Nothing there; or a file, or a symbolic link, where the key has a directory; or a link in its place, or,
# where the server opens it (NFSv4), a directory or a pipe.
_NO_OBJECT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EINVAL)

# The file was removed, told by its name or, where the server had been asked for it before, by its handle.
_GONE = (errno.ENOENT, errno.ESTALE)

# The connection went away: the request may have been carried out.
_LOST = (errno.EIO, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNRESET)

_ABORTED = "the upload was aborted by another process"

# Seconds to take back what a put began, also when the put's own time is over.
_TIDYING = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NfsOptions:
    """How the export is reached: through `path` where it is mounted, or else without a mount, by `url`."""

    path: Path | None = option(
        help="Directory where the export is mounted; none to reach 'url' without a mount",
        default=None,
        example="/mnt/secondary",
    )
    url: str = option(
        help="nfs://host[:port]/export[?version=3|4&mountport=N&uid=N&gid=N]; with 'path': what is mounted",
        default="",
        example="nfs://10.2.128.5/export/secondary-a",
    )
    read_timeout: float = option(
        help="Seconds that one request may take, without a mount", default=60.0, minimum=1.0
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
        self._root: Root | None = None
        self._links = False

    def open(self, call: Call) -> None:
        """Open the directory and learn whether it takes hard links, on which `if_absent` rests.

        A store that may only be read is opened too: restoring needs no more.

        Raises:
            NotFound: the directory is not there, or nothing is mounted on it though `must_be_mounted` is set.
            Unsupported: there is no `path`, and libnfs is not installed.
        """
        call.check()
        path = self.options.path
        with translated(f"the store {path or self.options.url}", Outcome.NOT_APPLIED):
            self.close()
            self._root = self._local_root() if path else self._remote_root()
            try:
                self._links = self._probe_links(call)
            except BaseException:
                self.close()
                raise

    @property
    def directory(self) -> Path:
        """Where the export is mounted.

        Raises:
            Unsupported: it is not.
        """
        if self.options.path is None:
            raise Unsupported("the store is not mounted", outcome=Outcome.NOT_APPLIED)
        return self.options.path

    def _local_root(self) -> Root:
        if self.options.must_be_mounted and not self.directory.is_mount():
            raise NotFound(f"nothing is mounted on {self.directory}")
        return LocalRoot(self.directory)

    def _remote_root(self) -> Root:
        if not self.options.url:
            raise InvalidArgument("option 'path' or 'url' is required")
        if self.options.must_be_mounted:
            raise InvalidArgument("option 'must_be_mounted' needs 'path'")
        return RemoteRoot(parse_export(self.options.url), self.options.read_timeout)

    def close(self) -> None:
        """Let go of the directory."""
        root, self._root = self._root, None
        if root is not None:
            root.close()

    def traits(self) -> StoreTraits:
        """Return the store's manners; kernels of other NFS clients list a new file up to a minute late."""
        cached = self.options.path is not None and self.options.url != ""
        return StoreTraits(
            conditional_put=self._links, max_object_size=16 * TIB, listing_consistent=not cached
        )

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        """Write a hidden file, make it durable, then give it its name in one step."""
        parts = split_key(key)
        call.check()
        if if_absent and not self._links:
            raise Unsupported("this file system has no hard links: conditional put is not possible")
        folder, name = _upload_place(key)
        try:
            with translated(key, Outcome.NOT_APPLIED), self._tree(call).created(folder, name) as file:
                ours = _fill(file, body, call)
            with translated(key):
                self._publish(Upload(self._tree(call), folder, name, ours), parts, if_absent=if_absent)
        finally:
            self._discard(folder, name)
        return StoredObject(key=key, size=body.size)

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Stream the file from one open descriptor: a later replacement doesn't mix in."""
        parts = split_key(key)
        call.check()
        with translated(key), self._object(key, parts, call) as file:
            left = check_range(key, file.status().size, offset, length)
            while left:
                call.check()
                data = file.read(min(CHUNK, left), offset)
                if not data:
                    raise DataLoss(f"{key!r} became shorter while it was read")
                offset, left = offset + len(data), left - len(data)
                yield data

    def head(self, key: str, call: Call) -> StoredObject:
        """Return the file's size."""
        parts = split_key(key)
        call.check()
        with translated(key):
            status = _status(self._tree(call), parts)
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
            walk = self._tree(call).walk((), prefix=prefix, after=after or "")
            with closing(walk):
                found = (f for f in walk if is_key(f.path))
                items = [_stored(f) for f in islice(found, limit + 1)]
        more = len(items) > limit
        return Page(items=items[:limit], after=items[limit - 1].key if more else None)

    def delete(self, key: str, call: Call) -> None:
        """Unlink the file and the directories that it leaves empty."""
        parts = split_key(key)
        call.check()
        tree = self._tree(call)
        with translated(key):
            if _status(tree, parts) is None:
                return
            with suppress(FileNotFoundError), tree.directory(parts[:-1]) as folder:
                folder.unlink(parts[-1])
                folder.sync()
            tree.prune(parts[:-1])

    def abort_uploads(self, prefix: str, call: Call, *, older_than: float) -> int:
        """Remove uploads of keys under `prefix` that nobody has written to for `older_than` seconds.

        Age is told by the server's clock, which also stamps the files: a host whose clock is an hour
        fast must not abort what another is writing.
        """
        removed = 0
        for path, _ in self._idle(prefix, call, older_than):
            folder, _, name = path.rpartition("/")
            self._discard((_UPLOADS, *folder.split("/")) if folder else (_UPLOADS,), name)
            removed += 1
        return removed

    def unfinished(self, prefix: str, call: Call, *, older_than: float) -> Iterator[Unfinished]:
        """Yield the uploads that `abort_uploads` would remove."""
        for path, unfinished in self._idle(prefix, call, older_than):
            if not path.startswith("probe,"):
                yield unfinished

    def _idle(self, prefix: str, call: Call, older_than: float) -> Iterator[tuple[str, Unfinished]]:
        check_prefix(prefix)
        call.check()
        with translated(f"the uploads under {prefix!r}"):
            now = self._server_time_ns(call)
            uploads = builtins.list(self._tree(call).walk((_UPLOADS,)))
            for path, status in uploads:
                call.check()
                idle, key = (now - status.mtime_ns) / 10**9, _key_of_upload(path)
                if idle >= older_than and key.startswith(prefix):
                    yield path, Unfinished(key=key, idle=idle, size=status.size)

    def _tree(self, call: Call) -> Tree:
        if self._root is None:
            raise Unavailable("the store is not open", outcome=Outcome.NOT_APPLIED)
        return Tree(self._root, call)

    def _probe_links(self, call: Call) -> bool:
        """Tell whether the file system links files (SMB and some FUSE file systems don't)."""
        name, other = f"probe,{secrets.token_hex(8)}", f"probe,{secrets.token_hex(8)}"

        def probe(folder: Folder) -> None:
            folder.create(name).close()
            folder.link(name, folder, other)

        try:
            self._tree(call).inside((_UPLOADS,), probe)
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

    def _publish(self, upload: Upload, parts: tuple[str, ...], *, if_absent: bool) -> None:
        """Give the upload its name; where an answer was lost, ask again: the inode tells who did it."""
        step = partial(_link if if_absent else _replace, upload, final=parts[-1])
        attempts = self._root.attempts if self._root else 1
        for attempt in range(1, attempts + 1):
            try:
                return upload.tree.inside(parts[:-1], step)
            except OSError as error:
                if error.errno in _GONE:
                    if attempt > 1 and _is_at(upload, parts):
                        return None
                    raise Unavailable(_ABORTED, outcome=Outcome.NOT_APPLIED) from error
                if error.errno not in _LOST or attempt == attempts:
                    raise
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def _object(self, key: str, parts: tuple[str, ...], call: Call) -> Iterator[File]:
        """Open an object's file, and close it afterwards."""
        with ExitStack() as opened:
            try:
                folder = opened.enter_context(self._tree(call).directory(parts[:-1]))
                file = folder.open(parts[-1])
            except OSError as error:
                if error.errno in _NO_OBJECT:
                    raise NotFound(f"there is no object {key!r}") from error
                raise
            opened.callback(file.close)
            if not file.status().is_file:
                raise NotFound(f"there is no object {key!r}")
            yield file

    def _discard(self, folder: tuple[str, ...], name: str) -> None:
        """Remove an upload. What cannot be removed now is left to `abort_uploads`: the first error counts."""
        if self._root is None or not self._root.answers:
            return
        with suppress(OSError, Unavailable):
            tree = self._tree(Call.within(_TIDYING))
            with tree.directory(folder) as inner:
                inner.unlink(name)
            tree.prune(folder, keep=1)

    def _server_time_ns(self, call: Call) -> int:
        name = f"probe,{secrets.token_hex(8)}"
        try:
            with self._tree(call).created((_UPLOADS,), name) as file:
                return file.status().mtime_ns
        finally:
            self._discard((_UPLOADS,), name)


class Upload(NamedTuple):
    """A file that has all its bytes and not yet its name; `ours` is what it is."""

    tree: Tree
    folder: tuple[str, ...]
    name: str
    ours: Status


def _fill(file: File, body: Body, call: Call) -> Status:
    """Write all of the body, make it durable, and tell what file it is."""
    with CheckedReader(body, call) as reader:
        while data := reader.read(CHUNK):
            view = memoryview(data)
            with _unless_swept():
                while view:
                    view = view[file.write(view) :]
    with _unless_swept():
        file.sync()
        return file.status()


@contextmanager
def _unless_swept() -> Iterator[None]:
    """A server forgets the handle of a file that was removed; a kernel keeps the file until its close."""
    try:
        yield
    except OSError as error:
        if error.errno in _GONE:
            raise Unavailable(_ABORTED, outcome=Outcome.NOT_APPLIED) from error
        raise


def _link(upload: Upload, target: Folder, final: str) -> None:
    with upload.tree.directory(upload.folder) as source:
        try:
            source.link(upload.name, target, final)
        except FileExistsError as error:
            there = target.status(final)
            if there.is_directory:
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from error
            if there.inode != upload.ours.inode:
                raise Conflict("an object of this key exists") from error
            # A client that lost the answer sent the request again and finds its own link.
    target.sync()


def _replace(upload: Upload, target: Folder, final: str) -> None:
    with upload.tree.directory(upload.folder) as source:
        source.replace(upload.name, target, final)
    target.sync()


def _is_at(upload: Upload, parts: tuple[str, ...]) -> bool:
    status = _status(upload.tree, parts)
    return status is not None and status.inode == upload.ours.inode


def _status(tree: Tree, parts: tuple[str, ...]) -> Status | None:
    """Return the status of an object's file, or None where there is none."""
    try:
        with tree.directory(parts[:-1]) as folder:
            status = folder.status(parts[-1])
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status if status.is_file else None


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
        size=status.size,
        etag=f"{status.inode:x}-{status.mtime_ns:x}-{status.size:x}",
    )
