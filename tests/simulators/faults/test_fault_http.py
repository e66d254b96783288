"""What a client of the HTTP fault proxy sees, without faults and with each of them."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable

import pytest

from bollard.simulators.faults import MUTATING, Exchange, Fault, FaultKind, FaultsNotHit


def ask(client: http.client.HTTPConnection, method: str = "GET", path: str = "/json", body=None, **more):
    """Status, headers and body of the answer."""
    client.request(method, path, body, **more)
    reply = client.getresponse()
    return reply.status, reply.headers, reply.read()


def breaks(client: http.client.HTTPConnection, error: type[Exception], *request: object) -> None:
    """The request ends in this error, and the client dials anew for its next one."""
    with pytest.raises(error):
        ask(client, *request)
    client.close()


# -- without faults ---------------------------------------------------------------------------------------


def test_passes_everything_on_over_one_connection(proxy, backend, client):
    """Without a plan the proxy changes nothing, keeps connections open, and counts."""
    sockets = set()
    for _ in range(3):
        status, headers, body = ask(client)
        sockets.add(client.sock)
        assert (status, json.loads(body), headers["Content-Type"]) == (
            200,
            {"answer": 42},
            "application/json",
        )
    assert len(sockets) == 1
    assert backend.hosts == [f"127.0.0.1:{proxy.port}"] * 3  # S3 signs the Host header
    assert proxy.exchanges == [Exchange(n, "GET", "/json", 200) for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("HEAD", "/json", 200), ("GET", "/empty", 204), ("GET", "/unchanged", 304)]
)
def test_replies_without_a_body(client, method, path, status):
    """HEAD, 204 and 304 have none, and the connection goes on."""
    assert ask(client, method, path)[::2] == (status, b"")
    assert ask(client)[0] == 200


def test_chunked_both_ways(client):
    """A body of unknown length arrives whole in both directions."""
    assert ask(client, path="/chunks")[2] == b"a" * 1000 + b"b" * 1000 + b"c" * 1000
    assert ask(client, "PUT", "/echo", iter([b"one", b"two"]), encode_chunked=True)[2] == b"onetwo"


def raw(proxy, request: bytes) -> socket.socket:
    """A connection on which this was sent."""
    sock = socket.create_connection(("127.0.0.1", proxy.port), timeout=20)
    sock.sendall(request)
    return sock


EXPECT = b"PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"


@pytest.mark.parametrize("plan", [[], [Fault.lose_request(9)]], ids=["streamed", "kept"])
def test_100_continue_comes_before_the_body(proxy, plan):
    """A client that waits for leave gets it, whether the request is streamed or kept."""
    proxy.plan(plan)
    with raw(proxy, EXPECT % b"/echo") as sock, sock.makefile("rb") as reader:
        assert reader.readline().startswith(b"HTTP/1.1 100")
        sock.sendall(b"data")
        assert reader.readline() == b"\r\n"
        assert reader.readline().startswith(b"HTTP/1.1 200")


def test_a_refusal_comes_instead_of_100_continue(proxy):
    """The backend's early refusal reaches a client that still holds its body back, and counts."""
    with raw(proxy, EXPECT % b"/refused") as sock, sock.makefile("rb") as reader:
        assert reader.readline().startswith(b"HTTP/1.1 412")
        assert reader.read().endswith(b"\r\n\r\nno")
    assert proxy.exchanges == [Exchange(1, "PUT", "/refused", 412)]


def test_origins_in_headers_lead_to_the_proxy(proxy, backend, client):
    """Location is rewritten; a longer port and other headers are not."""
    assert ask(client, path="/moved")[1]["Location"] == f"{proxy.url}/json?x=1"
    headers = ask(client, path="/storage")[1]
    assert (headers["X-Storage-Url"], headers["X-Other"]) == (f"{backend.url}0/v1", backend.url)


