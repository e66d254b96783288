"""Slow clients: a connection costs them nothing, and must cost us little."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import httpx
import pytest

from bollard.api import server
from bollard.api.patience import PatientProtocol
from bollard.api.tokens import Scope

SOON = 20.0


@pytest.fixture(autouse=True, scope="module")
def few() -> Iterator[None]:
    """A server that has room for four connections, before it is made; its own limit is 512."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(server, "_MOST_CONNECTIONS", 4)
        yield


@pytest.fixture
def impatient(monkeypatch) -> None:
    """A server that waits for a moment only."""
    monkeypatch.setattr(PatientProtocol, "patience", 0.1)


def _connected(running) -> socket.socket:
    url = httpx.URL(running.url)
    return socket.create_connection((url.host, url.port or 0), timeout=SOON)


def _rest(connection: socket.socket) -> bytes:
    """All that comes until the server hangs up."""
    found = b""
    try:
        while more := connection.recv(65536):
            found += more
    except ConnectionError:
        pass
    return found


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /health HT",
        b"POST /v1/commands HTTP/1.1\r\nHost: b\r\nContent-Length: 9\r\nAuthorization: ?\r\n\r\n{",
    ],
    ids=["nothing", "half a head", "half a body"],
)
@pytest.mark.usefixtures("impatient")
def test_a_request_that_does_not_come_ends_the_connection(running, sent, caplog):
    """Whoever sends no whole request is hung up on, and nothing is logged that he could fill a disk with."""
    token = running.secrets[Scope.OPERATE].encode()
    with caplog.at_level(logging.WARNING), _connected(running) as slow:
        with suppress(ConnectionError):  # it was quicker
            slow.sendall(sent.replace(b"?", b"Bearer " + token))
        assert _rest(slow) == b""
    assert caplog.records == []


def test_a_body_that_nobody_wants_ends_the_connection(running, monkeypatch):
    """A refused request is answered at once; its body, which never ends, does not keep the connection."""
    with _connected(running) as slow:
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: b\r\n\r\n")
        assert b" 200 " in slow.recv(65536)  # it is connected from now on
        monkeypatch.setattr(PatientProtocol, "patience", 2.0)
        slow.sendall(b"POST /v1/commands HTTP/1.1\r\nHost: b\r\nContent-Length: 9\r\n\r\n{")
        assert b"HTTP/1.1 401 " in _rest(slow)


def test_who_is_being_answered_has_all_the_time(client, monkeypatch):
    """Patience is for requests: a client that waits for a job is answered when its time has come."""
    assert client.get("/health").status_code == 200  # it is connected from now on
    monkeypatch.setattr(PatientProtocol, "patience", 0.1)
    job = client.post("/v1/commands", json={"type": "FreezeThawVMCommand", "vm_name": "vm-1"}).json()
    waited = client.get(f"/v1/jobs/{job['id']}", params={"wait": 0.5})
    client.delete(f"/v1/jobs/{job['id']}")
    assert (waited.status_code, waited.json()["over"]) == (200, False)


def test_idle_connections_make_room(running):
    """However many connect and send nothing, or half a request, the next one is served."""
    with ExitStack() as stack:
        for number in range(12):
            idle = stack.enter_context(_connected(running))
            if number % 2:
                idle.sendall(b"GET /health HTTP/1.1\r\n")
        with running.client(None) as client:
            assert [client.get("/health").status_code for _ in range(3)] == [200] * 3
