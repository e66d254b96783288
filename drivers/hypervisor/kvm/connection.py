"""One host's libvirtd: connected when first needed, and again after a restart.

    caller ── run(call, f) ──> worker thread ── f ──> libvirt (blocks, without a time limit of its own)
       └── waits: answer | deadline | cancel

libvirt's calls cannot be interrupted: one may wait 30 s for a job of another client. So each runs in a
thread that is left behind when the caller's time is over; keepalive ends it if libvirtd hangs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import libvirt

from ....core.spi import Call, DeadlineExceeded, Outcome, Unavailable
from ....transfer_objects.ids import HostId
from .errors import is_lost, translate
from .events import LOOP

T = TypeVar("T")

_LOOK = 0.1  # seconds until a cancelled call is noticed
_GIVEN_UP_AFTER = 3  # keepalive questions without an answer


class HostLink:
    """The connection to one host's libvirtd. Safe for several threads."""

    def __init__(self, host: HostId, uri: str, *, keepalive: int) -> None:
        self.host = host
        self.uri = uri
        self._keepalive = keepalive
        self._lock = threading.Lock()
        self._connection: libvirt.virConnect | None = None
        self._holds_loop = False

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        with self._lock:
            self._drop()
            if self._holds_loop:
                self._holds_loop = False
                LOOP.release()

    def connection(self, call: Call) -> Any:
        """Return a connection that was alive a moment ago.

        Raises:
            Unavailable: libvirtd does not answer (not applied).
        """
        with self._lock:
            if self._connection is not None and self._connection.isAlive():
                return self._connection
            self._drop()
            if not self._holds_loop:
                LOOP.hold()
                self._holds_loop = True
            self._connection = self._open(call)
            return self._connection

    def _open(self, call: Call) -> libvirt.virConnect:
        def connect() -> libvirt.virConnect:
            made = libvirt.open(self.uri)
            made.setKeepAlive(self._keepalive, _GIVEN_UP_AFTER)
            return made

        try:
            return self._bounded(call, connect, f"connecting to host {self.host}", Outcome.NOT_APPLIED)
        except libvirt.libvirtError as error:
            said = f"host {self.host} cannot be reached: {error.get_error_message()}"
            raise Unavailable(said, outcome=Outcome.NOT_APPLIED) from error

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(libvirt.libvirtError):  # it is dead: there is nothing to say good-bye to
                self._connection.close()
            self._connection = None

    def ask(self, call: Call, question: Callable[[Any], T], what: str) -> T:
        """Return the answer to a question; it is asked twice if the connection broke meanwhile.

        Args:
            call: the deadline.
            question: gets the connection; changes nothing.
            what: for messages.
        """
        for again in (True, False):
            connection = self.connection(call)
            try:
                return self._bounded(call, partial(question, connection), what, Outcome.NOT_APPLIED)
            except libvirt.libvirtError as error:
                if not (again and is_lost(error)):
                    raise translate(error, what, Outcome.NOT_APPLIED) from error
        raise AssertionError("unreachable: the second pass returns or raises")

    def act(self, call: Call, deed: Callable[[Any], T], what: str) -> T:
        """Do something, once: what broke off may have been done."""
        connection = self.connection(call)
        try:
            return self._bounded(call, partial(deed, connection), what, Outcome.UNKNOWN)
        except libvirt.libvirtError as error:
            raise translate(error, what) from error

    def _bounded(self, call: Call, function: Callable[[], T], what: str, outcome: Outcome) -> T:
        call.check()
        future: Future[T] = Future()
        threading.Thread(target=_fulfil, args=(future, function), name="libvirt-call", daemon=True).start()
        while True:
            try:
                return future.result(timeout=min(_LOOK, _left(call, what, outcome)))
            except TimeoutError:
                continue


def _left(call: Call, what: str, outcome: Outcome) -> float:
    try:
        return call.remaining()
    except DeadlineExceeded as error:
        raise DeadlineExceeded(f"{what}: {error.message}", outcome=outcome) from error


def _fulfil(future: Future[T], function: Callable[[], T]) -> None:
    try:
        future.set_result(function())
    except BaseException as error:  # noqa: BLE001 - the caller's thread raises it again
        future.set_exception(error)
