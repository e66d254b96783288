"""The simulated Swift as python-swiftclient sees it."""

import hashlib
import http.client
import ssl
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from swiftclient import Connection
from swiftclient.exceptions import ClientException

from bollard.simulators.swift import SwiftSimulator

# Without it each client loads the CA certificates, which takes 100 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

KEY = "testing-key"

# One client per module: each httpx.get() would load the CA certificates anew (50 ms); nothing stays open.
HTTP = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0))

NOW = [1_800_000_000.0]


@pytest.fixture
def swift(tmp_path) -> Iterator[SwiftSimulator]:
    """A running simulator whose clock the test moves."""
    NOW[0] = 1_800_000_000.0
    users = {"test:tester": KEY, "other:someone": KEY}
    with SwiftSimulator(tmp_path, users=users, clock=lambda: NOW[0]) as simulator:
        yield simulator


@pytest.fixture
def client(swift) -> Iterator[Connection]:
    """A signed-in client with the container "box"."""
    connection = Connection(swift.auth_url, "test:tester", KEY, retries=0)
    connection.put_container("box")
    yield connection
    connection.close()


def refused(call: Callable[[], object]) -> int:
    """The HTTP status that the call was refused with."""
    with pytest.raises(ClientException) as caught:
        call()
    return int(caught.value.http_status)


def test_object_round_trip_keeps_bytes_etag_and_metadata(client):
    """What was put comes back with its MD5, its type and its metadata."""
    data = bytes(range(256)) * 5000
    etag = client.put_object(
        "box", "a/b//c ü%2F", data, content_type="x/y", headers={"X-Object-Meta-Disk": "7"}
    )
    headers, body = client.get_object("box", "a/b//c ü%2F")
    assert body == data
    assert etag == headers["etag"] == hashlib.md5(data, usedforsecurity=False).hexdigest()
    assert (headers["content-type"], headers["x-object-meta-disk"]) == ("x/y", "7")
    assert int(client.head_object("box", "a/b//c ü%2F")["content-length"]) == len(data)


def test_wrong_key_bad_token_and_foreign_account_are_refused(swift, client):
    """401 without valid credentials, 403 for another account."""
    assert refused(lambda: Connection(swift.auth_url, "test:tester", "wrong", retries=0).get_auth()) == 401
    url, token = client.get_auth()
    assert HTTP.get(url, headers={"X-Auth-Token": "nonsense"}).status_code == 401
    assert HTTP.get(f"{swift.url}/v1/AUTH_other", headers={"X-Auth-Token": token}).status_code == 403


def test_token_expires(swift, client):
    """A token works for its life time and not longer."""
    url, token = client.get_auth()
    assert HTTP.get(url, headers={"X-Auth-Token": token}).status_code == 200
    NOW[0] += 86_401
    assert HTTP.get(url, headers={"X-Auth-Token": token}).status_code == 401


def test_conditional_create_never_overwrites(client):
    """If-None-Match: * creates once; an ETag there is not supported, as in Swift."""
    client.put_object("box", "o", b"first", headers={"If-None-Match": "*"})
    assert refused(lambda: client.put_object("box", "o", b"second", headers={"If-None-Match": "*"})) == 412
    assert refused(lambda: client.put_object("box", "o", b"x", headers={"If-None-Match": "abc"})) == 400
    assert client.get_object("box", "o")[1] == b"first"


def test_wrong_etag_stores_nothing(client):
    """A PUT whose bytes differ from its ETag is refused with 422 and leaves no object."""
    assert refused(lambda: client.put_object("box", "o", b"data", etag="0" * 32)) == 422
    assert refused(lambda: client.head_object("box", "o")) == 404
    assert client.get_container("box")[1] == []


