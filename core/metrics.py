"""What core tells observers, as metrics of Prometheus and of OpenTelemetry, through their own libraries.

    bollard_calls_total           kind backend driver operation outcome    calls of a driver that ended
    bollard_call_seconds          kind backend driver operation            how long, retries included
    bollard_call_retries_total    kind backend driver operation            attempts after the first
    bollard_bytes_total           kind backend driver direction            objects sent and received

`backend` is the name in the configuration and `outcome` "ok" or the code of an error, so every label has few
values; ids of volumes, keys and messages never become one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .events import Event, Observer, Phase
from .spi import Unsupported

_SECONDS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300, 1800, 7200)
_LABELS = ("kind", "backend", "driver")


def _library(name: str) -> Any:
    try:
        return __import__(name, fromlist=["_"])
    except ImportError as error:
        raise Unsupported("metrics need their libraries: pip install 'bollard[metrics]'") from error


class PrometheusMetrics:
    """Metrics in a registry of their own: to be written to a file, or served over HTTP.

    Raises:
        Unsupported: `prometheus_client` is not installed.
    """

    def __init__(self) -> None:
        self._library = library = _library("prometheus_client")
        self.registry = library.CollectorRegistry()
        operation = (*_LABELS, "operation")
        more: Mapping[str, Any] = {"registry": self.registry}
        self._calls = library.Counter("bollard_calls", "Calls that ended.", (*operation, "outcome"), **more)
        self._seconds = library.Histogram(
            "bollard_call_seconds", "Seconds of a call.", operation, buckets=_SECONDS, **more
        )
        self._retries = library.Counter(
            "bollard_call_retries", "Attempts after the first.", operation, **more
        )
        self._bytes = library.Counter("bollard_bytes", "Bytes of objects.", (*_LABELS, "direction"), **more)
        self._ended = library.Gauge("bollard_command_end_timestamp_seconds", "When it ended.", **more)
        self._ok = library.Gauge("bollard_command_success", "1 if it ended with exit code 0.", **more)

    def observer(self, kind: str, backend: str, driver: str) -> Observer:
        """Return what counts the events of one store or pool (`kind`)."""
        labels = (kind, backend, driver)

        def observe(event: Event) -> None:
            if event.phase is Phase.RETRIED:
                self._retries.labels(*labels, event.operation).inc()
            elif event.phase is not Phase.STARTED:
                self._calls.labels(*labels, event.operation, event.error or "ok").inc()
                self._seconds.labels(*labels, event.operation).observe(event.seconds)
                for direction, size in (("sent", event.sent), ("received", event.received)):
                    if size:
                        self._bytes.labels(*labels, direction).inc(size)

        return observe

    def ended(self, *, success: bool) -> None:
        """Note that a command has ended, now."""
        self._ended.set_to_current_time()
        self._ok.set(int(success))

    def write(self, path: Path) -> None:
        """Write all metrics as text, replacing the file at once: for the node exporter's textfiles."""
        self._library.write_to_textfile(str(path), self.registry)

    @contextmanager
    def serving(self, port: int, address: str = "127.0.0.1") -> Iterator[int]:
        """Serve them over HTTP; yields the port (0: a free one)."""
        server, thread = self._library.start_http_server(port, addr=address, registry=self.registry)
        try:
            yield server.server_port
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class OpenTelemetryMetrics:
    """The same through OpenTelemetry's API; the application chooses where they go by its SDK.

    Raises:
        Unsupported: `opentelemetry-api` is not installed.
    """

    def __init__(self) -> None:
        meter = _library("opentelemetry.metrics").get_meter("bollard")
        self._seconds = meter.create_histogram("bollard.call.duration", "s", "Seconds of a call.")
        self._retries = meter.create_counter("bollard.call.retries", "{attempt}", "Attempts after the first.")
        self._bytes = meter.create_counter("bollard.bytes", "By", "Bytes of objects.")

    def observer(self, kind: str, backend: str, driver: str) -> Observer:
        """Return what counts the events of one store or pool (`kind`)."""
        labels = dict(zip(_LABELS, (kind, backend, driver), strict=True))

        def observe(event: Event) -> None:
            its = labels | {"operation": event.operation}
            if event.phase is Phase.RETRIED:
                self._retries.add(1, its)
            elif event.phase is not Phase.STARTED:
                self._seconds.record(event.seconds, its | {"outcome": event.error or "ok"})
                for direction, size in (("sent", event.sent), ("received", event.received)):
                    if size:
                        self._bytes.add(size, labels | {"direction": direction})

        return observe
