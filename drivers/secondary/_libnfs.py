"""libnfs, an NFS client in user space, through ctypes: what a store needs, with errors as `OSError`.

What libnfs 4.0 does, seen against nfs-ganesha 4.3, and what is done about it:

- a context serves one thread at a time                       a pool of connections (_remote.py)
- with NFSv4 it cannot send a WRITE of 4 KiB or more          pieces of 3 KiB there; use version 3
- with NFSv4 a create leaves its verifier in the file's       truncated there, which sets them
  times (a year of 2106), which tell an upload's age
- with NFSv4 it does not renew its lease: EXPIRED             connections that lay idle are not used again
- it would send a request again after a lost connection, and  no reconnecting by itself: the connection
  not look whether the server lost unwritten data meanwhile   is dropped, and the whole put is repeated
- it waits for ever for a server that does not answer         a timeout for every request
- a failure without errno becomes ERANGE, a timeout EINTR     the name in its message is looked at
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
import socket
import stat
from collections.abc import Callable, Iterator
from ctypes import POINTER, byref, c_char_p, c_int, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import Any

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


_Dirent._fields_ = [
    ("next", POINTER(_Dirent)),
    ("name", c_char_p),
    ("inode", c_uint64),
    ("type", c_uint32),
    ("mode", c_uint32),
    ("size", c_uint64),
]
_REGULAR, _DIRECTORY = 1, 2

_HANDLE = POINTER(c_void_p)
_CONTEXT_CALLS: dict[str, tuple[Any, ...]] = {
    "nfs_mount": (c_char_p, c_char_p),
    "nfs_open": (c_char_p, c_int, _HANDLE),
    "nfs_open2": (c_char_p, c_int, c_int, _HANDLE),
    "nfs_close": (c_void_p,),
    "nfs_pread": (c_void_p, c_uint64, c_uint64, c_char_p),
    "nfs_pwrite": (c_void_p, c_uint64, c_uint64, c_void_p),
    "nfs_fsync": (c_void_p,),
    "nfs_fstat64": (c_void_p, POINTER(_Stat)),
    "nfs_lstat64": (c_char_p, POINTER(_Stat)),
    "nfs_opendir": (c_char_p, _HANDLE),
    "nfs_mkdir2": (c_char_p, c_int),
    "nfs_rmdir": (c_char_p,),
    "nfs_unlink": (c_char_p,),
    "nfs_link": (c_char_p, c_char_p),
    "nfs_rename": (c_char_p, c_char_p),
}


class Connection:
    """One connection to an export, for one thread at a time. Paths begin with "/"; errors are `OSError`.

    Args:
        export: what to mount.
        seconds: returns how long the next request may take; asked before each.

    Attributes:
        broken: nothing more can be asked through it.
    """

    def __init__(self, export: Export, seconds: Callable[[], float]) -> None:
        self.seconds = seconds
        self.broken = False
        self._version = export.version
        self._lib = _library()
        self._context = self._lib.nfs_init_context()
        try:
            self._mount(export)
        except BaseException:
            self.close()
            raise

    def _mount(self, export: Export) -> None:
        _reach(export, self.seconds())
        url = self._lib.nfs_parse_url_incomplete(self._context, _settings(export))
        self._lib.nfs_destroy_url(url)
        self._lib.nfs_set_autoreconnect(self._context, 0)
        self._lib.nfs_set_dircache(self._context, 0)
        # With one name two connections are one client to a server of NFSv4, and the later ends the earlier.
        self._lib.nfs4_set_client_name(self._context, f"bollard-{secrets.token_hex(12)}".encode())
        self._lib.nfs4_set_verifier(self._context, secrets.token_bytes(8))
        self._ask("nfs_mount", export.host.encode(), export.path.encode())

    def close(self) -> None:
        """Hang up."""
        context, self._context = self._context, None
        if context is not None:
            self._lib.nfs_destroy_context(context)

    def open(self, path: str) -> int:
        """Open a file for reading; returns its handle."""
        return self._handle("nfs_open", _name(path), os.O_RDONLY | os.O_NOFOLLOW)

    def create(self, path: str) -> int:
        """Create a file under a name that nobody else has chosen; returns its handle."""
        fresh = os.O_TRUNC if self._version == 4 else os.O_EXCL
        return self._handle("nfs_open2", _name(path), os.O_WRONLY | os.O_CREAT | fresh, 0o640)

    def close_file(self, handle: int) -> None:
        """Let go of a handle."""
        self._ask("nfs_close", handle)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """Return up to `size` bytes."""
        buffer = ctypes.create_string_buffer(size)
        got = self._ask("nfs_pread", handle, offset, size, buffer)
        return ctypes.string_at(buffer, got)

    def write(self, handle: int, data: memoryview, offset: int) -> int:
        """Write; returns how many bytes were taken."""
        piece = bytes(data[:_SMALL_WRITE] if self._version == 4 else data)
        return self._ask("nfs_pwrite", handle, offset, len(piece), piece)

    def sync(self, handle: int) -> None:
        """COMMIT."""
        self._ask("nfs_fsync", handle)

    def status_of(self, handle: int) -> Status:
        """Return what an open file is."""
        found = _Stat()
        self._ask("nfs_fstat64", handle, byref(found))
        return _status(found)

    def status(self, path: str) -> Status:
        """Return what bears the name; links among the path's other parts are not looked for."""
        found = _Stat()
        self._ask("nfs_lstat64", _name(path), byref(found))
        return _status(found)

    def entries(self, path: str) -> Iterator[Entry]:
        """Read a directory, whole."""
        listing = self._handle("nfs_opendir", _name(path))
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
        self._ask("nfs_mkdir2", _name(path), 0o750)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        self._ask("nfs_rmdir", _name(path))

    def unlink(self, path: str) -> None:
        """Remove a name."""
        self._ask("nfs_unlink", _name(path))

    def link(self, path: str, final: str) -> None:
        """Add a name."""
        self._ask("nfs_link", _name(path), _name(final))

    def rename(self, path: str, final: str) -> None:
        """Rename over what is there."""
        self._ask("nfs_rename", _name(path), _name(final))

    def _handle(self, function: str, *arguments: Any) -> int:
        handle = c_void_p()
        self._ask(function, *arguments, byref(handle))
        return handle.value or 0

    def _ask(self, function: str, *arguments: Any) -> int:
        """Send one request and wait for its answer; the GIL is free meanwhile."""
        if self.broken:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        # Whole seconds; less than one would be none.
        self._lib.nfs_set_timeout(self._context, max(1, round(self.seconds())) * 1000)
        result: int = getattr(self._lib, function)(self._context, *arguments)
        if result < 0:
            error, self.broken = _error(-result, self._lib.nfs_get_error(self._context) or b"")
            raise error
        return result


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


