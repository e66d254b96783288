"""What every command needs: the configuration and what it names, and this machine as a mover."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..core.access import Mover
from ..core.archive import Compression
from ..core.backends import pool_of, store_of
from ..core.config import Backend, Config, load_config
from ..core.events import Observer, ignore
from ..core.fence import Fence, open_fence
from ..core.pool import Pool
from ..core.service.fleet import open_mover
from ..core.store import Store
from .settings import Settings

if TYPE_CHECKING:
    from ..core.site import Site

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
PoolName = Annotated[str, typer.Option("--pool", "-p", help="A pool of the configuration.")]
StoreName = Annotated[str, typer.Option("--store", "-s", help="A store of the configuration.")]

CompressionOption = Annotated[
    Compression,
    typer.Option(
        "--compression",
        help="auto: zstd (deflate, where zstandard is missing) for what shrinks by a fifth.",
    ),
]


def settings(ctx: typer.Context) -> Settings:
    """Return the options given before the command."""
    found: Settings = ctx.find_root().obj
    return found


def config(ctx: typer.Context) -> Config:
    """Load the configuration."""
    return load_config(settings(ctx).config)


def _observer(ctx: typer.Context, kind: str, backend: Backend) -> Observer:
    metrics = settings(ctx).metrics
    return metrics.observer(kind, backend.name, backend.driver) if metrics else ignore


def pool(ctx: typer.Context, name: str) -> Pool:
    """Open a pool of the configuration; use it in a `with` block."""
    backend = config(ctx).pool(name)
    return pool_of(backend, _observer(ctx, "pool", backend))


def store(ctx: typer.Context, name: str) -> Store:
    """Open a store of the configuration; close it."""
    backend = config(ctx).store(name)
    return store_of(backend, _observer(ctx, "store", backend))


def site(ctx: typer.Context) -> Site:
    """Return a site of the whole configuration; close it, or use it in a `with` block."""
    from ..core.site import Site  # the catalog's library, 0.3 s of CPU, is not for a pool or a store

    return Site(config(ctx), lambda kind, backend: _observer(ctx, kind, backend))


def fence(ctx: typer.Context, host: str) -> Fence:
    """Open a host's fence of the configuration; close it."""
    backend = config(ctx).fence(host)
    return open_fence(backend.name, backend.driver, backend.options)


def mover(ctx: typer.Context) -> Mover:
    """Return what moves data on this machine; it is ended with the command."""
    made, end = open_mover(config(ctx))
    ctx.call_on_close(end)
    return made
