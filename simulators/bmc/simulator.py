"""The BMC as one object: a UDP socket and the thread that answers it."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from .chassis import Chassis, Hook
from .commands import Ask, Commands, discover
from .defects import BmcDefects
from .login import Logins, User
from .rmcp import IPMI, OPEN, RAKP1, RAKP3, BadFrame, Frame, parse, plain, request

_LOG = logging.getLogger(__name__)
_LARGEST = 2048  # bytes of a datagram; IPMI's are below 300


class BmcSimulator:
    """A BMC on 127.0.0.1. Start and stop it with ``with``, any number of times; power is kept.

    Args:
        users: by name; a string is an administrator's password.
        hook: called with True or False when the power changes (see :class:`.Chassis`).
        on: the power at the start.
        port: UDP port; 0 takes a free one, and a stopped BMC comes back on the same.
    """

    def __init__(
        self, users: Mapping[str, User | str], *, hook: Hook | None = None, on: bool = True, port: int = 0
    ) -> None:
        self.defects = BmcDefects()
        self.chassis = Chassis(self.defects, hook, on=on)
        accounts = {name: user if isinstance(user, User) else User(user) for name, user in users.items()}
        self._logins = Logins(accounts, self.defects)
        self._commands = Commands(self.chassis, self.defects)
        self._port = port
        self._stopping = threading.Event()
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The UDP port."""
        return self._port

    @property
    def sessions(self) -> int:
        """How many consoles are logged in, or on their way."""
        return len(self._logins.sessions)

    def start(self) -> Self:
        """Listen and answer."""
        if self._thread is not None:
            raise RuntimeError("the BMC simulator runs already")
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", self._port))
        self._port = self._socket.getsockname()[1]
        self._stopping.clear()
        self._thread = threading.Thread(target=self._serve, args=(self._socket,), name="bmc", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """End; sessions are lost, as with a BMC that restarts."""
        if self._thread is None or self._socket is None:
            return
        self._stopping.set()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wake:
            wake.sendto(b"", ("127.0.0.1", self._port))
        self._thread.join()
        self._socket.close()
        self._logins.sessions.clear()
        self._thread = self._socket = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _serve(self, sock: socket.socket) -> None:
        while True:
            datagram, sender = sock.recvfrom(_LARGEST)
            if self._stopping.is_set():
                return
            try:
                answer = None if self.defects.silent else self._answer(datagram)
            except BadFrame as error:
                _LOG.debug("dropped: %s", error)
            except Exception:  # noqa: BLE001 - the edge of a thread: one bad hook must not end the BMC
                _LOG.exception("no answer")
            else:
                if answer is not None:
                    sock.sendto(answer, sender)

    def _answer(self, datagram: bytes) -> bytes | None:
        frame = parse(datagram)
        if frame.kind == OPEN:
            return self._logins.open(frame.payload)
        if frame.kind in (RAKP1, RAKP3) and self.defects.freeze_login:
            return None
        if frame.kind == RAKP1:
            return self._logins.rakp1(frame.payload)
        if frame.kind == RAKP3:
            return self._logins.rakp3(frame.payload)
        if frame.kind == IPMI and frame.session:
            return self._in_session(frame, datagram)
        return self._before_session(frame)

    def _before_session(self, frame: Frame) -> bytes | None:
        answer = discover(request(frame.payload))
        return None if answer is None else plain(answer)

    def _in_session(self, frame: Frame, datagram: bytes) -> bytes | None:
        session = self._logins.sessions.get(frame.session)
        if session is None or session.seal is None:
            raise BadFrame("no such session")
        message = request(session.seal.open(datagram))
        self._stopping.wait(self.defects.slow)
        if self.defects.freeze_session and message.asks != Ask.PRIVILEGE:
            return None
        answer = self._commands.answer(session, message)
        if message.asks == Ask.CLOSE:
            del self._logins.sessions[session.number]
        return None if answer is None else session.seal.close(answer)
