"""Whether the server lives, can work, and what it counts. Only the figures need a token."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, Response
from sqlalchemy import text

from ..core.spi.errors import Unavailable
from .models import Health, SyncHealth
from .services import Reader, Services, Using

router = APIRouter(tags=["state"])

VERSION = version("bollard")


@router.get("/health", operation_id="getHealth")
async def health(using: Using) -> Health:
    """Return whether the process answers, and how far its sync is; it asks nobody."""
    return Health(status="ok", version=VERSION, sync=_sync(using))


@router.get("/ready", operation_id="getReady")
def ready(using: Using) -> Health:
    """Return whether the catalog can be reached and the server is not about to stop."""
    if using.stopping.is_set():
        raise Unavailable("the server is stopping")
    with using.catalog.transaction() as session:
        session.execute(text("SELECT 1"))
    return Health(status="ready", version=VERSION, sync=_sync(using))


def _sync(using: Services) -> SyncHealth | None:
    return SyncHealth.of(using.recovery.state()) if using.recovery else None


@router.get(
    "/metrics",
    operation_id="getMetrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus"}},
)
def metrics(using: Using, _token: Reader) -> Response:
    """Return figures in Prometheus' text format."""
    return Response(using.figures.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
