"""What S3 and Swift do to a driver when they are throttled, cut off, restarted or wrong."""

from __future__ import annotations

import base64
import gc
import hashlib
import logging
import os
import socket
import sys
import time
import traceback
import uuid
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from bollard.core.spi import (
    Body,
    Busy,
    Call,
    Conflict,
    DataLoss,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    Outcome,
    PermissionDenied,
    StorageError,
    Unauthenticated,
    Unavailable,
)

if TYPE_CHECKING:
    from .conftest import Store

MIB = 1024 * 1024
PART = 5 * MIB // 4  # as in conftest.py
LARGE = os.urandom(2 * PART + 12345 + MIB)
SMALL = os.urandom(70_000)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off is drawn from milliseconds here."""
    monkeypatch.setattr("bollard.drivers.secondary._retry._backoff", lambda _: 0.001)


@pytest.mark.parametrize("act", ["503", "429", "500", "reset", "lost"])
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_put_survives_passing_faults(remote: Store, call: Call, act: str, data: bytes) -> None:
    """Throttling, a reset in the middle and a lost answer, each on two requests, cost a retry only."""
    assert remote.faults
    remote.faults.add(act, "PUT", times=2)
    remote.faults.add(act, "POST", times=1)
    remote.driver.put("a/k", Body.of(data), call)
    # An upload that was begun but whose answer was lost is a leftover; the object is none.
    remote.driver.abort_uploads("", call, older_than=0)
    assert b"".join(remote.driver.get("a/k", call)) == data


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_lost_answer_to_a_conditional_put_is_no_conflict(remote: Store, call: Call, data: bytes) -> None:
    """The retry finds an object under the key (412) and sees by its token that it is its own."""
    assert remote.faults
    commit = {"s3": "POST", "swift": "PUT"}[remote.kind] if data is LARGE else "PUT"
    remote.faults.add("lost", commit, "multipart-manifest|uploadId" if data is LARGE else "")
    assert remote.driver.put("k", Body.of(data), call, if_absent=True).size == len(data)
    assert not any(rule.times for rule in remote.faults.rules)
    assert b"".join(remote.driver.get("k", call)) == data


def test_a_lost_answer_does_not_hide_a_real_conflict(remote: Store, call: Call) -> None:
    """Bytes and digest may even be equal: another put's object is a conflict."""
    assert remote.faults
    remote.driver.put("k", Body.of(SMALL), call, if_absent=True)
    remote.faults.add("lost", "PUT")
    with pytest.raises(Conflict):
        remote.driver.put("k", Body.of(SMALL), call, if_absent=True)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_put_that_fails_for_good_says_so(remote: Store, call: Call, data: bytes) -> None:
    """Attempts run out: typed, of unknown outcome, nothing visible, and parts are found later if any."""
    assert remote.faults
    remote.faults.add("reset", "PUT", times=100)
    with pytest.raises(Unavailable) as caught:
        remote.driver.put("k", Body.of(data), call)
    assert caught.value.outcome is Outcome.UNKNOWN
    remote.faults.rules.clear()
    remote.driver.abort_uploads("", call, older_than=0)
    assert not remote.names()


def test_throttling_for_good_is_busy(remote: Store, call: Call) -> None:
    """429 to the end gives Busy, which core may retry later."""
    assert remote.faults
    remote.faults.add("429", "PUT", times=100)
    with pytest.raises(Busy):
        remote.driver.put("k", Body.of(SMALL), call)


def test_a_changed_upload_is_noticed(remote: Store, call: Call) -> None:
    """A bit that flips on the way in gives DataLoss, and the object isn't there."""
    assert remote.faults
    remote.faults.add("flip-up", "PUT", "/k")
    with pytest.raises(DataLoss):
        remote.driver.put("k", Body.of(SMALL), call)
    assert not remote.names()
    remote.faults.add("flip-up", "PUT", "/k")
    with pytest.raises(DataLoss):
        remote.driver.put("k", Body.of(LARGE), call)
    assert not remote.names()


def test_a_changed_download_is_noticed(remote: Store, call: Call) -> None:
    """A bit that flips on the way out, or at rest, gives DataLoss before the last bytes are handed out."""
    assert remote.faults
    remote.driver.put("k", Body.of(LARGE), call)
    remote.faults.add("flip", "GET", "/k")
    got: list[bytes] = []
    with pytest.raises(DataLoss):
        got.extend(remote.driver.get("k", call))
    assert sum(map(len, got)) < len(LARGE)


@pytest.mark.parametrize("whole", [True, False])
def test_a_cut_download_never_ends_early(remote: Store, call: Call, *, whole: bool) -> None:
    """[store.get-exact] A connection that breaks in the middle gives Unavailable, never a short body."""
    assert remote.faults
    remote.driver.put("k", Body.of(LARGE), call)
    remote.faults.add("cut", "GET", "/k")
    with pytest.raises(Unavailable):
        list(
            remote.driver.get("k", call) if whole else remote.driver.get("k", call, offset=5, length=2 * MIB)
        )


