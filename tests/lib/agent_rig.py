"""An agent in a thread of this process, whose commands are carried out by a function of the test."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bollard.core.agent import Agent, AgentOptions, TlsFiles, client_context, server_context
from bollard.core.spi import Call
from bollard.simulators.management import ManagementSimulator
from bollard.transfer_objects.commands import Answer, Command, FreezeThawVMCommand

_API = "com.cloud.agent.api."
FREEZE = _API + "FreezeThawVMCommand"
DELETE = "org.apache.cloudstack.storage.command.DeleteCommand"
RESIGNATURE = "org.apache.cloudstack.storage.command.ResignatureCommand"


@dataclass
class Doing:
    """Carries commands out: notes their numbers (`wait`), and holds back those that it is told to."""

    begun: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    held: dict[int, threading.Event] = field(default_factory=dict)
    most: int = 0
    _now: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def hold(self, *numbers: int) -> None:
        """Have these wait until they are let go."""
        self.held.update({number: threading.Event() for number in numbers})

    def let_go(self, *numbers: int) -> None:
        """Let them end."""
        for number in numbers or self.held:
            self.held[number].set()

    def wait_for(self, count: int) -> None:
        """Wait until so many have begun."""
        assert self.comes_to(count, 30), self.begun

    def comes_to(self, count: int, seconds: float) -> bool:
        """Tell whether so many begin in that time."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.begun) >= count, seconds)

    def __call__(self, command: Command, call: Call) -> Answer:
        """As `Dispatcher.execute`; a cancelled one says so."""
        with self._changed:
            self.begun.append(command.wait)
            self._now += 1
            self.most = max(self.most, self._now)
            self._changed.notify_all()
        held = self.held.get(command.wait)
        while held is not None and not held.wait(0.01) and not call.cancelled():
            pass
        with self._changed:
            self._now -= 1
            self.ended.append(command.wait)
        if call.cancelled():
            return Answer(result=False, details="deadline_exceeded (unknown): the call was cancelled")
        details = "thawed" if isinstance(command, FreezeThawVMCommand) else f"did {command.wait}"
        return Answer(result=command.wait != 13, details=details)


def order(number: int) -> dict[str, dict[str, int]]:
    """A command that is told from others by its number; 13 fails."""
    return {RESIGNATURE: {"wait": number}}


def details(answers: list[dict[str, dict[str, str]]]) -> list[str]:
    """The details of answers."""
    return [fields["details"] for one in answers for fields in one.values()]


def tls_of(management: ManagementSimulator) -> TlsFiles:
    """What an agent of a simulated management server proves itself with."""
    files = management.agent_files
    return TlsFiles(certificate=files.certificate, key=files.key, authority=files.authority)


class RunningAgent:
    """An agent whose loop runs in a thread."""

    def __init__(self, execute: Callable[[Command, Call], Answer], **options: object) -> None:
        settings: dict[str, Any] = {"guid": "host-1", "longest_pause": 0.05, "moving": 10.0, "grace": 10.0}
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self.addresses: list[tuple[str, int]] = []
        self._agent: Agent | None = None
        self._execute = execute
        self._options = AgentOptions(**(settings | options))
        self._thread = threading.Thread(target=self._run, name="agent")
        self._where: tuple[Any, ...] = ()

    def start(
        self,
        connect: list[tuple[str, int]],
        listen: list[tuple[str, int]],
        client: ssl.SSLContext | None,
        server: ssl.SSLContext | None,
    ) -> None:
        """Start, and wait until it listens."""
        self._where = (connect, listen, client, server)
        self._thread.start()
        assert self._ready.wait(30)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    async def _serve(self) -> None:
        self._agent = Agent(self._execute, self._options, ready=self._listening)
        await self._agent.run(*self._where)

    def _listening(self, addresses: list[tuple[str, int]]) -> None:
        self.addresses = list(addresses)
        self._ready.set()

    def begin_stop(self) -> None:
        """As SIGTERM does."""
        assert self._agent
        self._loop.call_soon_threadsafe(self._agent.stop)

    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join(60)
        assert not self.alive()


@contextmanager
def running_agent(
    management: ManagementSimulator,
    execute: Callable[[Command, Call], Answer],
    *,
    listen: bool = False,
    **options: object,
) -> Iterator[RunningAgent]:
    """An agent that is connected to a simulated management server, or listens for it."""
    files = tls_of(management)
    agent = RunningAgent(execute, **options)
    connect = [] if listen else [("127.0.0.1", management.port)]
    at = [("127.0.0.1", 0)] if listen else []
    agent.start(connect, at, client_context(files), server_context(files))
    try:
        if listen:
            management.connect(*agent.addresses[0])
        else:
            management.wait_for_agent()
        yield agent
    finally:
        if agent.alive():
            agent.begin_stop()
        agent.join()


@contextmanager
def plain_agent(execute: Callable[[Command, Call], Answer], **options: object) -> Iterator[RunningAgent]:
    """An agent that listens without TLS, for bytes that no TLS library would send."""
    agent = RunningAgent(execute, **options)
    agent.start([], [("127.0.0.1", 0)], None, None)
    try:
        yield agent
    finally:
        agent.begin_stop()
        agent.join()
