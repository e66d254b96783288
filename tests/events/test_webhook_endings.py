"""Receivers that are slow, a server that stops, one that is killed: nothing hangs, and nothing is lost."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from api_process import ApiProcess
from bollard.core.catalog import Catalog, publish
from bollard.core.event_stream import Deliverer, EventStream, Webhook, WebhookService, cloud_event
from bollard.core.event_stream.sending import Sender
from bollard.core.event_stream.tables import WebhookRow
from bollard.core.spi import Unavailable
from bollard.transfer_objects import Secret
from site_rig import toml_of

pytest_plugins = ["catalog_fixture"]

SECRET = Secret("correct-horse-battery")
SOON = 30.0
MANY_BYTES = 200


class Receiver(ThreadingHTTPServer):
    """Notes the ids of what it is sent; `first` is called before it answers."""

    def __init__(self, first: Callable[[int], None] = lambda _: None) -> None:
        self.got: list[dict] = []
        self.changed = threading.Condition()
        self.first = first
        super().__init__(("127.0.0.1", 0), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, *_request: object) -> None:
        """Say nothing: who asked is dead."""

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_port}/"

    def wait_for(self, count: int) -> None:
        """Wait until so many deliveries have come."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.got) >= count, SOON), self.got


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self):
        """Keep it."""
        event = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.changed:
            self.server.got.append(event)
            self.server.changed.notify_all()
        self.server.first(len(self.server.got))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_arguments):
        """Be quiet."""


def _tell(catalog: Catalog, n: int) -> None:
    with catalog.transaction() as session:
        publish(session, "thing", "a", "Happened", {"n": n})


def _begun(catalog: Catalog, name: str) -> None:
    """The webhook's deliveries begin with what happens from now on."""
    position = EventStream(catalog).last()
    with catalog.transaction() as session:
        session.add(WebhookRow(name=name, position=position))


@pytest.fixture
def dripping() -> Iterator[tuple[str, list[int]]]:
    """A receiver that sends its answer byte by byte, as slowly as is still answered in time."""
    sent, stop = [0], threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            try:
                for _ in range(MANY_BYTES):
                    connection.sendall(b"H")
                    sent[0] += 1
                    stop.wait(0.02)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", sent
        stop.set()
        thread.join(SOON)


def test_a_delivery_has_an_end(dripping):
    """A receiver whose answer never ends is hung up on, though each byte of it comes in time."""
    url, sent = dripping
    sender = Sender(Webhook(url=url, secret=SECRET, private=True, timeout=0.1))
    with pytest.raises(Unavailable):
        sender({"id": "x"}, 0.0)
    sender.close()
    assert sent[0] < MANY_BYTES


def test_a_receiver_that_is_slow_does_not_hold_a_server_up(catalog):
    """A service that stops hangs up; what was under way is delivered again by the next one."""
    go_on = threading.Event()
    _begun(catalog, "hook")
    _tell(catalog, 0)
    with Receiver(lambda _: go_on.wait(5) and None) as receiver:
        hooks = {"hook": Webhook(url=receiver.url, secret=SECRET, private=True, timeout=30.0)}
        with WebhookService(catalog, hooks, poll=0.02):
            receiver.wait_for(1)
        go_on.set()
        _owner_died(catalog)
        with WebhookService(catalog, hooks, poll=0.02):
            receiver.wait_for(2)
    assert receiver.got[0] == receiver.got[1]


def test_a_stopping_service_begins_no_further_delivery(catalog):
    """Of many events that are due, those behind the one under way are left to the next server."""
    stop, got = threading.Event(), []
    _begun(catalog, "hook")
    for n in range(3):
        _tell(catalog, n)

    def send(event, _now):
        got.append(event["data"]["n"])
        stop.set()

    hook = Webhook(url="https://receiver.example/", secret=SECRET)
    Deliverer(catalog, "hook", hook, send, owner="one", stop=stop).step()
    _owner_died(catalog)
    Deliverer(catalog, "hook", hook, lambda event, _: got.append(event["data"]["n"]), owner="two").step()
    assert got == [0, 1, 2]


def _owner_died(catalog: Catalog) -> None:
    """So much time has passed that its lease is over."""
    with catalog.transaction() as session:
        session.get_one(WebhookRow, "hook").lease_until = 0.0


@pytest.mark.slow
def test_a_killed_sender_loses_nothing(tmp_path):
    """Killed between a delivery and its record: each event comes, one of them again, in order."""
    catalog_url = f"sqlite:///{tmp_path}/catalog.db"
    with closing(Catalog(catalog_url)) as catalog:
        _killed_and_served_again(catalog, catalog_url, tmp_path)


def _killed_and_served_again(catalog: Catalog, catalog_url: str, tmp_path: Path) -> None:
    _begun(catalog, "hook")
    with Receiver() as receiver:
        hook = {"url": receiver.url, "secret": SECRET.reveal(), "private": True}
        config = tmp_path / "bollard.toml"
        config.write_text(toml_of({"webhooks.hook": hook}))
        config.chmod(0o600)
        options = ("--no-sync", "--lease", "5")
        server = ApiProcess(tmp_path, catalog_url, *options)
        receiver.first = lambda count: server.kill_now() if count == 3 else None
        with suppress(httpx.TransportError):  # it may be dead already
            for _ in range(3):
                server.client.post("/v1/sync", params={"dry_run": True})
        receiver.wait_for(3)
        server.close()
        _owner_died(catalog)
        last = ApiProcess(tmp_path, catalog_url, *options)
        for job in last.client.get("/v1/jobs").json()["items"]:
            last.ended(f"/v1/jobs/{job['id']}")
        events = [cloud_event(event) for event in EventStream(catalog).read(limit=1000)]
        while {event["id"] for event in receiver.got} != {event["id"] for event in events}:
            receiver.wait_for(len(receiver.got) + 1)
        assert last.terminate() == 0
    assert len(receiver.got) > len(events)
    for subject in {event["subject"] for event in events}:
        came = [event["sequence"] for event in receiver.got if event["subject"] == subject]
        assert list(dict.fromkeys(came)) == sorted(set(came))
