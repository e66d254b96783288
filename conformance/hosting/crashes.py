"""External calls of the driver, counted; and SIGKILL to ourselves at one of them. Runs in the host.

    send 412 bytes to …   the point lies BEFORE it: the request was never sent
    reply from …          AFTER the first bytes of it: the request was carried out, nobody read the answer
    rename a -> b, …      BEFORE it

Files and processes are heard through Python's audit hook. Sockets have no audit events for sending and
receiving, so their methods are wrapped; the host's own socket is read and written with `os` (frames.py).
What goes past Python (a C library's own sockets, os.write on an open file) is not seen.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Meter:
    """Counts from `begin` on; there is one in a process, for an audit hook can never be taken out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._installed = False
        self._counting = False
        self._fatal: int | None = None
        self._always = False
        self._running = 0
        self._points: list[str] = []
        self._awaited: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._nested = threading.local()

    def begin(self, *, fatal: int | None = None, always: bool = False) -> None:
        """Count from zero.

        Args:
            fatal: the process ends itself when it would do the call of this number (0 is the first).
            always: also count what happens outside of the driver's methods (import, construction).
        """
        with self._lock:
            self._points, self._fatal, self._always, self._counting = [], fatal, always, True
        if not self._installed:
            self._installed = True
            self._wrap_sockets()
            sys.addaudithook(self._hear)

    def counted(self) -> list[str]:
        """Return what was counted, in a few words each."""
        with self._lock:
            return list(self._points)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Surround a method of the driver; its own threads count as long as one runs."""
        with self._lock:
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1

    def _point(self, words: str) -> None:
        with self._lock:
            if not (self._counting and (self._running or self._always)):
                return
            if len(self._points) == self._fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            self._points.append(words)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take an event of Python's; called for each one in the process, so most end at the first line."""
        describe = _EVENTS.get(event)
        if describe is not None and (words := describe(*arguments)):
            self._point(words)

    def _wrap_sockets(self) -> None:
        import ssl  # here: no host pays for it but those that count

        for cls, sends, receives in (
            (socket.socket, ("send", "sendall"), ("recv", "recv_into")),
            (ssl.SSLSocket, ("send", "sendall", "write"), ("recv", "recv_into", "read")),
        ):
            for name in sends:
                setattr(cls, name, self._sending(getattr(cls, name)))
            for name in receives:
                setattr(cls, name, self._receiving(getattr(cls, name)))

    def _sending(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def send(sock: socket.socket, data: Any, *rest: Any, **more: Any) -> Any:
            with self._outermost() as outermost:
                peer = _peer(sock) if outermost else ""
                if peer:
                    self._point(f"send {memoryview(data).nbytes} bytes to {peer}")
                sent = original(sock, data, *rest, **more)
                if peer:
                    self._awaited.add(sock)
                return sent

        return send

    def _receiving(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def receive(sock: socket.socket, *rest: Any, **more: Any) -> Any:
            with self._outermost() as outermost:
                received = original(sock, *rest, **more)
                if outermost and received and sock in self._awaited:
                    self._awaited.discard(sock)
                    self._point(f"reply from {_peer(sock)}")
                return received

        return receive

    @contextmanager
    def _outermost(self) -> Iterator[bool]:
        """Tell whether this is no method that another of the wrapped ones calls (sendall, then send)."""
        outermost = not getattr(self._nested, "inside", False)
        self._nested.inside = True
        try:
            yield outermost
        finally:
            if outermost:
                self._nested.inside = False


def _peer(sock: socket.socket) -> str:
    """Return the other end in words; "" for the nameless ends of a socketpair, which never leave the host."""
    with suppress(OSError):
        return _address(sock.getpeername())
    return "nobody"


def _address(address: object) -> str:
    match address:
        case (str(host), int(port), *_):
            return f"{host}:{port}"
        case _:
            return _name(address)


def _name(path: object) -> str:
    return os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else f"fd {path}"


def _opened(path: object, _mode: object, flags: object) -> str:
    name = _name(path)
    by_name = isinstance(path, str | bytes | os.PathLike) and isinstance(flags, int)
    # Compiled modules are Python's business, and are there from the second run on.
    if not by_name or not int(str(flags)) & _WRITES or name == os.devnull or "__pycache__" in name:
        return ""
    return f"open {name} for writing"


def _one(verb: str) -> Callable[..., str]:
    return lambda path, *_: "" if "__pycache__" in _name(path) else f"{verb} {_name(path)}"


def _two(verb: str) -> Callable[..., str]:
    return lambda a, b, *_: "" if "__pycache__" in _name(b) else f"{verb} {_name(a)} -> {_name(b)}"


def _process(verb: str) -> Callable[..., str]:
    """Name the program and nothing more: arguments may be long, and are the driver's secret to keep."""
    return lambda program, *_: f"{verb} {os.path.basename(_name(program))}"  # noqa: PTH119 - may be bytes


_EVENTS: Mapping[str, Callable[..., str]] = {
    "open": _opened,
    "os.rename": _two("rename"),
    "os.link": _two("link"),
    "os.symlink": _two("symlink"),
    "os.remove": _one("remove"),
    "os.mkdir": _one("mkdir"),
    "os.rmdir": _one("rmdir"),
    "os.truncate": lambda path, length: f"truncate {_name(path)} to {length}",
    "os.chmod": _one("chmod"),
    "os.chown": _one("chown"),
    "os.setxattr": _one("setxattr"),
    "os.removexattr": _one("removexattr"),
    "subprocess.Popen": _process("Popen"),
    "os.posix_spawn": _process("posix_spawn"),
    "os.exec": _process("exec"),
    "os.system": lambda _: "system",
    "os.fork": lambda: "fork",
    "socket.connect": lambda _, address: f"connect {_address(address)}" if _address(address) else "",
    "socket.sendto": lambda _, address: f"sendto {_address(address)}",
    "socket.sendmsg": lambda sock, _: f"sendmsg {_peer(sock)}" if _peer(sock) else "",
}