_NAMES = {
    "JUKEBOX": errno.EAGAIN,
    "DELAY": errno.EAGAIN,
    "GRACE": errno.EAGAIN,
    "STALE": errno.ESTALE,
    "DQUOT": errno.EDQUOT,
    "NOTSUPP": errno.ENOTSUP,
}


def _error(number: int, text: bytes) -> tuple[OSError, bool]:
    """Return what a failure means, and whether its connection is broken. The text has paths: not told."""
    named = re.search(rb"NFS[34]ERR_(\w+)", text)
    if number == errno.EFAULT:  # SERVERFAULT: what ganesha says of a write to a file that was removed
        number = errno.ESTALE
    if number in (errno.EINTR, errno.EIO, errno.ERANGE) or (named is None and number == errno.EPERM):
        known = _NAMES.get(named[1].decode(), errno.EIO) if named else errno.EIO
        if b"timed out" in text:
            known = errno.ETIMEDOUT
        return _os_error(known, named), known != errno.EAGAIN
    return _os_error(number, named), number == errno.ESTALE  # so is perhaps the root, after a restart


def _os_error(number: int, named: re.Match[bytes] | None) -> OSError:
    told = f" ({named[0].decode()})" if named else ""
    return OSError(number, os.strerror(number) + told)


def _name(path: str) -> bytes:
    return path.encode(errors="surrogateescape")


def _status(found: _Stat) -> Status:
    return Status(
        size=found.size,
        inode=found.ino,
        mtime_ns=found.mtime * 10**9 + found.mtime_nsec,
        is_file=stat.S_ISREG(found.mode),
        is_directory=stat.S_ISDIR(found.mode),
    )


@cache
def _library() -> Any:
    """Load libnfs, and say what its functions take."""
    for name in _LIBRARIES:
        try:
            lib = ctypes.CDLL(name)
            break
        except OSError:
            continue
    else:
        names = " or ".join(_LIBRARIES)
        text = f"{names} is not installed (Debian: libnfs13); or mount the export and give 'path'"
        raise Unsupported(text, outcome=Outcome.NOT_APPLIED)
    for function, arguments in _CONTEXT_CALLS.items():
        getattr(lib, function).argtypes = (c_void_p, *arguments)
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
        "nfs_set_timeout": (c_int,),
        "nfs4_set_client_name": (c_char_p,),
        "nfs4_set_verifier": (c_char_p,),
        "nfs_readdir": (c_void_p,),
        "nfs_closedir": (c_void_p,),
    }.items():
        getattr(lib, function).argtypes = (c_void_p, *arguments)
    lib.nfs_destroy_url.argtypes = (c_void_p,)
