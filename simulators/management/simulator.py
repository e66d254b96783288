"""The management server as an object: a loop in a thread, and calls that wait.

with ManagementSimulator(state) as management:
    start an agent with --connect 127.0.0.1:PORT and the files of management.agent_files
    management.wait_for_agent()
    answers = management.ask([{"org.apache.cloudstack.storage.command.DeleteCommand": {...}}])
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from . import frames
from .certificates import PemFiles, certificates, files
from .defects import ManagementDefects
from .link import Answers, Disconnected, Link

__all__ = ["Disconnected", "ManagementSimulator"]

T = TypeVar("T")


class ManagementSimulator:
    """A management server on 127.0.0.1 with an authority of its own.

    Args:
        state: directory of the certificates.
        port: 0 takes a free one.
        ping_interval: seconds, as agents are told.
        expired: with a certificate that was valid until yesterday.
    """

    def __init__(
        self, state: Path | str, *, port: int = 0, ping_interval: int = 60, expired: bool = False
    ) -> None:
        self._directory = Path(state).absolute() / "certificates"
        self._expired = expired
        self._ping_interval = ping_interval
        self.port = port
        self.defects = ManagementDefects()
        self.seen: list[tuple[str, Any]] = []
        self._changed = threading.Condition()
        self._links: list[Link] = []
        self._sequence = 0
        self._agents = 0
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def agent_files(self) -> PemFiles:
        """What an agent proves itself with."""
        return files(self._directory, "agent")

    def __enter__(self) -> Self:
        certificates(self._directory)
        self._thread = threading.Thread(target=self._loop.run_forever, name="management")
        self._thread.start()
        try:
            self._run(self._listen(), 30)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._close(), 30)
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not None:
            self._thread.join()
        self._loop.close()

    # -- what tests and people call -------------------------------------------------------------------

    def ask(
        self,
        commands: Sequence[Mapping[str, Any]],
        *,
        in_sequence: bool = False,
        stop_on_error: bool = False,
        timeout_s: float = 60.0,
    ) -> Answers:
        """Sends commands to the agent that came last, and waits for their answers.

        Raises:
            Disconnected: the connection ended before.
            TimeoutError: no answer in time.
        """
        asked = self.begin(commands, in_sequence=in_sequence, stop_on_error=stop_on_error)
        return asked.result(timeout_s)

    def begin(
        self, commands: Sequence[Mapping[str, Any]], *, in_sequence: bool = False, stop_on_error: bool = False
    ) -> Future[Answers]:
        """As `ask`, without waiting."""
        flags = frames.REQUEST | frames.FROM_SERVER
        flags |= frames.IN_SEQUENCE if in_sequence else 0
        flags |= frames.STOP_ON_ERROR if stop_on_error else 0
        return self.begin_body(json.dumps(list(commands)).encode(), flags)

    def begin_body(self, body: bytes, flags: int = frames.REQUEST | frames.FROM_SERVER) -> Future[Answers]:
        """Sends any bytes as the body of a request."""
        return asyncio.run_coroutine_threadsafe(self._ask(body, flags), self._loop)

    def wait_for_agent(self, timeout_s: float = 30.0) -> None:
        """Waits until an agent is connected and has introduced itself."""
        self.wait_for("startup", timeout_s)

    def wait_for(self, what: str, timeout_s: float = 30.0, times: int = 1) -> None:
        """Waits until something has been seen so often.

        Raises:
            TimeoutError: it has not.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.count(what) >= times, timeout_s):
                raise TimeoutError(f"{what} was seen {self.count(what)} times, not {times}: {self.seen}")

    def count(self, what: str) -> int:
        """How often something has been seen: startup, ping, shutdown, stray, bad frame, end."""
        return sum(1 for kind, _ in self.seen if kind == what)

    def connect(self, host: str, port: int) -> None:
        """Connects to an agent that listens."""
        self._run(self._connect(host, port), 30)

    def hang_up(self) -> None:
        """Closes all connections; agents come again."""
        self._run(self._hang_up(), 30)

    # -- in the loop ----------------------------------------------------------------------------------

    def _run(self, what: Coroutine[Any, Any, T], timeout_s: float) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(timeout_s)

    async def _listen(self) -> None:
        own = files(self._directory, "expired" if self._expired else "server")
        context = _context(ssl.PROTOCOL_TLS_SERVER, own)
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._agents += 1
        link = Link(reader, writer, self.defects, self._see, self._agents, self._ping_interval)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs has a task
        self._serving.add(task)
        self._links.append(link)
        try:
            await link.serve()
        finally:
            self._links.remove(link)
            self._serving.discard(task)
            self._see("end", link.agent)

    async def _connect(self, host: str, port: int) -> None:
        context = _context(ssl.PROTOCOL_TLS_CLIENT, files(self._directory, "server"))
        reader, writer = await asyncio.open_connection(host, port, ssl=context)
        task = asyncio.ensure_future(self._accept(reader, writer))
        self._serving.add(task)

    async def _ask(self, body: bytes, flags: int) -> Answers:
        if not self._links:
            raise Disconnected("no agent is connected")
        self._sequence += 1
        return await self._links[-1].ask(self._sequence, body, flags)

    async def _hang_up(self) -> None:
        for link in list(self._links):
            link.close()

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._hang_up()
        if self._serving:
            await asyncio.wait(self._serving)
        await asyncio.sleep(0)  # transports that were closed just now end in the next turn

    def _see(self, what: str, about: Any) -> None:
        with self._changed:
            self.seen.append((what, about))
            self._changed.notify_all()


def _context(side: Any, own: PemFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(own.certificate, own.key)
    context.load_verify_locations(own.authority)
    return context
