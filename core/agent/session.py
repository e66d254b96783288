"""One connection: requests come in, are worked on in the order that they ask for, and are answered.

    request ── control? ──> answered at once
       │ no
       ├── the same again (number and bytes)? ──> the answer that it had; none, if that is still to come
       ├── no place at the desk? ──> busy
       ├── IN_SEQUENCE ──> after those before it that ask for that, on this connection
       └── else ──> at once, beside the others

When the connection breaks, what was begun goes on to its end: an orchestrator asks again, and every command
may be repeated.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import replace

from ...transfer_objects.cloudstack.frame import Flags, Frame
from ..spi import Busy
from . import control
from .channel import Channel, ChannelClosed, Damaged
from .desk import LARGE, Desk, broken, busy, refused

_log = logging.getLogger("bollard.agent")

# Answers that are kept in case that a request comes twice: copies of a network's retry come within seconds.
_KEPT_ANSWERS = 64
_KEPT_BYTES = 256 * 1024


class Session:
    """One connection of an agent."""

    def __init__(self, channel: Channel, desk: Desk) -> None:
        self._channel = channel
        self._desk = desk
        self._lane = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._seen: dict[tuple[int, bytes], bytes | None] = {}
        self._asked: dict[int, asyncio.Future[Frame]] = {}
        self._number = 0
        self.agent_id = 0
        self.taken = False

    async def serve(self) -> None:
        """Answer until the connection ends; what was begun is waited for.

        Raises:
            ChannelClosed: why it ended.
        """
        try:
            while True:
                await self._channel.taken()  # who takes no answers asks no more: they would pile up here
                await self._take(await self._channel.receive())
        finally:
            for question in self._asked.values():
                if not question.done():
                    question.set_exception(ChannelClosed("the connection ended before the answer"))

    async def finish(self) -> None:
        """Wait until what was begun has been answered."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Close the connection; `serve` ends by that."""
        await self._channel.close()

    async def _take(self, frame: Frame | Damaged) -> None:
        if isinstance(frame, Damaged):
            if Flags.REQUEST in frame.header.flags:
                await self._respond(frame.header, refused(frame.reason))
            return
        if Flags.REQUEST not in frame.flags:
            self._answered(frame)
        elif len(frame.body) < LARGE and (told := control.answers(frame.body)) is not None:
            await self._respond(frame, told)
        else:
            await self._begin(frame)

    async def _begin(self, frame: Frame) -> None:
        """Start to work on a request in a task of its own; it has its place before the next frame is read.

        Whatever is answered here is sent before more is read: who takes no answers cannot pile them up.
        """
        key = (frame.sequence, hashlib.sha256(frame.body).digest())
        if key in self._seen:
            _log.info("request %d came again", frame.sequence)
            if (known := self._seen[key]) is not None:  # else it is under way, and will be answered
                await self._respond(frame, known)
            return
        try:
            self._desk.enter(len(frame.body))
        except Busy as error:
            await self._respond(frame, busy(error))
            return
        self._seen[key] = None
        running = asyncio.create_task(self._work(frame, key))
        self._tasks.add(running)
        running.add_done_callback(self._tasks.discard)

    async def _work(self, frame: Frame, key: tuple[int, bytes]) -> None:
        try:
            self._seen[key] = body = await self._answer(frame)
        except Exception as error:  # noqa: BLE001 - the edge: who gets no answer at all waits for hours
            _log.error("request %d failed by a bug: %s", frame.sequence, type(error).__name__)
            self._seen[key] = body = broken()
        finally:
            self._desk.leave(len(frame.body))
        self._forget_old()
        await self._respond(frame, body)

    async def _answer(self, frame: Frame) -> bytes:
        stop = Flags.STOP_ON_ERROR in frame.flags
        if Flags.IN_SEQUENCE not in frame.flags:
            return await self._desk.answer(frame.body, stop_on_error=stop)
        async with self._lane:  # first come, first served
            return await self._desk.answer(frame.body, stop_on_error=stop)

    def _forget_old(self) -> None:
        """Keep the answers of the last requests, so many and of so many bytes."""
        ended = [(key, len(answer)) for key, answer in self._seen.items() if answer is not None]
        kept = sum(size for _, size in ended)
        for count, (key, size) in zip(range(len(ended), 0, -1), ended, strict=True):
            if count <= _KEPT_ANSWERS and kept <= _KEPT_BYTES:
                return
            del self._seen[key]
            kept -= size

    async def _respond(self, request: Frame, body: bytes) -> None:
        """Send a response; a connection that has gone takes nobody's work with it."""
        flags = Flags(int(request.flags) & int(Flags.CONTROL | Flags.IN_SEQUENCE))
        try:
            await self._channel.send(replace(request, body=body, flags=flags))
        except ChannelClosed as error:
            _log.warning("the answer to request %d was lost: %s", request.sequence, error)

    # -- our own requests -----------------------------------------------------------------------------

    async def ask(self, body: bytes, seconds: float) -> Frame:
        """Send a request of ours, and return its response.

        Raises:
            ChannelClosed: there was none in so many seconds.
        """
        self._number += 1
        number = self._number
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            await self._channel.send(control.request(number, body, self.agent_id))
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise ChannelClosed("the orchestrator does not answer") from None
        finally:
            del self._asked[number]

    async def tell(self, body: bytes) -> None:
        """Send a request of ours whose response is not waited for."""
        self._number += 1
        await self._channel.send(control.request(self._number, body, self.agent_id))

    def _answered(self, response: Frame) -> None:
        """Take a response; one that nobody waits for is thrown away."""
        asked = self._asked.get(response.sequence)
        if asked is not None and not asked.done():
            asked.set_result(response)
        else:
            _log.info("a response to %d, which nobody asked, was thrown away", response.sequence)
