"""The server's own figures for Prometheus.

    bollard_api_requests_total     method route status    answered
    bollard_api_request_seconds    method route           how long
    bollard_jobs                   state                  in the catalog, asked when somebody looks

A route is its pattern, never the path: ids are no labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ..core.jobs import Orders

_SECONDS = (0.002, 0.01, 0.05, 0.2, 1, 5, 30)


class Figures:
    """A registry of its own; those in `more` are shown with it."""

    def __init__(self, orders: Orders, more: Sequence[CollectorRegistry] = ()) -> None:
        self._more = more
        self._registry = CollectorRegistry()
        labels = ("method", "route")
        self._requests = Counter(
            "bollard_api_requests", "Requests answered.", (*labels, "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "bollard_api_request_seconds", "Seconds.", labels, buckets=_SECONDS, registry=self._registry
        )
        self._registry.register(_Jobs(orders))

    def seen(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        known = method if method in ("GET", "POST", "DELETE") else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(known, route).observe(seconds)

    def text(self) -> bytes:
        """Return Prometheus' text format."""
        return b"".join(generate_latest(registry) for registry in (self._registry, *self._more))


class _Jobs(Collector):
    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Ask the catalog."""
        jobs = GaugeMetricFamily("bollard_jobs", "Jobs in the catalog.", labels=["state"])
        for state, count in self._orders.counts().items():
            jobs.add_metric([state.value], count)
        yield jobs

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Say what comes, without asking the catalog."""
        yield GaugeMetricFamily("bollard_jobs", "Jobs in the catalog.", labels=["state"])
