"""libnfs, an NFS client in user space, through ctypes: what a store needs, with errors as `OSError`.

What libnfs 4.0 does, seen against nfs-ganesha 4.3, and what is done about it:

- a context serves one thread at a time                       a pool of connections (_remote.py)
- after a broken connection its calls that wait return, and   the calls that take a callback, whose state
  a later answer is written into their dead stack             is ours (_Request), and a loop of our own
- it waits for ever for a server that does not answer         the loop has a deadline
- with NFSv4 it cannot send a WRITE of 4 KiB or more          pieces of 3 KiB there; use version 3
- with NFSv4 a create leaves its verifier in the file's       truncated there, which sets them
  times (a year of 2106), which tell an upload's age
- with NFSv4 it does not renew its lease: EXPIRED             connections that lay idle are not used again
- it would send a request again after a lost connection, and  no reconnecting by itself: the connection
  not look whether the server lost unwritten data meanwhile   is dropped, and the whole put is repeated
- an error of WRITE becomes EFAULT, one without errno ERANGE  the name in the message is looked at
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import re
import secrets
import select
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import Any, ClassVar

from ...core.spi import Outcome, Unsupported
from ._export import Export
from ._folder import Entry, Status

# libnfs 4 and 5. Version 6 has another order of arguments.
_LIBRARIES = ("libnfs.so.13", "libnfs.so.14")

# The compound of NFSv4 has a fixed buffer of 4 KiB in libnfs 4, of which the operation itself needs some.
_SMALL_WRITE = 3072

_PORT, _PORT_OF_MAPPER = 2049, 111


class _Stat(ctypes.Structure):
    _fields_ = [
        (name, c_uint64)
        for name in (
            *("dev", "ino", "mode", "nlink", "uid", "gid", "rdev", "size", "blksize", "blocks"),
            *("atime", "mtime", "ctime", "atime_nsec", "mtime_nsec", "ctime_nsec", "used"),
        )
    ]


class _Dirent(ctypes.Structure):
    """Its beginning; `type` is NFSv3's ftype."""

    _fields_ = [
        ("next", c_void_p),
        ("name", c_char_p),
        ("inode", c_uint64),
        ("type", c_uint32),
        ("mode", c_uint32),
        ("size", c_uint64),
    ]


_REGULAR, _DIRECTORY = 1, 2

# Each ends with the callback and the number of the request.
_REQUESTS: dict[str, tuple[Any, ...]] = {
    "mount": (c_char_p, c_char_p),
    "open2": (c_char_p, c_int, c_int),
    "close": (c_void_p,),
    "pread": (c_void_p, c_uint64, c_uint64),
    "pwrite": (c_void_p, c_uint64, c_uint64, c_char_p),
    "fsync": (c_void_p,),
    "fstat64": (c_void_p,),
    "lstat64": (c_char_p,),
    "opendir": (c_char_p,),
    "mkdir2": (c_char_p, c_int),
    "rmdir": (c_char_p,),
    "unlink": (c_char_p,),
    "link": (c_char_p, c_char_p),
    "rename": (c_char_p, c_char_p),
}

_Reader = Callable[[int, int], Any]


class _Request:
    """What the callback of one request fills in; it finds it by its number, which no other request has."""

    pending: ClassVar[dict[int, _Request]] = {}
    numbers: ClassVar[Iterator[int]] = itertools.count(1)

    def __init__(self, read: _Reader, sent: Any) -> None:
        self.number = next(self.numbers)
        self.status: int | None = None
        self.answer: Any = None
        self._read = read
        self._sent = sent  # libnfs may look at it until the answer is there
        self.pending[self.number] = self

    def answered(self, status: int, data: int) -> None:
        """Take what the data, which are libnfs' own, say; errors are told by a text elsewhere."""
        self.status = status
        if status >= 0:
            self.answer = self._read(status, data)


def _answered(status: int, _context: int, data: int, number: int) -> None:
    """The callback. Who hung up is not asked any more: then there is no such request."""
    request = _Request.pending.pop(number, None)
    if request is not None:
        request.answered(status, data or 0)


_CALLBACK = CFUNCTYPE(None, c_int, c_void_p, c_void_p, c_void_p)(_answered)


def _number(status: int, _data: int) -> int:
    return status


def _pointer(_status: int, data: int) -> int:
    return data


def _bytes(status: int, data: int) -> bytes:
    return ctypes.string_at(data, status)


def _stat(_status: int, data: int) -> Status:
    found = _Stat.from_address(data)
    return Status(
        size=found.size,
        inode=found.ino,
        mtime_ns=found.mtime * 10**9 + found.mtime_nsec,
        is_file=stat.S_ISREG(found.mode),
        is_directory=stat.S_ISDIR(found.mode),
    )


