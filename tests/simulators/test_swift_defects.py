"""Each switch of the Swift simulator breaks what it says, and nothing when it is off."""

import ssl
import time
from collections.abc import Iterator

import httpx
import pytest

from bollard.simulators.swift import SwiftSimulator

# Without it each client loads the CA certificates, which takes 100 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

KEY = "testing-key"

# One client per module: each httpx.get() would load the CA certificates anew (50 ms); nothing stays open.
HTTP = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0))

NOW = [0.0]


@pytest.fixture
def swift(tmp_path) -> Iterator[SwiftSimulator]:
    """A running simulator whose clock the test moves."""
    NOW[0] = 1_800_000_000.0
    with SwiftSimulator(tmp_path, users={"test:tester": KEY}, clock=lambda: NOW[0]) as simulator:
        yield simulator


@pytest.fixture
def http(swift) -> Iterator[httpx.Client]:
    """A client of the account with the container "box" that holds "o"."""
    sign_in = {"X-Auth-User": "test:tester", "X-Auth-Key": KEY}
    reply = HTTP.get(f"{swift.url}/auth/v1.0", headers=sign_in)
    token = {"X-Auth-Token": reply.headers["X-Auth-Token"]}
    with httpx.Client(verify=NO_TLS, base_url=reply.headers["X-Storage-Url"], headers=token) as client:
        client.put("/box")
        client.put("/box/o", content=b"x" * 1000)
        yield client


def test_switches_over_http(swift, http):
    """PUT /sim/defects changes some switches and answers with all; nonsense changes none."""
    reply = HTTP.put(f"{swift.url}/sim/defects", json={"unavailable": 2, "latency": 0})
    assert reply.json()["unavailable"] == 2
    for wrong in ({"nonsense": 1}, {"unavailable": -1}, {"unavailable": True}, {"etag_not_checked": 1}, [1]):
        assert HTTP.put(f"{swift.url}/sim/defects", json=wrong).status_code == 400
    assert [http.get("/box/o").status_code for _ in range(3)] == [503, 503, 200]
    assert HTTP.get(f"{swift.url}/sim/defects").json() == swift.defects.as_dict()


def test_listing_lag(swift, http):
    """A put object is readable at once but listed late; a deleted one is listed for a while."""
    swift.defects.update({"listing_lag": 30})
    http.put("/box/new", content=b"data")
    http.delete("/box/o")
    assert http.get("/box/new").content == b"data"
    assert http.get("/box/o").status_code == 404
    assert http.get("/box").text == "o\n"
    NOW[0] += 31
    assert http.get("/box").text == "new\n"


def test_corrupt_first_read_then_quarantine(swift, http):
    """One GET delivers a flipped bit with 200; then the object is gone but still listed."""
    swift.defects.update({"corrupt_first_read": 1})
    assert http.head("/box/o").status_code == 200
    reply = http.get("/box/o")
    assert (reply.status_code, len(reply.content)) == (200, 1000)
    assert sum(byte != ord("x") for byte in reply.content) == 1
    assert http.get("/box/o").status_code == 404
    assert http.get("/box").text == "o\n"
    http.put("/box/o", content=b"repaired")
    assert http.get("/box/o").content == b"repaired"


def test_drop_connection_midway(swift, http):
    """A GET breaks off after half of its bytes, a PUT is reset and stores nothing."""
    swift.defects.update({"drop_connection_midway": 2})
    received = []
    with http.stream("GET", "/box/o") as reply, pytest.raises(httpx.TransportError):
        received.extend(reply.iter_raw())
    assert len(b"".join(received)) <= 500
    with pytest.raises(httpx.TransportError):
        http.put("/box/new", content=b"x" * 1_000_000)
    assert http.get("/box/new").status_code == 404
    assert http.get("/box/o").status_code == 200


def test_lost_reply(swift, http):
    """The object is stored although the client saw a reset."""
    swift.defects.update({"lost_reply": 1})
    with pytest.raises(httpx.TransportError):
        http.put("/box/new", content=b"data")
    assert http.get("/box/new").content == b"data"


def test_short_body(swift, http):
    """Half of the bytes come as if they were all."""
    swift.defects.update({"short_body": 1})
    reply = http.get("/box/o")
    assert (reply.status_code, reply.content) == (200, b"x" * 500)
    assert http.get("/box/o").content == b"x" * 1000


def test_conditions_and_etags_can_be_ignored(swift, http):
    """A conditional create overwrites and a wrong ETag is stored while the switches are on."""
    condition, etag = {"If-None-Match": "*"}, {"Etag": "0" * 32}
    assert http.put("/box/o", content=b"y", headers=condition).status_code == 412
    assert http.put("/box/o", content=b"y", headers=etag).status_code == 422
    swift.defects.update({"put_ignores_if_none_match": True, "etag_not_checked": True})
    assert http.put("/box/o", content=b"y", headers=condition).status_code == 201
    assert http.put("/box/o", content=b"z", headers=etag).status_code == 201


def test_tokens_can_be_revoked(swift, http):
    """token_expires_now makes the tokens given so far invalid, once."""
    swift.defects.update({"token_expires_now": True})
    assert http.get("/box/o").status_code == 401
    sign_in = {"X-Auth-User": "test:tester", "X-Auth-Key": KEY}
    token = HTTP.get(f"{swift.url}/auth/v1.0", headers=sign_in).headers["X-Auth-Token"]
    assert http.get("/box/o", headers={"X-Auth-Token": token}).status_code == 200


def test_latency(swift, http):
    """Each request takes at least the latency that is set."""
    swift.defects.update({"latency": 0.15})
    begin = time.monotonic()
    assert http.get("/box/o").status_code == 200
    assert time.monotonic() - begin >= 0.15
