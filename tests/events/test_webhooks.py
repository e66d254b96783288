"""Webhooks: at least once, in order per object, signed, and only where they are allowed to go."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from sqlalchemy import select

from bollard.core.catalog import publish
from bollard.core.event_stream import Deliverer, EventStream, Webhook, WebhookService, webhooks_of
from bollard.core.event_stream.guarded import addresses_of
from bollard.core.event_stream.sending import Sender, signature
from bollard.core.event_stream.tables import PendingRow, WebhookRow
from bollard.core.spi import Conflict, Internal, InvalidArgument, PermissionDenied, Unavailable
from bollard.transfer_objects import Secret

pytest_plugins = ["catalog_fixture"]

SECRET = Secret("correct-horse-battery")
HOOK = Webhook(url="https://receiver.example/", secret=SECRET, attempts=3)
SOON = 20.0


class Receiver:
    """Notes what arrives; refuses, or is not there, as told."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.refuses: set[str] = set()
        self.away = False

    def __call__(self, event, _now: float) -> None:
        """Take a delivery."""
        if self.away:
            raise Unavailable("nobody is there")
        if event["subject"] in self.refuses:
            raise Internal("the receiver answered 500")
        self.got.append(f"{event['subject']}:{event['data']['n']}")


@pytest.fixture
def receiver() -> Receiver:
    """Where events go."""
    return Receiver()


class Rig:
    """A deliverer with a clock."""

    def __init__(self, catalog, receiver, owner="d1", hook=HOOK, rig=None) -> None:
        self.catalog = catalog
        self.time = rig.time if rig else [1000.0]
        clock = lambda: self.time[0]  # noqa: E731 - one expression
        self.deliverer = Deliverer(
            catalog, "hook", hook, receiver, owner=owner, clock=clock, jitter=lambda: 1.0
        )

    def tell(self, subject: str, n: int) -> None:
        """Something happens."""
        with self.catalog.transaction() as session:
            publish(session, "thing", subject, "Happened", {"n": n})

    def rows(self, kind):
        """Rows of a table."""
        with self.catalog.reading() as session:
            return session.scalars(select(kind)).all()


@pytest.fixture
def rig(catalog, receiver) -> Rig:
    """A deliverer that has begun: what happens from now on is delivered."""
    made = Rig(catalog, receiver)
    made.deliverer.step()
    return made


def test_events_arrive_in_order(rig, receiver):
    """What happens is delivered once and in order; what happened before the webhook was there is not."""
    for n in range(3):
        rig.tell("a", n)
    assert rig.deliverer.step()
    assert not rig.deliverer.step()

    assert receiver.got == ["thing/a:0", "thing/a:1", "thing/a:2"]


def test_a_refused_event_holds_up_its_own_object_only(rig, receiver):
    """Later events of the same object wait behind it, those of others do not; then all come in order."""
    receiver.refuses = {"thing/a"}
    for n in range(3):
        rig.tell("a", n)
        rig.tell("b", n)
    rig.deliverer.step()
    assert receiver.got == ["thing/b:0", "thing/b:1", "thing/b:2"]

    receiver.refuses.clear()
    for _ in range(4):
        rig.time[0] += 10
        rig.deliverer.step()
    assert receiver.got[3:] == ["thing/a:0", "thing/a:1", "thing/a:2"]
    assert rig.rows(PendingRow) == []


def test_what_is_always_refused_is_given_up_and_kept(rig, receiver):
    """After three refusals an event is a dead letter with its reason, and its object's next one comes."""
    receiver.refuses = {"thing/a"}
    rig.tell("a", 0)
    rig.tell("a", 1)
    rig.deliverer.step()
    for _ in range(2):
        rig.time[0] += 100
        rig.deliverer.step()
    receiver.refuses.clear()
    rig.time[0] += 100
    rig.deliverer.step()

    assert receiver.got == ["thing/a:1"]
    [dead] = rig.rows(PendingRow)
    assert (dead.dead, dead.attempts, dead.error) == (True, 3, "internal: the receiver answered 500")


def test_a_receiver_that_is_away_costs_no_event(rig, receiver):
    """Nothing is given up while nobody is there, and the pauses grow."""
    receiver.away = True
    rig.tell("a", 0)
    for _ in range(20):
        rig.deliverer.step()
        rig.time[0] += 4
    [row] = rig.rows(WebhookRow)
    assert 3 <= row.failures <= 5

    receiver.away = False
    rig.time[0] += 4000
    rig.deliverer.step()
    assert receiver.got == ["thing/a:0"]


def test_one_delivers_at_a_time(rig, receiver, catalog):
    """A second deliverer waits until the first one's lease has passed; then the first one has lost."""
    second = Rig(catalog, receiver, owner="d2", rig=rig)
    rig.tell("a", 0)
    assert not second.deliverer.step()

    class Slow(Receiver):
        def __call__(self, event, now):
            """Be so slow that another one takes over."""
            super().__call__(event, now)
            rig.time[0] += 1000
            second.deliverer.step()

    slow = Slow()
    rig.deliverer._send = slow
    with pytest.raises(Conflict):
        rig.deliverer.step()
    assert receiver.got == slow.got == ["thing/a:0"]


