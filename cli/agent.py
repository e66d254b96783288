"""`bollard agent`: answer an orchestrator's commands over TLS."""

from __future__ import annotations

import asyncio
import json as json_format
import logging
import os
import signal
import ssl
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from ..core.agent import Agent, AgentOptions, TlsFiles, client_context, server_context
from ..core.commands import Dispatcher
from ..core.mover import mover_host, state_directory
from ..core.service.recovery_loop import EVERY
from ..core.spi import InvalidArgument
from . import context
from .recovering import SyncEvery, recovering

Address = tuple[str, int]


def agent(
    ctx: typer.Context,
    connect: Annotated[
        list[str] | None, typer.Option(metavar="HOST:PORT", help="An orchestrator; repeatable.")
    ] = None,
    listen: Annotated[
        list[str] | None, typer.Option(metavar="HOST:PORT", help="Let orchestrators connect; port 0 is any.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM: our certificate, and its chain.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM: its key.")] = None,
    authority: Annotated[Path | None, typer.Option(help="PEM: who signs the orchestrator's.")] = None,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Commands at a time.")] = 8,
    grace: Annotated[float, typer.Option(min=0.0, help="Seconds for commands to end when it stops.")] = 30.0,
    sync: Annotated[
        bool, typer.Option("--sync/--no-sync", help="End what dead processes left, in the background.")
    ] = True,
    sync_every: SyncEvery = EVERY,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log each command.")] = False,
) -> None:
    """Serve until SIGTERM: commands are executed over the pools, stores and hypervisors of the configuration.

    Prints one JSON line when it is ready. Stopped, it takes no more commands, and ends those that it has.
    """
    outgoing, incoming = _addresses(connect), _addresses(listen)
    if not outgoing and not incoming:
        raise InvalidArgument("name an orchestrator with --connect, or an address with --listen")
    files = _files(certificate, key, authority)
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, stream=sys.stderr)
    options = AgentOptions(
        guid=str(mover_host(state_directory()).id),
        version=metadata.version("bollard"),
        threads=threads,
        grace=grace,
    )
    client, server = client_context(files), server_context(files)
    with context.site(ctx) as site, recovering(site, wanted=sync, every=sync_every) as recovery:
        serving = Agent(
            Dispatcher(site).execute,
            options,
            ready=_say_ready,
            connected=recovery.wake if recovery else lambda: None,
        )
        asyncio.run(_until_signal(serving, outgoing, incoming, client, server))


async def _until_signal(
    serving: Agent,
    outgoing: list[Address],
    incoming: list[Address],
    client: ssl.SSLContext,
    server: ssl.SSLContext,
) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.stop)
    await serving.run(outgoing, incoming, client, server)


def _say_ready(addresses: list[Address]) -> None:
    told = {"listening": [f"{host}:{port}" for host, port in addresses], "pid": os.getpid()}
    sys.stdout.write(json_format.dumps(told) + "\n")
    sys.stdout.flush()


def _addresses(texts: list[str] | None) -> list[Address]:
    return [_address(text) for text in texts or ()]


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InvalidArgument(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _files(certificate: Path | None, key: Path | None, authority: Path | None) -> TlsFiles:
    if certificate is None or key is None or authority is None:
        raise InvalidArgument(
            "--certificate, --key and --authority are needed: both sides prove who they are"
        )
    return TlsFiles(certificate=certificate, key=key, authority=authority)