class Connection:
    """One connection to an export, for one thread at a time. Paths begin with "/"; errors are `OSError`.

    Args:
        export: what to mount.
        seconds: returns how long the next request may take; asked before each.

    Attributes:
        broken: nothing more can be asked through it.
        silent: because the server let a request's time pass.
    """

    def __init__(self, export: Export, seconds: Callable[[], float]) -> None:
        _reach(export, seconds())
        self.seconds = seconds
        self.broken = self.silent = False
        self._version = export.version
        self._lib = _library()
        self._context = self._lib.nfs_init_context()
        try:
            self._mount(export)
        except BaseException:
            self.close()
            raise

    def _mount(self, export: Export) -> None:
        url = self._lib.nfs_parse_url_incomplete(self._context, _settings(export))
        self._lib.nfs_destroy_url(url)
        self._lib.nfs_set_autoreconnect(self._context, 0)
        self._lib.nfs_set_dircache(self._context, 0)
        # With one name two connections are one client to a server of NFSv4, and the later ends the earlier.
        self._lib.nfs4_set_client_name(self._context, f"bollard-{secrets.token_hex(12)}".encode())
        self._lib.nfs4_set_verifier(self._context, secrets.token_bytes(8))
        self._ask("mount", export.host.encode(), export.path.encode())

    def close(self) -> None:
        """Hang up."""
        context, self._context = self._context, None
        if context is not None:
            self._lib.nfs_destroy_context(context)

    def open(self, path: str) -> int:
        """Open a file for reading; returns its handle."""
        return int(self._ask("open2", _name(path), os.O_RDONLY | os.O_NOFOLLOW, 0, read=_pointer))

    def create(self, path: str) -> int:
        """Create a file under a name that nobody else has chosen; returns its handle."""
        fresh = os.O_TRUNC if self._version == 4 else os.O_EXCL
        return int(self._ask("open2", _name(path), os.O_WRONLY | os.O_CREAT | fresh, 0o640, read=_pointer))

    def close_file(self, handle: int) -> None:
        """Let go of a handle."""
        self._ask("close", handle)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """Return up to `size` bytes."""
        return bytes(self._ask("pread", handle, offset, size, read=_bytes))

    def write(self, handle: int, data: memoryview, offset: int) -> int:
        """Write; returns how many bytes were taken."""
        piece = bytes(data[:_SMALL_WRITE] if self._version == 4 else data)
        return int(self._ask("pwrite", handle, offset, len(piece), piece))

    def sync(self, handle: int) -> None:
        """COMMIT."""
        self._ask("fsync", handle)

    def status_of(self, handle: int) -> Status:
        """Return what an open file is."""
        found: Status = self._ask("fstat64", handle, read=_stat)
        return found

    def status(self, path: str) -> Status:
        """Return what bears the name; links among the path's other parts are not looked for."""
        found: Status = self._ask("lstat64", _name(path), read=_stat)
        return found

    def entries(self, path: str) -> Iterator[Entry]:
        """Read a directory, whole."""
        listing = self._ask("opendir", _name(path), read=_pointer)
        try:
            while found := self._lib.nfs_readdir(self._context, listing):
                entry = found.contents
                if entry.name not in (b".", b".."):
                    name = os.fsdecode(entry.name)
                    yield Entry(name, entry.type == _REGULAR, entry.type == _DIRECTORY, None)
        finally:
            self._lib.nfs_closedir(self._context, listing)

    def mkdir(self, path: str) -> None:
        """Make a directory."""
        self._ask("mkdir2", _name(path), 0o750)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        self._ask("rmdir", _name(path))

    def unlink(self, path: str) -> None:
        """Remove a name."""
        self._ask("unlink", _name(path))

    def link(self, path: str, final: str) -> None:
        """Add a name."""
        self._ask("link", _name(path), _name(final))

    def rename(self, path: str, final: str) -> None:
        """Rename over what is there."""
        self._ask("rename", _name(path), _name(final))

    def _ask(self, function: str, *arguments: Any, read: _Reader = _number) -> Any:
        """Send one request and wait for its answer; others may use the GIL meanwhile."""
        if self.broken:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        request = _Request(read, arguments)
        send = getattr(self._lib, f"nfs_{function}_async")
        try:
            queued = send(self._context, *arguments, _CALLBACK, request.number) >= 0
            if not queued or not self._wait(request, time.monotonic() + self.seconds()):
                self.broken = True
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        finally:
            _Request.pending.pop(request.number, None)
        if request.status is None or request.status < 0:
            text = self._lib.nfs_get_error(self._context) or b""
            error, self.broken = _error(-(request.status or -errno.EIO), text)
            raise error
        return request.answer

    def _wait(self, request: _Request, until: float) -> bool:
        """Serve the connection until the answer is there; False when it broke."""
        poll = select.poll()
        while request.status is None:
            left = until - time.monotonic()
            if left <= 0:
                self.broken = self.silent = True
                raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            fd = self._lib.nfs_get_fd(self._context)
            poll.register(fd, self._lib.nfs_which_events(self._context))
            events = poll.poll(left * 1000)
            poll.unregister(fd)
            if self._lib.nfs_service(self._context, events[0][1] if events else 0) < 0:
                return request.status is not None
        return True