def test_only_wanted_types(catalog, receiver):
    """A webhook gets the types that it names."""
    hook = Webhook(url="https://r.example/", secret=SECRET, types="bollard.other. bollard.thing.H")
    rig = Rig(catalog, receiver, hook=hook)
    rig.deliverer.step()
    rig.tell("a", 0)
    with catalog.transaction() as session:
        publish(session, "third", "x", "Happened", {"n": 1})
    rig.deliverer.step()

    assert receiver.got == ["thing/a:0"]


def test_signature_is_that_of_standard_webhooks():
    """HMAC-SHA256 over id, timestamp and body; a whsec_ secret is base64."""
    expected = hmac.new(b"k" * 24, b"id-1.1700000000.{}", hashlib.sha256).digest()
    for secret in ("k" * 24, "whsec_" + base64.b64encode(b"k" * 24).decode()):
        said = signature(Secret(secret), "id-1", 1700000000, b"{}")
        assert said == "v1," + base64.b64encode(expected).decode()


class _Server(ThreadingHTTPServer):
    got: list
    arrived: threading.Event


@pytest.fixture
def server():
    """A real HTTP server that keeps what it is sent, and answers as told."""
    got: list = []
    arrived = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            """Keep it."""
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append((dict(self.headers.items()), body))
            self.send_response(302 if self.path == "/moved" else 204)
            self.send_header("location", "/")
            self.end_headers()
            arrived.set()

        def log_message(self, *_arguments):
            """Be quiet."""

    with _Server(("127.0.0.1", 0), Handler) as serving:
        serving.got, serving.arrived = got, arrived
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def test_a_real_delivery_can_be_verified(catalog, server):
    """The service delivers over HTTP what a receiver can check with the secret alone."""
    raw = {"url": f"http://127.0.0.1:{server.server_port}/", "secret": SECRET.reveal(), "private": True}
    hooks = webhooks_of({"here": raw})
    stream = EventStream(catalog)
    with WebhookService(catalog, hooks, poll=0.02):
        while not Rig(catalog, None).rows(WebhookRow):
            assert not server.arrived.wait(0.02)
        with catalog.transaction() as session:
            publish(session, "thing", "a", "Happened", {"n": 1})
        assert server.arrived.wait(SOON)
    headers, body = server.got[0]
    [event] = stream.read()

    timestamp = int(headers["webhook-timestamp"])
    assert headers["webhook-signature"] == signature(SECRET, event.id, timestamp, body)
    assert headers["content-type"].startswith("application/cloudevents+json")
    assert json.loads(body)["id"] == headers["webhook-id"] == event.id
    assert SECRET.reveal() not in str(server.got)


def test_redirects_are_refusals(server):
    """A receiver cannot send us elsewhere."""
    url = f"http://127.0.0.1:{server.server_port}/moved"
    sender = Sender(Webhook(url=url, secret=SECRET, private=True))
    with pytest.raises(Internal, match="302"):
        sender({"id": "x"}, 0.0)
    sender.close()
    assert len(server.got) == 1


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "10.0.0.1",
        "169.254.169.254",
        "192.168.1.1",
        "::1",
        "fe80::1",
        "::ffff:10.0.0.1",
        "0.0.0.0",  # noqa: S104 - refused
        "224.0.0.1",
        "100.64.0.1",
        "64:ff9b::10.0.0.1",
        "2002:a00:1::",
    ],
)
def test_private_addresses_are_refused(host):
    """No delivery reaches this machine, its network or a cloud's metadata unless the webhook says so."""
    with pytest.raises(PermissionDenied):
        addresses_of(host, 443, private=False)


def test_the_guard_stands_before_the_connection(server):
    """A webhook without `private` does not reach a loopback server, though it is there."""
    sender = Sender(Webhook(url=f"https://127.0.0.1:{server.server_port}/", secret=SECRET))
    with pytest.raises(PermissionDenied):
        sender({"id": "x"}, 0.0)
    sender.close()
    assert server.got == []


@pytest.mark.parametrize(
    "raw",
    [
        {"url": "http://r.example/", "secret": "s" * 16},
        {"url": "ftp://r.example/", "secret": "s" * 16, "private": True},
        {"url": "https://u:hunter2hunter2@r.example/", "secret": "s" * 16},
        {"url": "https://r.example/", "secret": "short-hunter2"},
        {"url": "https://r.example/", "secret": "whsec_aHVudGVyMg=="},
        {"url": "https://r.example/", "secret": "whsec_" + "!" * 32 + "hunter2"},
        {"url": "https://r.example/", "secret": "s" * 16, "timeout": 60.0},
        {"url": "https://r.example:99999/", "secret": "s" * 16},
        {"url": "https://[::1/", "secret": "s" * 16},
        {"url": "https://r.example/"},
        {"url": "https://r.example/", "secret": "s" * 16, "nope": 1},
    ],
)
def test_bad_webhooks_are_refused(raw):
    """The refusal names the webhook, never a secret."""
    with pytest.raises(InvalidArgument, match="billing") as refused:
        webhooks_of({"billing": raw})
    assert "hunter2" not in str(refused.value)
