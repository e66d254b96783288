"""TCP and TLS connections that another thread can end, and the port that accepts them."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import select
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Callable

log = logging.getLogger("bollard.simulators.faults")

PIECE = 256 * 1024
"""Bytes moved per step."""

_PATIENCE_S = 300.0  # a peer that neither reads nor writes for so long is gone
_FLUSH_S = 2.0
_TCP_CLOSE = 7  # of the kernel's states, the first byte of TCP_INFO


class LinkClosed(ConnectionError):
    """The peer, or the end of the proxy, closed the connection."""


class Link:
    """One end of a connection. One thread uses it; :meth:`abort` may come from any other.

    Args:
        sock: connected; owned from now on.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(_PATIENCE_S)
        self.sock = sock
        self._handle = (
            sock.dup()
        )  # wrap_socket() takes the first descriptor away; abort() needs one that stays
        self._lock = threading.Lock()
        self._closed = False

    def secure(self, context: ssl.SSLContext, server_name: str | None = None) -> None:
        """Shake hands as a server, or as a client of ``server_name``."""
        self.sock = context.wrap_socket(
            self.sock,
            server_side=server_name is None,
            server_hostname=server_name,
            do_handshake_on_connect=False,
        )
        self.sock.do_handshake()

    def said_something(self) -> bool:
        """Waits for the first byte, and leaves it there; False when the peer hangs up instead."""
        return bool(self.sock.recv(1, socket.MSG_PEEK))

    def receive_now(self) -> bytes | None:
        """What is there; None if that is nothing yet, b"" at the end.

        A TLS socket can be readable without data (session tickets), so it is asked, not only polled.
        """
        self.sock.settimeout(0)
        try:
            return self.sock.recv(PIECE)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        finally:
            self.sock.settimeout(_PATIENCE_S)

    def receive(self) -> bytes:
        """Waits for data; b"" at the end."""
        while (data := self.receive_now()) is None:
            wait_readable(self)
        return data

    def send(self, data: bytes) -> None:
        """All of it."""
        self.sock.sendall(data)

    def finish_sending(self) -> None:
        """FIN in this direction; the other one stays open."""
        with contextlib.suppress(OSError):
            self._handle.shutdown(socket.SHUT_WR)

    def stop_reading(self) -> None:
        """Wakes the thread that reads, and tells the peer nothing."""
        with contextlib.suppress(OSError):
            self._handle.shutdown(socket.SHUT_RD)

    def pending(self) -> bool:
        """Whether decrypted bytes wait where poll() cannot see them."""
        return isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0

    def close(self) -> None:
        """The normal end. Closing twice is fine."""
        with self._lock:
            self._closed = True
            self.sock.close()
            self._handle.close()

    def reset(self) -> None:
        """RST instead of FIN, once the peer's kernel has what was sent."""
        until = time.monotonic() + _FLUSH_S
        while self._unsent() and time.monotonic() < until:
            time.sleep(0.001)  # the kernel tells nobody when its queue is empty
        self.reset_on_close()
        self.close()

    def reset_on_close(self) -> None:
        """The end, whenever it comes, is RST instead of FIN."""
        with contextlib.suppress(OSError):
            self._handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def release(self) -> socket.socket:
        """The socket, which is the caller's from now on."""
        self._handle.close()
        return self.sock

    def _unsent(self) -> int:
        try:
            if self._handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE:
                return 0  # the peer reset it: what was queued stays queued forever
            return int(struct.unpack("i", fcntl.ioctl(self._handle, termios.TIOCOUTQ, b"\0\0\0\0"))[0])
        except OSError:
            return 0

    def abort(self) -> None:
        """Wakes the thread that uses this link: reads end, writes fail."""
        with self._lock, contextlib.suppress(OSError):
            if not self._closed:
                self._handle.shutdown(socket.SHUT_RDWR)


def wait_readable(*links: Link) -> None:
    """Returns when one of them has something to read.

    Raises:
        LinkClosed: when nothing came for five minutes.
    """
    if any(link.pending() for link in links):
        return
    poll = select.poll()
    for link in links:
        poll.register(link.sock, select.POLLIN)
    if not poll.poll(_PATIENCE_S * 1000):
        raise LinkClosed("the peer is silent")


def dial(host: str, port: int) -> Link:
    """A connection to the backend.

    Raises:
        OSError: when it does not answer.
    """
    return Link(socket.create_connection((host, port), timeout=10))


class Door:
    """A port on 127.0.0.1: one thread per connection, and an end that leaves none behind.

    Args:
        port: TCP port; 0 takes a free one.
        serve: called in a thread of its own with each accepted connection, which it need not close.
    """

    def __init__(self, port: int, serve: Callable[[Link], None]) -> None:
        self._serve = serve
        self._lock = threading.Lock()
        self._open: dict[Link, threading.Thread | None] = {}
        self._stopping = threading.Event()
        # Holds the port without listening, so that nobody takes it while connections are refused.
        self._holder = _bound(port)
        self.port: int = self._holder.getsockname()[1]
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None

    def listen(self) -> None:
        """Accept connections in a thread."""
        listener = self._listener = _bound(self.port)
        listener.listen(128)
        self._acceptor = threading.Thread(target=self._accept, args=(listener,), daemon=True)
        self._acceptor.start()

    def shut(self) -> None:
        """Whoever connects now gets ECONNREFUSED; connections that are there stay."""
        if self._listener is not None and self._acceptor is not None:
            self._listener.shutdown(socket.SHUT_RDWR)  # close() alone would not wake accept()
            self._acceptor.join()
            self._listener.close()
            self._listener = None

    def stop(self) -> None:
        """Ends all connections and waits for their threads."""
        self.shut()
        self._stopping.set()
        with self._lock:
            left = list(self._open.items())
        for link, _ in left:
            link.abort()
        for _, thread in left:
            if thread is not None:
                thread.join()
        self._holder.close()

    def wait(self, seconds: float) -> None:
        """Sleeps, but not beyond the end of the proxy."""
        self._stopping.wait(seconds)

    def adopt(self, link: Link) -> Link:
        """The end of the proxy ends this link, too; until :meth:`drop`."""
        with self._lock:
            self._open.setdefault(link, None)
        if self._stopping.is_set():
            link.abort()
        return link

    def drop(self, link: Link) -> None:
        """Close the link and forget it."""
        link.close()
        with self._lock:
            self._open.pop(link, None)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            link = Link(sock)
            thread = threading.Thread(target=self._run, args=(link,), daemon=True)
            with self._lock:
                self._open[link] = thread
            thread.start()

    def _run(self, link: Link) -> None:
        try:
            self._serve(link)
        except (OSError, EOFError) as error:
            log.debug("connection ended: %s", error)
        except Exception:  # process edge: one broken connection must not stop the proxy
            log.exception("connection failed")
        finally:
            self.drop(link)


def _bound(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    return sock