def _reach(export: Export, seconds: float) -> None:
    """Look whether anyone listens: libnfs says only EIO of who refuses, and waits minutes for the silent."""
    port = export.port or (_PORT_OF_MAPPER if export.version == 3 else _PORT)
    try:
        socket.create_connection((export.host, port), timeout=seconds).close()
    except TimeoutError as error:
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from error
    except socket.gaierror as error:
        raise OSError(errno.EHOSTUNREACH, f"the host's name has no address: {error.strerror}") from error


def _settings(export: Export) -> bytes:
    """Return the ports and so on as libnfs wants them: in an URL."""
    words = {"version": export.version, "uid": export.uid, "gid": export.gid}
    ports = {"nfsport": export.port, "mountport": export.mountport}
    words |= {name: port for name, port in ports.items() if port}
    return b"nfs://x/?" + "&".join(f"{name}={value}" for name, value in words.items()).encode()


# NFS' own names, where libnfs has no errno for them or tells another.
_NAMES = {
    "JUKEBOX": errno.EAGAIN,
    "DELAY": errno.EAGAIN,
    "GRACE": errno.EAGAIN,
    "STALE": errno.ESTALE,
    "SERVERFAULT": errno.ESTALE,  # what ganesha says of a write to a file that was removed
    "DQUOT": errno.EDQUOT,
    "NOSPC": errno.ENOSPC,
    "FBIG": errno.EFBIG,
    "ROFS": errno.EROFS,
    "ACCES": errno.EACCES,
    "NOTSUPP": errno.ENOTSUP,
}
_VAGUE = (errno.EFAULT, errno.EINTR, errno.EIO, errno.ERANGE)
_BREAKS = (errno.EIO, errno.ESTALE)  # ESTALE: so is perhaps the root, after a restart


def _error(number: int, text: bytes) -> tuple[OSError, bool]:
    """Return what a failure means, and whether its connection is broken. The text has paths: not told."""
    named = re.search(rb"NFS[34]ERR_(\w+)", text)
    if number in _VAGUE:
        number = _NAMES.get(named[1].decode(), errno.EIO) if named else errno.EIO
    return _os_error(number, named), number in _BREAKS


def _os_error(number: int, named: re.Match[bytes] | None) -> OSError:
    told = f" ({named[0].decode()})" if named else ""
    return OSError(number, os.strerror(number) + told)


def _name(path: str) -> bytes:
    return path.encode(errors="surrogateescape")


def installed() -> str:
    """Return the name of the library that would be used, "" for none."""
    for name in _LIBRARIES:
        with suppress(OSError):
            ctypes.CDLL(name)
            return name
    return ""


@cache
def _library() -> Any:
    """Load libnfs, and say what its functions take."""
    name = installed()
    if not name:
        names = " or ".join(_LIBRARIES)
        text = f"{names} is not installed (Debian: libnfs13); or mount the export and give 'path'"
        raise Unsupported(text, outcome=Outcome.NOT_APPLIED)
    lib = ctypes.CDLL(name)
    for function, arguments in _REQUESTS.items():
        getattr(lib, f"nfs_{function}_async").argtypes = (c_void_p, *arguments, type(_CALLBACK), c_void_p)
    _declare(lib)
    return lib


def _declare(lib: Any) -> None:
    """The functions that make no request."""
    lib.nfs_init_context.restype = c_void_p
    lib.nfs_get_error.restype = c_char_p
    lib.nfs_parse_url_incomplete.restype = c_void_p
    lib.nfs_readdir.restype = POINTER(_Dirent)
    for function, arguments in {
        "nfs_destroy_context": (),
        "nfs_get_error": (),
        "nfs_parse_url_incomplete": (c_char_p,),
        "nfs_set_autoreconnect": (c_int,),
        "nfs_set_dircache": (c_int,),
        "nfs_get_fd": (),
        "nfs_which_events": (),
        "nfs_service": (c_int,),
        "nfs4_set_client_name": (c_char_p,),
        "nfs4_set_verifier": (c_char_p,),
        "nfs_readdir": (c_void_p,),
        "nfs_closedir": (c_void_p,),
    }.items():
        getattr(lib, function).argtypes = (c_void_p, *arguments)
    lib.nfs_destroy_url.argtypes = (c_void_p,)
