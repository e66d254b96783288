"""What `--metrics-file` and `--metrics-port` do around a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from ..core.metrics import PrometheusMetrics


def measured(ctx: typer.Context, path: Path | None, port: int) -> PrometheusMetrics | None:
    """Return what counts, if somebody wants it, and have it written and served until the command ends."""
    if path is None and not port:
        return None
    metrics = PrometheusMetrics()
    if port:
        ctx.with_resource(metrics.serving(port))
    if path:
        ctx.with_resource(_written(metrics, path))
    return metrics


@contextmanager
def _written(metrics: PrometheusMetrics, path: Path) -> Iterator[None]:
    success = False
    try:
        yield
        success = True
    except typer.Exit as end:
        success = not end.exit_code
        raise
    finally:
        metrics.ended(success=success)
        metrics.write(path)
