"""What the options before a command say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from ..core.metrics import PrometheusMetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options that stand before the command; `progress` is where JSON lines go, if they are wanted."""

    config: Path | None = None
    quiet: bool = False
    progress: TextIO | None = None
    metrics: PrometheusMetrics | None = None
