"""Static large objects of the simulated Swift."""

import hashlib
import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from swiftclient import Connection
from swiftclient.exceptions import ClientException
from swiftclient.service import SwiftService, SwiftUploadObject
from urllib3.exceptions import ProtocolError

from bollard.simulators.swift import SwiftSimulator

KEY = "testing-key"
PARTS = [b"a" * 1000, b"b" * 1, b"c" * 700]
WHOLE = b"".join(PARTS)


@pytest.fixture
def swift(tmp_path) -> Iterator[SwiftSimulator]:
    """A running simulator."""
    with SwiftSimulator(tmp_path / "state", users={"test:tester": KEY}) as simulator:
        yield simulator


@pytest.fixture
def client(swift) -> Iterator[Connection]:
    """A client with three segments in "box" and their large object "big"."""
    connection = Connection(swift.auth_url, "test:tester", KEY, retries=0)
    connection.put_container("box")
    put_big(connection)
    yield connection
    connection.close()


def md5(data: bytes) -> str:
    """Swift's checksum."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def manifest(**changes: object) -> list[dict[str, object]]:
    """The manifest of ``PARTS``; changes go into its second entry."""
    entries: list[dict[str, object]] = [
        {"path": f"/box/s{index}", "etag": md5(part), "size_bytes": len(part)}
        for index, part in enumerate(PARTS)
    ]
    entries[1].update(changes)
    return entries


def put_manifest(client: Connection, entries: object, name: str = "big", **headers: str) -> str:
    """Puts a manifest; returns the ETag."""
    return client.put_object(
        "box", name, json.dumps(entries), headers=headers, query_string="multipart-manifest=put"
    )


def put_big(client: Connection) -> None:
    """Puts the segments and the manifest."""
    for index, part in enumerate(PARTS):
        client.put_object("box", f"s{index}", part)
    put_manifest(client, manifest())


def test_round_trip(client):
    """The object is the segments in a row; its ETag is the MD5 of their ETags."""
    headers, body = client.get_object("box", "big")
    joined = "".join(md5(part) for part in PARTS)
    assert body == WHOLE
    assert headers["etag"] == f'"{md5(joined.encode())}"'
    assert headers["x-static-large-object"] == "True"
    listed = {entry["name"]: entry["bytes"] for entry in client.get_container("box")[1]}
    assert listed["big"] == len(WHOLE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(start=st.integers(0, len(WHOLE) - 1), length=st.integers(1, len(WHOLE)))
def test_any_range_is_right(client, start, length):
    """Ranges within and across segments deliver the bytes of the whole."""
    _, body = client.get_object("box", "big", headers={"Range": f"bytes={start}-{start + length - 1}"})
    assert body == WHOLE[start : start + length]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"etag": "0" * 32}, "Etag Mismatch"),
        ({"size_bytes": 2}, "Size Mismatch"),
        ({"path": "/box/no"}, "404"),
    ],
)
def test_wrong_segment_is_refused(client, change, text):
    """Each segment's existence, ETag and size are checked when the manifest is put."""
    with pytest.raises(ClientException) as caught:
        put_manifest(client, manifest(**change), "other")
    assert caught.value.http_status == 400
    assert text in caught.value.http_response_content.decode()
    with pytest.raises(ClientException, match="404"):
        client.head_object("box", "other")


@pytest.mark.parametrize("body", [b"[]", b"{", b'[{"path": "/box"}]', b'[{"path": "/box/s0", "color": 1}]'])
def test_malformed_manifest_is_refused(client, body):
    """Not JSON, empty, or with keys that nobody knows: 400."""
    with pytest.raises(ClientException, match="400"):
        client.put_object("box", "other", body, query_string="multipart-manifest=put")


def test_etag_of_the_whole_is_checked(client):
    """A manifest PUT with another object's ETag is 422."""
    with pytest.raises(ClientException, match="422"):
        put_manifest(client, manifest(), "other", Etag="0" * 32)
    etag = client.head_object("box", "big")["etag"]
    put_manifest(client, manifest(), "other", Etag=etag)


def test_conditional_create_of_a_manifest(client):
    """If-None-Match: * holds for manifests too."""
    with pytest.raises(ClientException, match="412"):
        put_manifest(client, manifest(), "big", **{"If-None-Match": "*"})


def test_segment_ranges_and_nesting(client):
    """A segment may be a range of an object, and may itself be a large object."""
    put_manifest(client, [{"path": "box/s0", "range": "10-19"}, {"path": "box/big"}], "nested")
    assert client.get_object("box", "nested")[1] == b"a" * 10 + WHOLE


def test_missing_first_segment_is_409_and_a_later_one_breaks_the_body(client):
    """Only the first segment is checked before the status is sent, as in Swift."""
    client.delete_object("box", "s2")
    _, body = client.get_object("box", "big", headers={"Range": "bytes=0-999"})
    assert body == PARTS[0]
    with pytest.raises(ClientException, match="409"):
        client.get_object("box", "big", headers={"Range": "bytes=-1"})
    _, body = client.get_object("box", "big", resp_chunk_size=100)
    with pytest.raises(ProtocolError, match="700 more expected"):
        list(body)
    with pytest.raises(ClientException, match="409"):
        client.copy_object("box", "big", "/box/copy")


def test_overwritten_segment_is_409(client):
    """A segment that changed since is not delivered under the old ETag."""
    client.put_object("box", "s0", b"z" * 1000)
    with pytest.raises(ClientException, match="409"):
        client.get_object("box", "big")


def test_manifest_can_be_read_back_and_put_again(client):
    """multipart-manifest=get shows the manifest; format=raw is what a PUT takes."""
    _, body = client.get_object("box", "big", query_string="multipart-manifest=get")
    assert [entry["bytes"] for entry in json.loads(body)] == [len(part) for part in PARTS]
    _, raw = client.get_object("box", "big", query_string="multipart-manifest=get&format=raw")
    put_manifest(client, json.loads(raw), "again")
    assert client.get_object("box", "again")[1] == WHOLE


def test_delete_with_and_without_segments(client):
    """A plain DELETE leaves the segments, multipart-manifest=delete takes them along."""
    client.delete_object("box", "big")
    put_manifest(client, manifest())
    client.delete_object("box", "big", query_string="multipart-manifest=delete")
    assert client.get_container("box")[1] == []


def test_copy_flattens_or_copies_the_manifest(client):
    """COPY of an SLO stores its bytes; with multipart-manifest=get its manifest."""
    client.copy_object("box", "big", "/box/flat")
    source = {"X-Copy-From": "/box/big"}
    client.put_object("box", "linked", b"", headers=source, query_string="multipart-manifest=get")
    client.delete_object("box", "s0")
    assert client.get_object("box", "flat")[1] == WHOLE
    with pytest.raises(ClientException, match="409"):
        client.get_object("box", "linked")


def test_swift_service_uploads_and_downloads_in_segments(swift, tmp_path):
    """The client's own SLO upload round-trips, eight segments at once."""
    data = hashlib.shake_256(b"seed").digest(3_000_000)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    options = {
        "auth": swift.auth_url,
        "user": "test:tester",
        "key": KEY,
        "auth_version": "1",
        "segment_size": 400_000,
        "use_slo": True,
        "retries": 0,
    }
    with SwiftService(options) as service:
        results = list(service.upload("box", [SwiftUploadObject(str(source), "disk")]))
        assert [result["error"] for result in results if not result["success"]] == []
        list(service.download("box", ["disk"], {"out_file": str(target)}))
        assert target.read_bytes() == data
        assert all(result["success"] for result in service.delete("box", ["disk"]))