def test_many_connections_at_once(proxy, backend):
    """Twenty clients of five requests each: every one is answered and has its own number."""

    def talk() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)
        answers.extend(ask(connection, "PUT", "/echo", b"x" * 1000)[2] for _ in range(5))
        connection.close()

    answers: list[bytes] = []
    threads = [threading.Thread(target=talk) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [b"x" * 1000] * 100
    assert sorted(one.number for one in proxy.exchanges) == list(range(1, 101))


def test_a_dead_backend_is_a_broken_connection(proxy, backend, client):
    """A backend that refuses connections looks like one that died."""
    backend._server.stop()
    breaks(client, ConnectionResetError)
    assert proxy.exchanges == []


# -- each fault --------------------------------------------------------------------------------------------


def test_lose_reply(proxy, backend, client):
    """The backend did it; the client sees the connection close."""
    proxy.plan([Fault.lose_reply(2)])
    assert ask(client, "PUT")[0] == 200
    breaks(client, http.client.RemoteDisconnected, "PUT")
    assert ask(client, "PUT")[0] == 200
    assert len(backend.seen) == 3
    assert proxy.exchanges[1] == Exchange(2, "PUT", "/json", 200, FaultKind.LOSE_REPLY)
    proxy.finish()


@pytest.mark.parametrize(
    ("fault", "error", "reached"),
    [
        (Fault.lose_request(), http.client.RemoteDisconnected, 0),
        (Fault.reset(), ConnectionResetError, 0),
        (Fault.reset_after(), ConnectionResetError, 1),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_connection_dies(proxy, backend, client, fault, error, reached):
    """Lost and reset requests never reach the backend; after reset_after it has done its work."""
    proxy.plan([fault])
    breaks(client, error, "PUT", "/echo", b"x" * 3_000_000)
    assert len(backend.seen) == reached
    proxy.finish()
    assert ask(client)[0] == 200


def test_delay(proxy, client, waited):
    """The answer comes so much later, and is right."""
    proxy.plan([Fault.delay(seconds=7.5)])
    assert ask(client)[0] == 200
    assert waited == [7.5]
    proxy.finish()


def test_drip(proxy, client, waited):
    """Head and body come in small pieces; their time adds up to the pace."""
    proxy.plan([Fault.drip(bytes_per_second=100)])
    _, headers, body = ask(client)
    assert json.loads(body) == {"answer": 42}
    assert len(waited) > 10
    assert sum(waited) * 100 == pytest.approx(len(str(headers)) + len(body), abs=40)


@pytest.mark.parametrize(("path", "half"), [("/json", 7), ("/chunks", 500)])
def test_truncate(proxy, client, path, half):
    """Half of the body arrives although more was announced; of chunks half of the first."""
    proxy.plan([Fault.truncate()])
    client.request("GET", path)
    with pytest.raises(http.client.IncompleteRead) as caught:
        client.getresponse().read()
    assert len(caught.value.partial) == half
    proxy.finish()


def test_truncate_without_a_body_cuts_the_head(proxy, client):
    """There is always something to cut."""
    proxy.plan([Fault.truncate()])
    client.request("GET", "/empty")
    reply = client.getresponse()
    assert len(str(reply.headers)) < 60
    proxy.finish()


def test_garble(proxy, client):
    """The length is right, the bytes are no text at all."""
    proxy.plan([Fault.garble()])
    status, headers, body = ask(client)
    assert (status, len(body)) == (200, int(headers["Content-Length"]))
    with pytest.raises(UnicodeDecodeError):
        body.decode()
    proxy.finish()


def test_garble_of_nothing_is_not_hit(proxy, client):
    """A reply without a body cannot be garbled, and the plan says so."""
    proxy.plan([Fault.garble()])
    assert ask(client, path="/empty")[0] == 204
    assert proxy.exchanges == [Exchange(1, "GET", "/empty", 204)]
    with pytest.raises(FaultsNotHit, match=r"garble\(nth=1\) struck 0 of 1 times \(1 matching exchanges\)"):
        proxy.finish()


def test_duplicate(proxy, backend, client):
    """The backend gets it twice with the same body; the client gets one answer."""
    proxy.plan([Fault.duplicate()])
    assert ask(client, "PUT", "/echo", b"data")[2] == b"data"
    assert backend.seen == [("PUT", "/echo", 4)] * 2
    assert len(proxy.exchanges) == 1
    proxy.finish()


def test_status_twice_then_well(proxy, backend, client):
    """429 with Retry-After as often as planned, without the backend, over a connection that stays."""
    proxy.plan([Fault.status(1, 429, retry_after=3, times=2)])
    assert [ask(client, "POST", "/json", b"x")[0] for _ in range(3)] == [429, 429, 200]
    assert len(backend.seen) == 1
    proxy.plan([Fault.status(code=503, retry_after=3)])
    status, headers, _ = ask(client, "HEAD")
    assert (status, headers["Retry-After"]) == (503, "3")
    proxy.finish()


def test_html_login_page(proxy, backend, client):
    """200, but somebody else speaks."""
    proxy.plan([Fault.html_login_page()])
    status, headers, body = ask(client)
    assert (status, headers.get_content_type(), body[:9]) == (200, "text/html", b"<!doctype")
    assert backend.seen == []


def test_wrong_content_type(proxy, client):
    """The true bytes under a false name."""
    proxy.plan([Fault.wrong_content_type(content_type="text/csv")])
    _, headers, body = ask(client)
    assert headers.get_all("Content-Type") == ["text/csv"]
    assert json.loads(body) == {"answer": 42}


def test_redirect(proxy, backend, client):
    """The client is sent to another host with the same target."""
    proxy.plan([Fault.redirect(to="https://elsewhere.invalid/")])
    status, headers, _ = ask(client, path="/json?a=b")
    assert (status, headers["Location"]) == (307, "https://elsewhere.invalid/json?a=b")
    assert backend.seen == []


def test_black_hole(proxy, backend):
    """Nothing comes, until the client gives up."""
    proxy.plan([Fault.black_hole()])
    client = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=0.2)
    breaks(client, TimeoutError)
    assert backend.seen == []
    proxy.finish()


def test_refuse_resets_new_connections(proxy, client):
    """A kept connection is hung up, the next one is reset, the one after works."""
    assert ask(client)[0] == 200
    proxy.plan([Fault.refuse()])
    client.close()
    breaks(client, ConnectionResetError)
    assert ask(client)[0] == 200
    proxy.finish()


def test_connection_faults_hang_up_idle_clients(proxy, client):
    """A client that keeps its connection open must come anew, so that the fault can strike."""
    assert ask(client)[0] == 200
    proxy.plan([Fault.refuse()])
    assert client.sock.recv(1) == b""


def test_refusing_closes_the_port(proxy, client):
    """Meanwhile the kernel refuses; afterwards the same port serves."""
    with proxy.refusing():
        breaks(client, ConnectionRefusedError)
    assert ask(client)[0] == 200


# -- selection -----------------------------------------------------------------------------------------------


def struck(proxy) -> list[int]:
    """The numbers of the exchanges that a fault struck."""
    return [one.number for one in proxy.exchanges if one.fault]


@pytest.mark.parametrize(
    ("fault", "numbers"),
    [
        (Fault.status(2), [2]),
        (Fault.status(2, times=3), [2, 3, 4]),
        (Fault.status(2, every=3), [2, 5, 8]),
        (Fault.status(1, every=4, times=2), [1, 5]),
        (Fault.status(2, method=MUTATING), [4]),
        (Fault.status(1, path=r"\?n=[67]$", times=2), [6, 7]),
        (Fault.status(1, method="PUT", path="n=1"), []),
    ],
    ids=str,
)
def test_selection(proxy, client, fault, numbers):
    """Only matching exchanges count, and only the planned ones are struck."""
    proxy.plan([fault])
    for number in range(1, 9):
        ask(client, "GET" if number % 2 else "PUT", f"/json?n={number}")
    assert struck(proxy) == numbers
    assert bool(proxy.not_hit()) == (not numbers)


def test_a_plan_counts_from_zero(proxy, client):
    """Each plan forgets what came before; clear() disarms."""
    ask(client)
    proxy.plan([Fault.status(1)])
    assert proxy.exchanges == []
    assert ask(client)[0] == 503
    proxy.plan([Fault.status(1)])
    proxy.clear()
    assert ask(client)[0] == 200
    proxy.finish()


def test_first_of_two_due_faults_strikes(proxy, client):
    """Two faults on one exchange: the second is named as not hit."""
    proxy.plan([Fault.status(1), Fault.garble(1)])
    assert ask(client)[0] == 503
    with pytest.raises(FaultsNotHit) as caught:
        proxy.finish()
    assert [one.partition("(")[0] for one in caught.value.faults] == ["garble"]


def test_secrets_in_targets_are_not_kept(proxy, client):
    """A presigned URL's signature is in no record."""
    ask(client, path="/json?X-Amz-Signature=hunter2&n=1")
    assert proxy.exchanges[0].path == "/json?X-Amz-Signature=...&n=1"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fault.status(0),
        lambda: Fault.status(code=99),
        lambda: Fault.delay(seconds=-1),
        lambda: Fault.drip(bytes_per_second=0),
        lambda: Fault.redirect(to=""),
        lambda: Fault.status(path="("),
    ],
)
def test_nonsense_is_refused(make: Callable[[], Fault]):
    """A fault that could not happen is an error when it is written down."""
    with pytest.raises(ValueError, match=r"must|count|needs|regular"):
        make()


def test_certificates_need_tls(proxy):
    """A proxy without TLS has no certificate faults, and says what it has."""
    with pytest.raises(ValueError, match="no expired_certificate: choose from black_hole"):
        proxy.plan([Fault.expired_certificate()])
