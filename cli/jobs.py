"""What commands on the archive share: the archive of a store, and a call that shows its progress."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import FrameType
from typing import Annotated

import typer

from ..core.archive import Archive
from ..core.backends import LONGEST
from ..core.spi import Call
from . import context
from .output import transfer

# Swift, and NFS over several hosts, may list a new key late. Without a catalog of what was archived, only
# the operator knows that the store has been quiet for longer than that.
TrustListing = Annotated[
    bool,
    typer.Option(
        "--trust-listing",
        help="The store lists everything by now (no archiving in the last minutes).",
    ),
]


@contextmanager
def job(ctx: typer.Context, title: str, json: bool, *, steps: bool = False) -> Iterator[Call]:
    """Yield a call that shows its progress, and that Ctrl-C and SIGTERM cancel."""
    settings = context.settings(ctx)
    quiet = json or settings.quiet
    with transfer(title, quiet=quiet, steps=steps, stream=settings.progress) as progress:
        call = Call.within(LONGEST, progress=progress)
        with _cancelled_by_signals(call):
            yield call


@contextmanager
def _cancelled_by_signals(call: Call) -> Iterator[None]:
    """Cancel the call before the interrupt goes up: workers that wait for bandwidth end at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        call.cancel.set()
        signal.default_int_handler(number, frame)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def open_archive(ctx: typer.Context, store: str) -> Iterator[Archive]:
    """Yield the archive on a store of the configuration; the store is closed afterwards."""
    with closing(context.store(ctx, store)) as opened:
        yield Archive(opened)


def known(archive: Archive, volume: str, trust: bool, call: Call) -> list[str] | None:
    """Return the snapshots to go by on a store whose listing may lag; None: the engine decides."""
    return [entry.snapshot for entry in archive.list(call, volume=volume)] if trust else None
