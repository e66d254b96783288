"""`bollard archive serve`: boot from the archive, without a restore."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Annotated

import typer

from ..core.archive import Archive, Manifest, ReadOptions
from ..core.archive_serve import Overlay, SnapshotServer, listen, uri_of
from ..core.spi import Call, InvalidArgument, Unavailable
from . import context
from .archive import SnapshotArg, VolumeArg
from .context import JsonFlag, StoreName
from .output import show
from .sizes import Size

NBD_PORT = 10809  # IANA's


def serve(
    ctx: typer.Context,
    volume: VolumeArg,
    snapshot: SnapshotArg,
    store: StoreName = "",
    socket: Annotated[Path | None, typer.Option(help="Serve on this Unix socket.", dir_okay=False)] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Serve on TCP; 0: any free port.")
    ] = None,
    address: Annotated[
        str, typer.Option(help="Address for --port. Whoever reaches it reads the snapshot.")
    ] = "127.0.0.1",
    cow: Annotated[
        Path | None, typer.Option(help="Writable: a qcow2 file takes what is written.", dir_okay=False)
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Allow no writes (the default; with --cow: look at the file).")
    ] = False,
    cache: Annotated[int, typer.Option(parser=Size, help="Memory for what was read.")] = 256 * 2**20,
    timeout: Annotated[float, typer.Option(help="Seconds after which a read fails with EIO.")] = 60.0,
    json: JsonFlag = False,
) -> None:
    """Serve an archived snapshot over NBD, straight from the store, until SIGTERM or Ctrl-C."""
    if socket and port is not None:
        raise InvalidArgument("--socket and --port exclude each other")
    options = ReadOptions(cache=cache, timeout=timeout)
    with ExitStack() as stack:
        archive = Archive(stack.enter_context(closing(context.store(ctx, store))))
        source = stack.enter_context(
            archive.open(Call.within(), volume=volume, snapshot=snapshot, options=options)
        )
        manifest = source.manifest
        listener = listen(socket or (address, NBD_PORT if port is None else port))
        where = socket.absolute() if socket else listener.getsockname()[:2]
        if socket:
            stack.callback(socket.unlink, missing_ok=True)
        over = threading.Event()
        if cow:
            name = f"{volume}/{snapshot}@{manifest.digest}"
            overlay = Overlay(source, cow, name, listener, where, over.set, read_only=read_only)
            stack.enter_context(overlay)
        else:
            stack.enter_context(SnapshotServer(source, listener))
        _tell(manifest, uri_of(where), cow, json, writable=bool(cow) and not read_only)
        with suppress(KeyboardInterrupt):  # SIGTERM, too (app.py): the orderly way out
            over.wait()
            raise Unavailable("the storage daemon ended by itself; what was written is in the file")


def _tell(manifest: Manifest, uri: str, cow: Path | None, json: bool, *, writable: bool) -> None:
    """Print where it serves; whoever started us waits for that."""
    body = {"uri": uri, "size": manifest.size, "writable": writable, "pid": os.getpid()}
    show(body | ({"cow": str(cow)} if cow else {}), as_json=json, title="serving")
    sys.stdout.flush()
