"""The TCP proxy: two streams of bytes per connection, and the places where they break."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import ClassVar

from .base import Proxy
from .fault import FaultKind
from .http_reply import drip, garble
from .links import Link, dial
from .plan import Strike

_OF_STREAMS = frozenset(
    {FaultKind.RESET, FaultKind.TRUNCATE, FaultKind.GARBLE, FaultKind.DELAY, FaultKind.DRIP}
)


class TcpProxy(Proxy):
    """In front of anything that speaks TCP. An exchange is a connection: ``connect HOST:PORT``.

    A fault strikes the stream to the client, or with ``of_request`` the one from it. There is no
    ``duplicate``: a stream has no messages, so what is sent twice is no repeated request but noise.

    Args:
        host: of the backend.
        port: of the backend.
        listen: TCP port of the proxy; 0 takes a free one.
        wait: see :class:`.base.Proxy`.
    """

    offers: ClassVar[frozenset[FaultKind]] = _OF_STREAMS | {FaultKind.BLACK_HOLE, FaultKind.REFUSE}

    def __init__(
        self, host: str, port: int, *, listen: int = 0, wait: Callable[[float], None] | None = None
    ) -> None:
        super().__init__(listen, wait)
        self._address = (host, port)

    @property
    def url(self) -> str:
        """``tcp://127.0.0.1:PORT``."""
        return f"tcp://127.0.0.1:{self.port}"

    def _why_not(self, kind: FaultKind) -> str:
        if kind is FaultKind.DUPLICATE:
            return "a stream has no messages that could come twice"
        return super()._why_not(kind)

    def _serve(self, client: Link) -> None:
        plan = self.current
        if plan.connected() is not None:
            client.reset()
            return
        strike = plan.received("connect", "{}:{}".format(*self._address))
        if strike.kind is FaultKind.BLACK_HOLE:
            strike.hit()
            while client.receive():
                pass  # until the client loses its patience
            return
        try:
            backend = self.door.adopt(dial(*self._address))
        except OSError:
            client.reset()
            raise
        try:
            self._join(client, backend, strike)
        finally:
            self.door.drop(backend)

    def _join(self, client: Link, backend: Link, strike: Strike) -> None:
        pair = _Pair(client, backend, self.wait)
        of_request = strike.fault is not None and strike.fault.of_request
        up = threading.Thread(
            target=pair.run, args=(client, backend, strike if of_request else None), daemon=True
        )
        up.start()
        pair.run(backend, client, None if of_request else strike)
        up.join()
        if pair.broken:
            client.reset()
            backend.reset()


class _Pair:
    """A connection on both sides of the proxy, with one thread per direction.

    Only the serving thread may close or reset a link, when the other is gone: a descriptor that is closed
    under a poll() can be another connection's a moment later.
    """

    def __init__(self, client: Link, backend: Link, wait: Callable[[float], None]) -> None:
        self._links = (client, backend)
        self._wait = wait
        self._over = threading.Event()
        self.broken = False

    def run(self, source: Link, target: Link, strike: Strike | None) -> None:
        """One direction, to the end of its stream; what breaks it ends the other one, too."""
        passed = 0
        try:
            while data := source.receive():
                if not self._pass_on(data, passed, target, strike):
                    return
                passed += len(data)
        except OSError:
            self._end(broken=True)
            return
        if not self._over.is_set():
            target.finish_sending()

    def _end(self, *, broken: bool) -> None:
        self.broken = self.broken or broken
        self._over.set()
        for link in self._links:
            link.stop_reading()

    def _pass_on(self, data: bytes, passed: int, target: Link, strike: Strike | None) -> bool:
        """False when the fault ended the connection."""
        fault = None if strike is None else strike.fault
        if strike is None or fault is None or fault.kind not in _OF_STREAMS:
            target.send(data)
            return True
        if fault.kind in {FaultKind.RESET, FaultKind.TRUNCATE}:
            return self._cut(data, fault.at - passed, target, strike)
        if fault.kind is FaultKind.GARBLE:
            data = _inverted_at(data, fault.at - passed, strike)
        elif passed == 0:
            strike.hit()
        if fault.kind is FaultKind.DELAY and passed == 0:
            self._wait(fault.seconds)
        if fault.kind is FaultKind.DRIP:
            drip(target.send, data, fault.bytes_per_second, self._wait)
        else:
            target.send(data)
        return True

    def _cut(self, data: bytes, at: int, target: Link, strike: Strike) -> bool:
        target.send(data[:at])
        if at > len(data):
            return True
        strike.hit()
        self._end(broken=strike.kind is FaultKind.RESET)
        return False


def _inverted_at(data: bytes, at: int, strike: Strike) -> bytes:
    if not 0 <= at < len(data):
        return data
    strike.hit()
    return data[:at] + garble(data[at : at + 1]) + data[at + 1 :]