@pytest.mark.parametrize(
    ("asked", "status", "expected"),
    [
        ("bytes=0-3", 206, b"0123"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=8-99", 206, b"89"),
        ("bytes=10-", 416, b""),
        ("bytes=5-2", 200, b"0123456789"),
    ],
)
def test_single_ranges(client, asked, status, expected):
    """Ranges deliver exactly their bytes; one behind the end is 416, a senseless one is ignored."""
    client.put_object("box", "o", b"0123456789")
    url, token = client.get_auth()
    reply = HTTP.get(f"{url}/box/o", headers={"X-Auth-Token": token, "Range": asked})
    assert (reply.status_code, reply.content) == (status, expected)


def test_several_ranges_come_as_multipart(client):
    """Each range of a multi-range GET is a part with its own Content-Range."""
    client.put_object("box", "o", b"0123456789")
    headers, body = client.get_object("box", "o", headers={"Range": "bytes=0-1,8-9"})
    assert headers["content-type"].startswith("multipart/byteranges")
    assert b"Content-Range: bytes 0-1/10\r\n\r\n01\r\n" in body
    assert b"Content-Range: bytes 8-9/10\r\n\r\n89\r\n" in body


def test_reads_may_depend_on_the_etag(client):
    """If-Match refuses a changed object, If-None-Match saves an unchanged one."""
    etag = client.put_object("box", "o", b"data")
    assert refused(lambda: client.get_object("box", "o", headers={"If-Match": "0" * 32})) == 412
    assert refused(lambda: client.get_object("box", "o", headers={"If-None-Match": etag})) == 304


def test_listing_pages_and_groups(client):
    """Prefix, marker, end marker, limit and delimiter select as Swift does; totals are in the headers."""
    for name in ("a", "b/1", "b/2", "b/c/3", "d"):
        client.put_object("box", name, b"xy")

    def names(**query):
        return [entry.get("name") or entry["subdir"] for entry in client.get_container("box", **query)[1]]

    assert names() == ["a", "b/1", "b/2", "b/c/3", "d"]
    assert names(limit=2) == ["a", "b/1"]
    assert names(marker="b/1", end_marker="d") == ["b/2", "b/c/3"]
    assert names(delimiter="/") == ["a", "b/", "d"]
    assert names(delimiter="/", marker="b/") == ["d"]
    assert names(delimiter="/", prefix="b/") == ["b/1", "b/2", "b/c/"]
    assert names(limit=2, full_listing=True) == names()
    head = client.head_container("box")
    assert (head["x-container-object-count"], head["x-container-bytes-used"]) == ("5", "10")
    assert refused(lambda: client.get_container("box", limit=10_001)) == 412


def test_plain_listings(client):
    """Without JSON a listing is one name per line, and 204 when it is empty."""
    url, token = client.get_auth()
    assert HTTP.get(f"{url}/box", headers={"X-Auth-Token": token}).status_code == 204
    client.put_object("box", "one", b"")
    assert HTTP.get(f"{url}/box", headers={"X-Auth-Token": token}).text == "one\n"
    assert HTTP.get(url, headers={"X-Auth-Token": token}).text == "box\n"


def test_containers_are_made_once_and_deleted_only_when_empty(client):
    """PUT twice is fine; DELETE of a full one is 409, of a missing one 404."""
    client.put_container("box", headers={"X-Container-Meta-Use": "archive"})
    assert client.head_container("box")["x-container-meta-use"] == "archive"
    client.put_object("box", "o", b"")
    assert refused(lambda: client.delete_container("box")) == 409
    client.delete_object("box", "o")
    client.delete_container("box")
    assert refused(lambda: client.delete_container("box")) == 404
    assert refused(lambda: client.put_object("box", "o", b"")) == 404
    assert refused(lambda: client.get_container("box")) == 404


def test_post_replaces_metadata(client):
    """POST sets the user metadata anew and keeps the content."""
    client.put_object("box", "o", b"data", content_type="x/y", headers={"X-Object-Meta-Old": "1"})
    client.post_object("box", "o", {"X-Object-Meta-New": "2"})
    headers, body = client.get_object("box", "o")
    assert body == b"data"
    assert headers["x-object-meta-new"] == "2"
    assert "x-object-meta-old" not in headers
    assert headers["content-type"] == "x/y"


def test_copy_both_ways(client):
    """COPY and PUT with X-Copy-From duplicate bytes and metadata."""
    client.put_object("box", "o", b"data", headers={"X-Object-Meta-A": "1"})
    client.copy_object("box", "o", "/box/p", headers={"X-Object-Meta-B": "2"})
    client.put_object("box", "q", b"", headers={"X-Copy-From": "/box/p"})
    headers, body = client.get_object("box", "q")
    assert (body, headers["x-object-meta-a"], headers["x-object-meta-b"]) == (b"data", "1", "2")
    assert refused(lambda: client.copy_object("box", "missing", "/box/r")) == 404


def test_expiring_objects_vanish(client, tmp_path):
    """X-Delete-After removes the object from reads, listings and disk."""
    client.put_object("box", "o", b"data", headers={"X-Delete-After": "60"})
    assert client.head_object("box", "o")["x-delete-at"] == str(int(NOW[0]) + 60)
    NOW[0] += 61
    assert refused(lambda: client.get_object("box", "o")) == 404
    assert client.get_container("box")[1] == []
    assert list((tmp_path / "blobs").iterdir()) == []


def test_limits_of_names_and_metadata(client):
    """Names and metadata beyond Swift's limits are 400."""
    assert refused(lambda: client.put_object("box", "n" * 1025, b"")) == 400
    assert refused(lambda: client.put_container("c" * 257)) == 400
    assert refused(lambda: client.put_object("box", "o", b"", headers={"X-Object-Meta-A": "v" * 257})) == 400


def test_bulk_delete_reports_what_was_there(client):
    """Bulk delete answers 200 with counts."""
    client.put_object("box", "a b", b"")
    _, body = client.post_account(
        {"Accept": "application/json"}, query_string="bulk-delete", data=b"box/a%20b\nbox/missing\n"
    )
    assert b'"Number Deleted": 1' in body
    assert b'"Number Not Found": 1' in body


def test_upload_without_length_or_without_end(client):
    """A PUT needs a length or chunks; chunks of unknown total work."""
    client.put_object("box", "chunked", iter([b"ab", b"cd"]))
    assert client.get_object("box", "chunked")[1] == b"abcd"
    url, token = client.get_auth()
    parts = urlsplit(url)
    raw = http.client.HTTPConnection(parts.hostname, parts.port)
    raw.putrequest("PUT", f"{parts.path}/box/o")
    raw.putheader("X-Auth-Token", token)
    raw.endheaders()
    assert raw.getresponse().status == 411
    raw.close()


def test_connections_stay_open(client):
    """Many requests travel over one TCP connection, refused uploads included."""
    url, token = client.get_auth()
    with httpx.Client(verify=NO_TLS, headers={"X-Auth-Token": token}) as one:
        seen = set()
        for step in range(10):
            etag = {"Etag": "0" * 32} if step % 2 else {}
            with one.stream("PUT", f"{url}/box/o{step}", content=b"x" * 300_000, headers=etag) as reply:
                seen.add(reply.extensions["network_stream"].get_extra_info("client_addr"))
                assert reply.status_code == (422 if step % 2 else 201)
                reply.read()
    assert len(seen) == 1


def test_info_names_the_features(client):
    """/info tells limits and middlewares."""
    info = client.get_capabilities()
    assert info["slo"]["max_manifest_segments"] == 1000
    assert info["swift"]["container_listing_limit"] == 10_000
