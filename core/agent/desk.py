"""Executes the commands of a request, in order; so many requests at a time, for all connections together.

    payload ── object by object ──> Dispatcher (a thread) ──> answer
               unknown class, bad field ────────────────────> answer: unsupported, invalid

Freezing and thawing has threads of its own: a thaw must not wait behind eight copies.

A text of 4 MiB takes two seconds to read, and 200 MiB as objects: large ones are read in a thread, and only
two such requests are in hand at a time.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ...transfer_objects.cloudstack import Payload
from ...transfer_objects.cloudstack.payload import Form
from ...transfer_objects.commands import Answer, Command, FreezeThawVMCommand, UnsupportedAnswer
from ...transfer_objects.errors import DecodeError
from ..commands.dispatcher import answer_class
from ..commands.telling import failure_text
from ..spi import Busy, Call, Internal, InvalidArgument

_log = logging.getLogger("bollard.agent")
_URGENT_THREADS = 2
LARGE = 64 * 1024
"""Bytes of a body that takes longer than some milliseconds."""
_LARGE_AT_ONCE = 2

Execute = Callable[[Command, Call], Answer]
"""Carries a command out and never raises: `Dispatcher.execute`."""


class Desk:
    """Where requests are worked on.

    Args:
        threads: requests that are worked on at a time.
        waiting: requests that may wait beside them; further ones are refused as busy.
        waiting_bytes: what their bodies may hold together.
    """

    def __init__(self, execute: Execute, *, threads: int, waiting: int, waiting_bytes: int) -> None:
        self._execute = execute
        self._room = threads + waiting
        self._bytes = waiting_bytes
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="bollard-command")
        self._urgent = ThreadPoolExecutor(_URGENT_THREADS, thread_name_prefix="bollard-freeze")
        self._readers = ThreadPoolExecutor(_LARGE_AT_ONCE, thread_name_prefix="bollard-reading")
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._cancel = threading.Event()
        self._stopping = False

    def enter(self, size: int) -> None:
        """Take a place for a request of so many bytes; `leave` gives it back.

        Raises:
            Busy: there is none, or the agent is about to stop. Nothing was done.
        """
        if self._stopping:
            raise Busy("this agent is stopping")
        if self._room < 1 or self._bytes < size:
            raise Busy("this agent has as many commands as it can hold")
        self._room -= 1
        self._bytes -= size

    def leave(self, size: int) -> None:
        """Give a place back."""
        self._room += 1
        self._bytes += size

    async def answer(self, body: bytes, *, stop_on_error: bool) -> bytes:
        """Execute what a body holds, one after the other, and return the body of the response."""
        if len(body) < LARGE:
            read = _read(body)
            return _encoded(await self._all(read, stop_on_error=stop_on_error))
        loop = asyncio.get_running_loop()
        async with self._large:
            read = await loop.run_in_executor(self._readers, _read, body)
            answers = await self._all(read, stop_on_error=stop_on_error)
            return await loop.run_in_executor(self._readers, _encoded, answers)

    async def _all(self, read: list[Command | Answer], *, stop_on_error: bool) -> list[Answer]:
        answers: list[Answer] = []
        for one in read:
            if stop_on_error and answers and not answers[-1].result:
                answers.append(Answer(result=False, details="not begun: the command before it failed"))
            else:
                answers.append(one if isinstance(one, Answer) else await self._one(one))
        return answers

    async def _one(self, command: Command) -> Answer:
        pool = self._urgent if isinstance(command, FreezeThawVMCommand) else self._pool
        call = Call(cancel=self._cancel)
        _log.info("[%s] %s", call.request_id, type(command).__name__)
        answer = await asyncio.get_running_loop().run_in_executor(pool, self._execute, command, call)
        _log.info("[%s] %s", call.request_id, "done" if answer.result else f"failed: {answer.details}")
        return answer

    def refuse_new(self) -> None:
        """Take no further requests; those that are here go on."""
        self._stopping = True

    def cancel(self) -> None:
        """Have what runs end soon, with an answer that says so."""
        self._cancel.set()

    def close(self) -> None:
        """Wait for the threads."""
        self._pool.shutdown()
        self._urgent.shutdown()
        self._readers.shutdown()


def refusal(reason: str, command: str = "") -> Answer:
    """Return the answer to what is no command, or breaks the rules of the command that it is to be."""
    return answer_class(command)(result=False, details=failure_text(InvalidArgument(reason)))


def busy(error: Busy) -> bytes:
    """Return the response to a request for which there is no place."""
    return _encoded([Answer(result=False, details=failure_text(error))])


def broken() -> bytes:
    """Return the response to a request that a bug has ended: what it did is not known."""
    return _encoded([Answer(result=False, details=failure_text(Internal("a bug: see the agent's log")))])


def refused(reason: str) -> bytes:
    """Return the response to a request that cannot be read."""
    return _encoded([refusal(reason)])


def _read(body: bytes) -> list[Command | Answer]:
    """Return the commands of a body, and the answers to what is none; one refusal if nothing can be read."""
    try:
        payload = Payload.from_wire(body)
    except DecodeError as error:
        return [refusal(str(error))]
    if payload.form is not Form.ARRAY:
        return [refusal("a request must be a list of commands")]
    return [_command(tree) for tree in payload.trees]


def _command(tree: dict[str, Any]) -> Command | Answer:
    """Return the command that an object of a payload is, or the answer to what is none."""
    if tree.get("type") == "WireObject":
        return UnsupportedAnswer(
            result=False,
            details=f"Unsupported command issued: {tree.get('class')}."
            "  Are you sure you got the right type of server?",
        )
    try:
        [found] = Payload(Form.ARRAY, (tree,)).objects()
    except DecodeError as error:
        return refusal(str(error), str(tree.get("type")))
    if not isinstance(found, Command) or isinstance(found, Answer):
        return refusal(f"{type(found).__name__} is no command")
    return found


def _encoded(answers: list[Answer]) -> bytes:
    return Payload.of(*answers).wire().encode()
