"""HTTP/1.1 as uvicorn speaks it, which waits for ever for a request that does not come; here that has an end.

    connection ─> head ─> body ─> answer ─> (keep-alive) ─> head …
    └─ PATIENCE for both ─┘        └ as long as it takes

A connection costs a stranger nothing, so that a time alone would not do: when there are too many, the one
that waited longest with no request under way makes room for the next. Who is being answered is left alone.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from .door import Door

PATIENCE = 30.0
"""Seconds for a request, with its body, to be here: 4 MiB at 140 KiB/s."""


class PatientProtocol(H11Protocol):
    """One connection.

    Attributes:
        patience: seconds for a whole request.
        since: the loop's time from which on there is no request.
        door: where it came in.
    """

    door: Door | None = None

    patience = PATIENCE
    _timer: asyncio.TimerHandle | None = None
    since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin to wait; somebody who waits in vain makes room."""
        super().connection_made(transport)
        if self.door is not None:
            self.door.knows(transport.get_extra_info("socket").fileno())
        self.since = self.loop.time()
        self._watch()
        self._make_room()

    def data_received(self, data: bytes) -> None:
        """Take what has come; a request that is whole has all the time that it takes."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request; a body whose rest is still to come has no more time than it had."""
        super().on_response_complete()
        self.since = self.loop.time()
        if self.conn.their_state is h11.SEND_BODY:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_watching()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._stop_watching()
        elif self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(self.patience, self.give_up)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def give_up(self) -> None:
        """Hang up: there is nobody who would read an answer."""
        self.connections.discard(self)
        self.transport.abort()

    def _make_room(self) -> None:
        if self.limit_concurrency is None or len(self.connections) < self.limit_concurrency:
            return
        waiting = [one for one in self.connections if isinstance(one, PatientProtocol) and one.waits()]
        if waiting:  # else all are being answered; uvicorn says 503
            min(waiting, key=lambda one: one.since).give_up()

    def waits(self) -> bool:
        """Tell whether no request is being answered."""
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn says it is never None
        return cycle is None or cycle.response_complete
