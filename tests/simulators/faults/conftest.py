"""A backend that remembers what reached it, and a proxy in front of it."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest
from flask import Flask, Response, request

from bollard.simulators.faults import FaultProxy
from bollard.simulators.faults.http import HttpProxy
from bollard.simulators.http_server import HttpServer


class Backend:
    """Answers on a few paths and keeps a list of (method, target, bytes of the body)."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int]] = []
        self.hosts: list[str] = []
        app = Flask("backend")
        app.before_request(self._note)
        app.route("/json", endpoint="json", methods=["GET", "PUT", "POST", "DELETE"])(lambda: {"answer": 42})
        app.route("/empty", endpoint="empty")(lambda: ("", 204))
        app.route("/unchanged", endpoint="unchanged")(lambda: ("", 304))
        app.route("/chunks", endpoint="chunks")(
            lambda: Response((piece * 1000 for piece in ("a", "b", "c")), 200)
        )
        app.route("/echo", endpoint="echo", methods=["PUT", "POST"])(lambda: self.body)
        app.route("/moved", endpoint="moved")(lambda: ("", 302, {"Location": f"{self.url}/json?x=1"}))
        app.route("/storage", endpoint="storage")(
            lambda: ("", 200, {"X-Storage-Url": f"{self.url}0/v1", "X-Other": self.url})
        )
        app.route("/refused", endpoint="refused", methods=["PUT"])(lambda: ("no", 412))
        self._server = HttpServer(app)

    @property
    def url(self) -> str:
        """Its own origin."""
        return f"http://127.0.0.1:{self._server.port}"

    def _note(self) -> None:
        self.body = b"" if request.path == "/refused" else request.get_data()
        self.seen.append((request.method, request.full_path.rstrip("?"), len(self.body)))
        self.hosts.append(request.host)

    def __enter__(self) -> Backend:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A running backend without TLS."""
    with Backend() as running:
        yield running


@pytest.fixture
def waited() -> list[float]:
    """The seconds that the proxy would have slept."""
    return []


@pytest.fixture
def proxy(backend, tmp_path, waited) -> Iterator[HttpProxy]:
    """In front of that backend; its time passes at once."""
    with FaultProxy.http(upstream=backend.url, state=tmp_path / "proxy", wait=waited.append) as running:
        yield running


@pytest.fixture
def client(proxy) -> Iterator[http.client.HTTPConnection]:
    """One keep-alive connection to the proxy; it reconnects by itself after an end."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)
    yield connection
    connection.close()
