"""`bollard api …`: the HTTP/JSON API, its tokens and its document."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..api.tokens import Scope, Token, Tokens
from ..core.catalog import Catalog
from ..core.commands import Dispatcher
from ..core.event_stream import WebhookService, webhooks_of
from ..core.jobs import Claims, Handler, JobLimits, Orders, Worker
from ..core.jobs.commands import KIND as COMMAND
from ..core.jobs.commands import CommandHandler
from ..core.metrics import PrometheusMetrics
from ..core.mover import state_directory
from ..core.periodic import Periodic
from ..core.service.catalog_place import open_catalog
from ..core.service.pruning import Keeping, Pruning
from ..core.service.recovery_loop import EVERY, Recovery
from ..core.site import Site
from ..core.spi import InvalidArgument, Unsupported
from . import context
from .context import JsonFlag
from .output import show, show_rows
from .recovering import SyncEvery, recovering

if TYPE_CHECKING:
    from ..api.server import Tls
    from ..api.services import Services

app = typer.Typer(help="The HTTP/JSON API: serve it, its tokens, its OpenAPI document.", no_args_is_help=True)
token_app = typer.Typer(help="Who may use the API.", no_args_is_help=True)
app.add_typer(token_app, name="token")

PORT = 8480
_DAY = 86400.0

TokenFile = Annotated[
    Path | None, typer.Option("--tokens", help="File of tokens (default: in the state directory).")
]
CatalogUrl = Annotated[
    str, typer.Option("--catalog", help="SQLAlchemy's URL (default: the configuration's [catalog].")
]


@app.command()
def serve(
    ctx: typer.Context,
    address: Annotated[str, typer.Option(help="IP address; beyond loopback only with TLS.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0: any free one.")] = PORT,
    catalog: CatalogUrl = "",
    tokens: TokenFile = None,
    tls_certificate: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="PEM file with the certificate chain.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="PEM file with its key.")
    ] = None,
    tls_clients: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Authorities whose certificates clients must have."),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Jobs at the same time; 0: leave them to others.")] = 4,
    lease: Annotated[
        float, typer.Option(min=5, help="Seconds until a dead server's jobs are taken over.")
    ] = 60.0,
    per_host: Annotated[int, typer.Option(min=0, help="Jobs per host at the same time; 0: no limit.")] = 4,
    per_pool: Annotated[int, typer.Option(min=0, help="Jobs per pool at the same time; 0: no limit.")] = 8,
    sync: Annotated[
        bool, typer.Option("--sync/--no-sync", help="End what dead processes left, in the background.")
    ] = True,
    sync_every: SyncEvery = EVERY,
    keep_jobs: Annotated[
        float, typer.Option(min=0, max=36500, help="Days until a job that is over is forgotten; 0: never.")
    ] = 30.0,
    keep_events: Annotated[
        float, typer.Option(min=0, max=36500, help="Days until an event is forgotten; 0: never.")
    ] = 30.0,
    json: JsonFlag = False,
) -> None:
    """Serve the API and do its jobs, until SIGTERM or Ctrl-C."""
    with _installed():
        from ..api.server import ApiServer, listen
    tls = _tls(tls_certificate, tls_key, tls_clients)
    metrics = PrometheusMetrics()
    with ExitStack() as stack:
        site = stack.enter_context(
            Site(context.config(ctx), lambda kind, its: metrics.observer(kind, its.name, its.driver))
        )
        opened = Catalog(catalog) if catalog else open_catalog(site.config)
        stack.callback(opened.close)
        handlers = _handlers(site)
        listener = listen(address, port, plain=tls is None)
        recovery = stack.enter_context(recovering(site, wanted=sync, every=sync_every))
        services = _services(opened, _tokens(tokens), metrics, recovery)
        limits = JobLimits(per_host=per_host, per_pool=per_pool)
        worker = (
            Worker(Claims(opened, limits=limits, lease=lease), handlers, slots=workers) if workers else None
        )
        pruning = Pruning.of(opened, Keeping(jobs=keep_jobs, events=keep_events))
        stack.enter_context(Periodic("bollard-pruning", pruning.round))
        stack.enter_context(WebhookService(opened, webhooks_of(site.config.webhooks)))
        server = ApiServer(services, listener, worker=worker, tls=tls)
        _tell({"url": _url(listener, tls), "pid": os.getpid()}, json)
        server.run()


def _handlers(site: Site) -> dict[str, Handler]:
    from ..api.upkeep import SWEEP, SYNC, SweepHandler, SyncHandler

    return {
        COMMAND: CommandHandler(Dispatcher(site)),
        SYNC: SyncHandler(site),
        SWEEP: SweepHandler(site),
    }


def _url(listener: socket.socket, tls: Tls | None) -> str:
    host, port = listener.getsockname()[:2]
    return f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{port}"


@app.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    with _installed():
        from ..api.app import described_app
        from ..api.document import document_text
    sys.stdout.write(document_text(described_app()))


@token_app.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="Of whoever gets it; jobs are shown as theirs.")],
    scope: Annotated[
        Scope, typer.Option(help="read: look; operate: order and cancel, too; admin: sweep, too.")
    ] = Scope.READ,
    days: Annotated[float, typer.Option(min=0, help="For how long it is valid; 0: for ever.")] = 365,
    tokens: TokenFile = None,
    json: JsonFlag = False,
) -> None:
    """Make a token and print it, this once: the server keeps only its hash."""
    token, text = _tokens(tokens).create(name, scope, seconds=days * _DAY)
    show({**_shown(token), "token": text.reveal()}, as_json=json)


@token_app.command("list")
def list_tokens(tokens: TokenFile = None, json: JsonFlag = False) -> None:
    """List who has a token."""
    rows = [_shown(token) for token in _tokens(tokens).all()]
    show_rows(rows, as_json=json, empty="There are no tokens: bollard api token create NAME")


@token_app.command("remove")
def remove_token(
    name: Annotated[str, typer.Argument(help="Of whoever had it.")], tokens: TokenFile = None
) -> None:
    """Take a token away; servers refuse it from now on."""
    _tokens(tokens).remove(name)


def _shown(token: Token) -> dict[str, Any]:
    return {
        "name": token.name,
        "scope": token.scope.value,
        "id": token.id,
        "created": _time(token.created),
        "expires": _time(token.expires) if token.expires else None,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _tls(certificate: Path | None, key: Path | None, clients: Path | None) -> Tls | None:
    from ..api.server import Tls

    if certificate is None and key is None and clients is None:
        return None
    if certificate is None or key is None:
        raise InvalidArgument("TLS needs both --tls-certificate and --tls-key")
    return Tls(certificate=certificate, key=key, clients=clients)


def _tokens(path: Path | None) -> Tokens:
    return Tokens(path or state_directory() / "api-tokens.json")


def _services(
    catalog: Catalog, tokens: Tokens, metrics: PrometheusMetrics, recovery: Recovery | None
) -> Services:
    from ..api.figures import Figures
    from ..api.services import Services

    orders = Orders(catalog)
    figures = Figures(orders, [metrics.registry])
    return Services(catalog=catalog, orders=orders, tokens=tokens, figures=figures, recovery=recovery)


def _tell(body: dict[str, Any], json: bool) -> None:
    """Print where it serves; whoever started us waits for that."""
    show(body, as_json=json, title="serving")
    sys.stdout.flush()


@contextmanager
def _installed() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise Unsupported("the API needs its libraries: pip install 'bollard[api]'") from error