def test_reads_and_listings_are_retried(remote: Store, call: Call) -> None:
    """Two refused requests of each kind pass unseen."""
    assert remote.faults
    remote.driver.put("a/k", Body.of(SMALL), call)
    for method in ("HEAD", "GET", "DELETE"):
        remote.faults.add("503", method, "archive", times=2)
        remote.faults.add("lost", method, "archive")
    assert remote.driver.head("a/k", call).size == len(SMALL)
    assert [o.key for o in remote.driver.list("a/", call).items] == ["a/k"]
    assert b"".join(remote.driver.get("a/k", call)) == SMALL
    remote.driver.delete("a/k", call)
    assert not remote.names()


def test_the_deadline_beats_the_retries(remote: Store) -> None:
    """A server that asks to wait longer than the call has gets its error back at once."""
    assert remote.faults
    remote.faults.add("503", "HEAD", times=100)
    with pytest.raises((Unavailable, DeadlineExceeded)):
        remote.driver.head("k", Call(deadline=time.monotonic() + 0.5))


def test_leftovers_are_found_by_prefix_and_age(remote: Store, call: Call) -> None:
    """[store.atomic] What a killed put left is under its key's prefix, and goes when it is old enough."""
    assert remote.faults
    method, query = {"s3": ("POST", "uploadId"), "swift": ("PUT", "multipart-manifest")}[remote.kind]
    remote.faults.add("500", method, query, times=100)
    remote.faults.add("500", "DELETE", times=100)  # the clean-up fails too, as after kill -9
    with pytest.raises(Unavailable):
        remote.driver.put("a/k", Body.of(LARGE), call)
    remote.faults.rules.clear()
    assert remote.names()
    assert not remote.driver.list("", call).items
    assert remote.driver.abort_uploads("b/", call, older_than=0) == 0
    assert remote.driver.abort_uploads("a/k/", call, older_than=0) == 0
    assert remote.driver.abort_uploads("a/", call, older_than=3600) == 0
    assert remote.names()
    assert remote.driver.abort_uploads("a/", call, older_than=0) == 1
    assert not remote.names()


@pytest.mark.parametrize(
    ("status", "error"), [("401", Unauthenticated), ("403", PermissionDenied), ("404", NotFound)]
)
def test_statuses_are_typed(remote: Store, call: Call, status: str, error: type[StorageError]) -> None:
    """Refusals are told apart and not retried."""
    assert remote.faults
    remote.faults.add(status, "HEAD", "/k", times=100)
    before = len(remote.faults.seen)
    with pytest.raises(error):
        remote.driver.head("k", call)
    assert len(remote.faults.seen) - before <= 3


def test_secrets_stay_inside(remote: Store, call: Call, caplog: pytest.LogCaptureFixture) -> None:
    """Neither options, errors with their causes, nor the log at DEBUG say the key."""
    assert remote.faults
    secret = remote.options["secret_key" if remote.kind == "s3" else "key"]
    with caplog.at_level(logging.DEBUG):
        driver = remote.again()
        remote.faults.add("403", "PUT", times=100)
        with pytest.raises(PermissionDenied) as caught:
            driver.put("k", Body.of(SMALL), call)
    told = "".join(traceback.format_exception(caught.value)) + repr(driver.options) + caplog.text
    assert secret not in told


@pytest.mark.parametrize("status", ["403", "413", "507"])
def test_a_store_that_takes_nothing_opens(remote: Store, call: Call, status: str) -> None:
    """Read-only credentials, a quota that is used up, a full store: restoring works, without conditions."""
    assert remote.faults
    remote.driver.put("k", Body.of(SMALL), call)
    remote.faults.add(status, "PUT", times=100)
    remote.faults.add("403", "DELETE", times=100)
    reader = remote.again()
    assert not reader.traits().conditional_put
    assert b"".join(reader.get("k", call)) == SMALL


def test_expired_tokens_are_renewed(swift_store: Store, call: Call) -> None:
    """Swift: a token that expires between requests or in front of an upload costs one sign-in."""
    swift_store.driver.put("k", Body.of(SMALL), call)
    for data in (SMALL, LARGE):
        swift_store.simulator.defects.update({"token_expires_now": True})
        swift_store.driver.put("k", Body.of(data), call)
        swift_store.simulator.defects.update({"token_expires_now": True})
        assert b"".join(swift_store.driver.get("k", call)) == data


def test_a_wrong_key_is_typed(swift_store: Store) -> None:
    """Swift: a refused sign-in is Unauthenticated and does not repeat the key."""
    wrong = uuid.uuid4().hex
    with pytest.raises(Unauthenticated) as caught:
        swift_store.again(key=wrong)
    assert wrong not in "".join(traceback.format_exception(caught.value))


