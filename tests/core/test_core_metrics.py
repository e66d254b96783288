"""Metrics: what core does is counted once, with few labels and no secret, in both libraries."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from bollard.core.metrics import OpenTelemetryMetrics, PrometheusMetrics
from bollard.core.spi import Body, Call, NotFound, Unavailable, Unsupported
from bollard.core.store import Store

from .ram_store import TOKEN, RamStore, RamStoreOptions

LABELS = {"kind": "store", "backend": "nightly", "driver": "ram"}


def work(observe: Any) -> None:
    """A put that is tried twice, a get, half a get, a missing object."""
    driver = RamStore(RamStoreOptions(), chunk=16)
    store = Store("nightly", driver, observe=observe, sleep=lambda _: None)
    real, failures = driver.put, [Unavailable(f"gone {TOKEN}")]

    def flaky(*args: Any, **more: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*args, **more)

    driver.put = flaky
    store.put("v1/vol-secret-name/x", Body.of(bytes(64)), Call())
    assert len(b"".join(store.get("v1/vol-secret-name/x", Call()))) == 64
    half = store.get("v1/vol-secret-name/x", Call())
    next(half)
    half.close()  # type: ignore[attr-defined]  # it is a generator
    with pytest.raises(NotFound):
        store.head("missing", Call())


def test_prometheus_counts_calls_bytes_and_retries():
    """Outcomes are codes, bytes are those that moved, a retry is one."""
    metrics = PrometheusMetrics()
    work(metrics.observer("store", "nightly", "ram"))

    def value(name: str, **labels: str) -> float | None:
        found: float | None = metrics.registry.get_sample_value(name, LABELS | labels)
        return found

    assert value("bollard_calls_total", operation="store.put", outcome="ok") == 1
    assert value("bollard_calls_total", operation="store.get", outcome="ok") == 2
    assert value("bollard_calls_total", operation="store.head", outcome="not_found") == 1
    assert value("bollard_call_retries_total", operation="store.put") == 1
    assert value("bollard_call_seconds_count", operation="store.put") == 1
    assert value("bollard_bytes_total", direction="sent") == 64
    assert value("bollard_bytes_total", direction="received") == 64 + 16


def test_file_and_port_show_the_same(tmp_path: Path):
    """The file is whole or not there; neither names an object or shows a secret."""
    metrics = PrometheusMetrics()
    work(metrics.observer("store", "nightly", "ram"))
    metrics.write(tmp_path / "bollard.prom")
    text = (tmp_path / "bollard.prom").read_text()
    with metrics.serving(0) as port, urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        served = answer.read().decode()

    assert 'bollard_calls_total{backend="nightly"' in text
    assert set(text.splitlines()) == set(served.splitlines())
    assert "secret-name" not in text
    assert TOKEN not in text
    assert [path.name for path in tmp_path.iterdir()] == ["bollard.prom"]


def test_opentelemetry_gets_the_same(monkeypatch: pytest.MonkeyPatch):
    """The application's SDK sees duration, retries and bytes under the names of its conventions."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    monkeypatch.setattr("opentelemetry.metrics.get_meter", provider.get_meter)
    work(OpenTelemetryMetrics().observer("store", "nightly", "ram"))
    data: Any = reader.get_metrics_data()
    found = {one.name: one.data.data_points for one in data.resource_metrics[0].scope_metrics[0].metrics}
    provider.shutdown()

    assert set(found) == {"bollard.call.duration", "bollard.call.retries", "bollard.bytes"}
    assert {(p.attributes["direction"], p.value) for p in found["bollard.bytes"]} == {
        ("sent", 64),
        ("received", 80),
    }
    assert {p.attributes["outcome"] for p in found["bollard.call.duration"]} == {"ok", "not_found"}
    assert [p.value for p in found["bollard.call.retries"]] == [1]


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    """The extra is named."""
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    with pytest.raises(Unsupported, match=r"bollard\[metrics\]"):
        PrometheusMetrics()
