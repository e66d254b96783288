"""The API over TLS: who proves himself to whom."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from bollard.api.door import STRANGERS
from bollard.api.figures import Figures
from bollard.api.server import ApiServer, Tls, listen
from bollard.api.services import Services
from bollard.api.tokens import Scope, Tokens
from bollard.core.catalog import Catalog
from bollard.core.jobs import Orders
from bollard.simulators.management import certificates

Serve = Callable[..., str]


@contextmanager
def _serving(home: Path, tls: Tls, tokens: Tokens) -> Iterator[str]:
    catalog = Catalog(f"sqlite:///{home}/catalog.db")
    orders = Orders(catalog)
    services = Services(catalog=catalog, orders=orders, tokens=tokens, figures=Figures(orders))
    listener = listen("127.0.0.1", 0, plain=False)
    where = f"127.0.0.1:{listener.getsockname()[1]}"
    server = ApiServer(services, listener, tls=tls)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield where
    finally:
        server.stop()
        thread.join(20)
        catalog.close()


@pytest.fixture
def pem(tmp_path) -> Path:
    """An authority, and certificates by it."""
    certificates.certificates(tmp_path / "pem")
    return tmp_path / "pem"


@pytest.fixture
def serve(tmp_path, pem) -> Iterator[Serve]:
    """Serve with the server's certificate, until the test ends."""
    with ExitStack() as stack:

        def start(*, clients: bool) -> str:
            own = certificates.files(pem, "server")
            tls = Tls(certificate=own.certificate, key=own.key, clients=own.authority if clients else None)
            return stack.enter_context(_serving(tmp_path, tls, Tokens(tmp_path / "tokens.json")))

        yield start


def _trust(pem: Path, client: Path | None = None, name: str = "agent") -> ssl.SSLContext:
    """What trusts our authority, and shows a certificate of `client` if there is one."""
    context = ssl.create_default_context(cafile=str(pem / "ca.pem"))
    if client is not None:
        files = certificates.files(client, name)
        context.load_cert_chain(files.certificate, files.key)
    return context


def _status(url: str, verify: ssl.SSLContext, **headers: str) -> int:
    return httpx.get(url, verify=verify, headers=headers, trust_env=False).status_code


def test_a_client_trusts_the_certificate_and_plain_http_is_not_answered(serve, pem):
    """The server proves itself; whoever trusts somebody else, or speaks plain HTTP, gets nothing."""
    where = serve(clients=False)
    assert _status(f"https://{where}/health", _trust(pem)) == 200
    with pytest.raises(httpx.TransportError):
        httpx.get(f"https://{where}/health", trust_env=False)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{where}/health", trust_env=False)


def test_a_client_with_a_certificate_comes_in_and_still_needs_a_token(serve, pem, tmp_path):
    """Mutual TLS opens the door; what a client may do there is told by its token alone."""
    where = serve(clients=True)
    known = _trust(pem, pem)
    token = Tokens(tmp_path / "tokens.json").create("reader", Scope.READ)[1].reveal()
    assert _status(f"https://{where}/health", known) == 200
    assert _status(f"https://{where}/v1/jobs", known) == 401
    assert _status(f"https://{where}/v1/jobs", known, authorization=f"Bearer {token}") == 200


@pytest.mark.parametrize("shows", ["none", "a stranger's", "an expired one"])
def test_a_client_that_proves_nothing_is_refused(serve, pem, tmp_path, shows):
    """No certificate, one of another authority, or one of yesterday: the handshake fails."""
    where = serve(clients=True)
    certificates.certificates(tmp_path / "other")
    context = {
        "none": lambda: _trust(pem),
        "a stranger's": lambda: _trust(pem, tmp_path / "other"),
        "an expired one": lambda: _trust(pem, pem, "expired"),
    }[shows]()
    with pytest.raises(httpx.TransportError):
        _status(f"https://{where}/health", context)


def test_strangers_make_room_for_a_client(serve, pem):
    """However many connect and never shake hands, so many may wait, and a client is answered."""
    host, port = serve(clients=True).split(":")
    with ExitStack() as stack:
        strangers = [
            stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
            for _ in range(STRANGERS + 3)
        ]
        for turned_away in strangers[:3]:
            assert turned_away.recv(1) == b""
        assert _status(f"https://{host}:{port}/health", _trust(pem, pem)) == 200
