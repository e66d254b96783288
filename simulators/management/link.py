"""One connection to an agent: who it is, what it was asked, what it answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from . import frames
from .defects import ManagementDefects

_API = "com.cloud.agent.api."
_MANAGEMENT = 0x7F0000010001
Answers = list[dict[str, Any]]


class Disconnected(Exception):
    """The connection ended before the answer came: what became of the command nobody knows."""


class Link:
    """A connection; all of it runs in the simulator's loop.

    Args:
        told: called with each thing that is seen: "startup", "ping", "shutdown", "stray", "bad frame".
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        defects: ManagementDefects,
        told: Callable[[str, Any], None],
        agent: int,
        ping_interval: int,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._defects = defects
        self._told = told
        self._waiting: dict[int, asyncio.Future[Answers]] = {}
        self._held: bytes | None = None
        self.agent = agent
        self._ping_interval = ping_interval

    async def serve(self) -> None:
        """Takes what comes until the connection ends; whoever waits for an answer is told."""
        try:
            while True:
                length = frames.length_of(await self._reader.readexactly(4))
                await self._take(frames.unpacked(await self._reader.readexactly(length)))
        except (asyncio.IncompleteReadError, OSError):
            pass
        except frames.BadFrame as error:
            self._told("bad frame", str(error))
        finally:
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(Disconnected("the agent's connection ended"))
            self._writer.close()

    async def _take(self, frame: frames.Received) -> None:
        body = json.loads(frame.body)
        if frame.flags & frames.REQUEST:
            await self._requested(frame, body)
            return
        waiting = self._waiting.get(frame.sequence)
        if waiting is None or waiting.done():
            self._told("stray", frame.sequence)
        else:
            waiting.set_result(body)

    async def _requested(self, frame: frames.Received, body: Answers) -> None:
        [(name, fields)] = body[0].items()
        kind = name.removeprefix(_API)
        if kind == "StartupCommand":
            self._told("startup", fields)
            if self._defects.refuses:
                await self._respond(frame, "StartupAnswer", result=False, details="not you")
            else:
                numbers = {"hostId": self.agent, "pingInterval": self._ping_interval}
                await self._respond(frame, "StartupAnswer", result=True, **numbers)
        elif kind == "PingCommand":
            self._told("ping", fields)
            if not self._defects.no_ping_answers:
                await self._respond(frame, "PingAnswer", result=True)
        else:
            self._told("shutdown" if kind == "ShutdownCommand" else "request", kind)

    async def _respond(self, request: frames.Received, name: str, **fields: Any) -> None:
        body = json.dumps([{_API + name: fields}]).encode()
        await self._write(
            frames.packed(
                body,
                flags=frames.FROM_SERVER | frames.CONTROL,
                sequence=request.sequence,
                management=_MANAGEMENT,
                agent=self.agent,
            )
        )

    async def ask(self, sequence: int, body: bytes, flags: int) -> Answers:
        """Sends a request, with whatever defect strikes it, and waits for the answers."""
        answer: asyncio.Future[Answers] = asyncio.get_running_loop().create_future()
        self._waiting[sequence] = answer
        try:
            await self._send(sequence, body, flags)
            return await answer
        finally:
            del self._waiting[sequence]

    async def _send(self, sequence: int, body: bytes, flags: int) -> None:
        if self._defects.take("odd_flags"):
            flags |= 0x8500
        sending = self._frame(sequence, body, flags)
        if self._defects.take("stray_response"):
            await self._write(self._frame(sequence + 10**6, b"[]", 0))
        if self._defects.take("bomb"):
            await self._write(frames.bomb(sequence + 10**6))
        if self._defects.take("half_frame"):
            await self._write(sending[: len(sending) // 2])
            self._writer.transport.abort()
        elif self._defects.take("flood"):
            await self._write(frames.flood())
        elif self._defects.take("bad_version"):
            await self._write(self._frame(sequence, body, flags, version=1))
        elif self._defects.take("late"):
            self._held = sending
        else:
            await self._deliver(sending)

    async def _deliver(self, sending: bytes) -> None:
        twice = self._defects.take("twice")
        held, self._held = self._held, None
        await self._write(sending * (2 if twice else 1) + (held or b""))
        if self._defects.take("cut"):
            self._writer.close()

    def _frame(self, sequence: int, body: bytes, flags: int, version: int = frames.VERSION_3) -> bytes:
        return frames.packed(
            body, flags=flags, sequence=sequence, management=_MANAGEMENT, agent=self.agent, version=version
        )

    async def _write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise Disconnected(f"the connection broke: {error}") from error

    def close(self) -> None:
        """Closes the connection."""
        self._writer.close()
