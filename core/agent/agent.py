"""The agent: connects to orchestrators, again when it must, or lets them connect; stops in order.

run ──> connect ── startup ── serve, ping ──┐  lost: wait (random, doubling), connect again
    └─> listen ─── serve each connection ───┤
                                            └─ stop: refuse new requests ─> finish ─> cancel ─> close
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import tenacity

from . import control
from .channel import Channel, ChannelClosed
from .desk import Desk, Execute
from .door import Door, listeners
from .session import Session

_log = logging.getLogger("bollard.agent")

Address = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """How an agent behaves; times in seconds.

    Attributes:
        guid: names this agent; it stays the same when it is started again.
        threads: requests at a time; `waiting` beside them, of `waiting_bytes` together.
        ping_interval: between our pings, where the orchestrator does not say.
        idle: silence after which a peer is taken for dead; more than the interval of its pings.
        moving: for a frame that has begun, and for the handshake.
        longest_pause: between two attempts to connect.
        grace: that commands get to end when the agent is to stop; then they are cancelled.
    """

    guid: str
    version: str = ""
    threads: int = 8
    waiting: int = 64
    waiting_bytes: int = 16 * 2**20
    ping_interval: float = 60.0
    idle: float = 300.0
    moving: float = 60.0
    longest_pause: float = 60.0
    grace: float = 30.0
    connections: int = 16


@dataclass(slots=True)
class _State:
    sessions: set[Session] = field(default_factory=set)
    serving: set[asyncio.Task[None]] = field(default_factory=set)


class Agent:
    """Serves until it is stopped; one event loop, commands in threads.

    Args:
        execute: carries a command out.
        ready: called with the addresses that are listened at, when all are.
        connected: called when an orchestrator has taken us, or has connected; it must not wait.
    """

    def __init__(
        self,
        execute: Execute,
        options: AgentOptions,
        *,
        ready: Callable[[list[Address]], None] = lambda _: None,
        connected: Callable[[], None] = lambda: None,
    ) -> None:
        self._options = options
        self._desk = Desk(
            execute,
            threads=options.threads,
            waiting=options.waiting,
            waiting_bytes=options.waiting_bytes,
        )
        self._ready = ready
        self._tell_connected = connected
        self._stop = asyncio.Event()
        self._state = _State()

    async def run(
        self,
        connect: list[Address],
        listen: list[Address],
        client: ssl.SSLContext | None,
        server: ssl.SSLContext | None,
    ) -> None:
        """Serve until `stop`; then finish what was begun, and close everything.

        Raises:
            OSError: an address cannot be listened at.
        """
        doors = await self._listen(listen, server)
        self._ready([door.address for door in doors])
        tasks = [asyncio.create_task(self._keep_connected(address, client)) for address in connect]
        try:
            await self._stop.wait()
        finally:
            for door in doors:
                await door.close()
            await self._finish()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._hang_up()
            await asyncio.to_thread(self._desk.close)

    def stop(self) -> None:
        """Begin to stop; from the loop's own thread."""
        self._desk.refuse_new()
        self._stop.set()

    async def _finish(self) -> None:
        """Let what was begun end and be answered: by itself, or cancelled."""
        self._desk.refuse_new()
        for session in list(self._state.sessions):
            with suppress(ChannelClosed):
                await session.tell(control.command(control.SHUTDOWN, reason="sig.kill"))
        waiting = asyncio.gather(*(session.finish() for session in list(self._state.sessions)))
        try:
            async with asyncio.timeout(self._options.grace):
                await asyncio.shield(waiting)
        except TimeoutError:
            _log.warning("commands are cancelled: they did not end within %s s", self._options.grace)
            self._desk.cancel()
            await waiting

    async def _hang_up(self) -> None:
        for session in list(self._state.sessions):
            await session.close()
        if self._state.serving:
            await asyncio.wait(self._state.serving)

    # -- listening ------------------------------------------------------------------------------------

    async def _listen(self, addresses: list[Address], context: ssl.SSLContext | None) -> list[Door]:
        opened = []
        try:
            for address in addresses:
                opened += await listeners(*address)
        except OSError:
            for one in opened:
                one.close()
            raise
        return [Door(one, context, self._options.moving, self._accept) for one in opened]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._state.sessions) >= self._options.connections or self._stop.is_set():
            writer.transport.abort()
            return
        session = self._session(reader, writer)
        self._tell_connected()
        await self._serve(session, str(writer.get_extra_info("peername")))

    # -- connecting -----------------------------------------------------------------------------------

    async def _keep_connected(self, address: Address, context: ssl.SSLContext | None) -> None:
        """Be connected, until cancelled."""
        attempts = 0
        while True:
            if await self._connected(address, context):
                attempts = 0
            attempts += 1
            pause = self._pause(attempts)
            _log.info("connecting to %s:%d again in %.1f s", *address, pause)
            await asyncio.sleep(pause)

    def _pause(self, attempt: int) -> float:
        """Return the seconds before an attempt: random, so that a fleet does not come back at once."""
        state = tenacity.RetryCallState(retry_object=tenacity.Retrying(), fn=None, args=(), kwargs={})
        state.attempt_number = attempt
        return float(tenacity.wait_random_exponential(multiplier=0.5, max=self._options.longest_pause)(state))

    async def _connected(self, address: Address, context: ssl.SSLContext | None) -> bool:
        """Connect and serve; tell whether the orchestrator had taken us before it ended."""
        try:
            async with asyncio.timeout(self._options.moving):
                reader, writer = await asyncio.open_connection(*address, ssl=context)
        except (OSError, TimeoutError) as error:
            _log.warning("no connection to %s:%d: %s", *address, error)
            return False
        session = self._session(reader, writer)
        serving = asyncio.create_task(self._serve(session, f"{address[0]}:{address[1]}"))
        asking = asyncio.create_task(self._start_and_ping(session))
        try:
            await asyncio.wait([serving, asking], return_when=asyncio.FIRST_COMPLETED)
        finally:
            asking.cancel()
            await session.close()
            await asyncio.wait([serving, asking])
        return session.taken

    async def _start_and_ping(self, session: Session) -> None:
        """Introduce ourselves, and ping as long as there are answers."""
        try:
            await self._ping(session, await self._start(session))
        except ChannelClosed as error:
            _log.warning("not connected: %s", error)

    async def _start(self, session: Session) -> float:
        """Tell who we are; returns the seconds between pings.

        Raises:
            ChannelClosed: we are refused, or there is no answer.
        """
        options = self._options
        told = control.command(
            control.STARTUP, type=control.TYPE, guid=options.guid, name=options.guid, version=options.version
        )
        found = control.started(await session.ask(told, options.moving))
        if found is None:
            raise ChannelClosed("the orchestrator refuses this agent")
        session.agent_id, session.taken = found.agent_id, True
        self._tell_connected()
        return found.ping_interval or options.ping_interval

    async def _ping(self, session: Session, interval: float) -> None:
        """Ping as long as there are answers."""
        while True:
            await asyncio.sleep(interval)
            ping = control.command(control.PING, hostType=control.TYPE, hostId=session.agent_id)
            await session.ask(ping, max(interval, self._options.moving))

    # -- both -----------------------------------------------------------------------------------------

    def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Session:
        options = self._options
        return Session(Channel(reader, writer, idle=options.idle, moving=options.moving), self._desk)

    async def _serve(self, session: Session, peer: str) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs has a task
        self._state.sessions.add(session)
        self._state.serving.add(task)
        _log.info("connected: %s", peer)
        try:
            await session.serve()
        except ChannelClosed as error:
            _log.info("%s: %s", peer, error)
        finally:
            await session.finish()
            await session.close()
            self._state.sessions.discard(session)
            self._state.serving.discard(task)