def test_an_overwritten_segment_is_data_loss(swift_store: Store, call: Call) -> None:
    """Swift: a manifest whose segment is gone answers 409 or breaks off; neither passes as an object."""
    swift_store.driver.put("k", Body.of(LARGE), call)
    swift_store.faults.add("409", "GET", "/k", times=100)  # type: ignore[union-attr] # swift has faults
    with pytest.raises(DataLoss):
        list(swift_store.driver.get("k", call))


def test_overwritten_large_objects_are_swept(swift_store: Store, call: Call) -> None:
    """Swift: segments of an object that was replaced belong to nobody and are found."""
    swift_store.driver.put("k", Body.of(LARGE), call)
    swift_store.driver.put("k", Body.of(SMALL), call)
    assert len(swift_store.names()) > 1
    assert swift_store.driver.abort_uploads("", call, older_than=0) == 1
    assert swift_store.names() == ["k"]


@pytest.mark.parametrize("defect", ["put_ignores_if_none_match", "checks_if_none_match_early"])
def test_a_store_without_conditions_is_found_out(swift_store: Store, defect: str) -> None:
    """Swift: a server that takes If-None-Match and overwrites, or looks too early, has no conditions."""
    swift_store.simulator.defects.update({defect: True})
    try:
        assert not swift_store.again().traits().conditional_put
    finally:
        swift_store.simulator.defects.update({defect: False})


@pytest.mark.parametrize("act", ["lost", "503", "401"])
def test_a_probe_that_is_repeated_is_not_fooled(swift_store: Store, act: str) -> None:
    """Swift: what the first attempt left is no sign that a condition was honoured, and nothing stays."""
    swift_store.simulator.defects.update({"checks_if_none_match_early": True})
    swift_store.faults.add(act, "PUT", ".bollard-probe")  # type: ignore[union-attr] # swift has faults
    try:
        assert not swift_store.again().traits().conditional_put
    finally:
        swift_store.simulator.defects.update({"checks_if_none_match_early": False})
    assert not any(rule.times for rule in swift_store.faults.rules)  # type: ignore[union-attr] # as above
    assert not swift_store.names()


@pytest.mark.parametrize(
    ("checksum", "header"), [("sha256", "X_AMZ_CHECKSUM_SHA256"), ("md5", "CONTENT_MD5")]
)
def test_every_upload_carries_a_digest(s3_store: Store, call: Call, checksum: str, header: str) -> None:
    """S3: single bodies and each part go out with the digest that the store is to compare."""
    driver = s3_store.again(checksum=checksum)
    assert s3_store.faults
    s3_store.faults.seen.clear()
    for data in (SMALL, LARGE):
        driver.put("k", Body.of(data), call)
        assert b"".join(driver.get("k", call)) == data
    sent = [
        str(request.get(f"HTTP_{header}"))
        for request in s3_store.faults.seen
        if request["REQUEST_METHOD"] == "PUT"
    ]
    pieces = [SMALL, *(LARGE[i : i + PART] for i in range(0, len(LARGE), PART))]
    assert sorted(sent) == sorted(
        base64.b64encode(hashlib.new(checksum, p).digest()).decode() for p in pieces
    )


def test_keystone_needs_its_client(swift_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Swift: sign-in of version 3 without keystoneauth1 says what to install."""
    monkeypatch.setitem(sys.modules, "keystoneauth1", None)
    with pytest.raises(InvalidArgument, match="keystoneauth1"):
        swift_store.again(auth_version="3")


def test_keystone_needs_a_project(swift_store: Store) -> None:
    """Swift: a token without a project has no object store; the error names the option."""
    with pytest.raises(InvalidArgument, match="'account'"):
        swift_store.again(auth_version="3", account="")


def test_closing_leaves_no_connection(swift_store: Store, call: Call) -> None:
    """Of a Swift store that was closed no socket is left for the garbage collector, which would warn."""
    port = urlsplit(swift_store.options["url"]).port
    driver = swift_store.again()
    gc.collect()
    gc.disable()
    try:
        driver.put("a", Body.of(SMALL), call)
        assert b"".join(driver.get("a", call, offset=1, length=99)) == SMALL[1:100]
        open_before = _connections_to(port)
        driver.close()
        assert _connections_to(port) < open_before
    finally:
        gc.enable()


def _connections_to(port: int | None) -> int:
    """Count our own ends."""
    sockets = [one for one in gc.get_objects() if isinstance(one, socket.socket) and one.fileno() != -1]
    return sum(_peer(one) == port for one in sockets)


def _peer(one: socket.socket) -> int | None:
    try:
        return int(one.getpeername()[1])
    except (OSError, IndexError):  # it listens, or has no name
        return None


def test_an_idle_connection_keeps_no_segment(swift_store: Store, call: Call) -> None:
    """What was sent is let go of at once: four of them held 32 MiB each until their next request."""
    swift_store.driver.put("large", Body.of(bytes(4 * PART)), call)
    idle = swift_store.driver._client._idle  # type: ignore[attr-defined]  # Swift's alone has it
    assert idle
    assert [http[1].resp.request.body for http in idle] == [None] * len(idle)
