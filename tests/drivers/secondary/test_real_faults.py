"""Real Swift and its s3api, full, throttled, cut off, dripping, and with what they do not accept of us."""

from __future__ import annotations

import datetime
import os
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from bollard.core.spi import (
    Body,
    Busy,
    Call,
    DeadlineExceeded,
    Outcome,
    StorageError,
    Unauthenticated,
    Unavailable,
)
from bollard.simulators.faults import Fault
from bollard.simulators.faults.http import HttpProxy
from real_swift import RealSwift

from .conftest import PART, at

if TYPE_CHECKING:
    from .conftest import Store

pytestmark = pytest.mark.real
SMALL = os.urandom(70_000)
LARGE = os.urandom(2 * PART + 12345)
# What a probe finds out here anyway: fewer requests that a fault could hit instead.
KNOWN: dict[str, Any] = {"conditional_put": "no", "attempts": 1}


def known(store: Store) -> dict[str, Any]:
    """Return options that leave nothing to be probed."""
    return KNOWN | ({"checksum": "sha256"} if store.kind == "s3" else {})


@pytest.fixture
def full(real_swift: RealSwift) -> Iterator[RealSwift]:
    """The servers; the object server has room again afterwards."""
    yield real_swift
    real_swift.fill(full=False)


def test_a_full_disk(racy: Store, full: RealSwift, call: Call) -> None:
    """Uploads fail typed and leave nothing, what is there is read and deleted; with room, all goes on."""
    racy.driver.put("k", Body.of(SMALL), call)
    full.fill(full=True)
    driver = racy.again(**known(racy))
    for data in (SMALL, LARGE):
        with pytest.raises(Unavailable) as caught:  # Swift's proxy says 503, not 507
            driver.put("new", Body.of(data), call)
        assert caught.value.outcome is Outcome.UNKNOWN
    assert b"".join(driver.get("k", call)) == SMALL
    driver.delete("k", call)
    full.fill(full=False)
    driver.abort_uploads("", call, older_than=0)
    assert racy.names() == []
    driver.put("new", Body.of(LARGE), call)
    assert b"".join(driver.get("new", call)) == LARGE


def test_throttled(real_swift_store: Store, real_swift: RealSwift, call: Call) -> None:
    """Swift's 498 is Busy, and nothing was applied; later the same put goes through."""
    driver = real_swift_store.again(**at(real_swift_store, real_swift.throttled()), **KNOWN)

    def forgotten() -> None:
        real_swift.forget_tokens()
        driver.list("", call)  # signs in again: the upload whose token is refused would count

    forgotten()
    driver.put("k", Body.of(b"first"), call)
    with pytest.raises(Busy) as caught:
        driver.put("k", Body.of(b"second"), call)
    assert caught.value.outcome is Outcome.NOT_APPLIED
    forgotten()
    driver.put("k", Body.of(b"third"), call)
    assert b"".join(driver.get("k", call)) == b"third"


def test_reset_in_an_upload(racy: Store, behind: HttpProxy, call: Call) -> None:
    """A connection that is reset costs a retry; at the last attempt it is typed, and of unknown outcome."""
    driver = racy.again(**at(racy, behind.url), **(known(racy) | {"attempts": 2}))
    behind.plan([Fault.reset(method="PUT", path="/k")])
    driver.put("k", Body.of(SMALL), call)
    behind.finish()
    behind.plan([Fault.reset_after(method="PUT", path="/k", times=2)])
    with pytest.raises(Unavailable) as caught:
        driver.put("k", Body.of(LARGE[: 2 * len(SMALL)]), call)
    assert caught.value.outcome is Outcome.UNKNOWN
    behind.finish()
    assert b"".join(driver.get("k", call)) == LARGE[: 2 * len(SMALL)]


def test_a_slow_drip(racy: Store, behind: HttpProxy, call: Call) -> None:
    """A byte now and then keeps the socket's timeout away; the deadline of the call ends it all the same."""
    racy.driver.put("k", Body.of(SMALL), call)
    driver = racy.again(**at(racy, behind.url), **known(racy))
    behind.plan([Fault.drip(method="GET", path="/k", bytes_per_second=2000)])
    with pytest.raises(DeadlineExceeded):
        list(driver.get("k", Call.within(3)))
    assert b"".join(driver.get("k", call)) == SMALL


def test_wrong_credentials(racy: Store) -> None:
    """A wrong key is Unauthenticated, and is in neither the error nor its causes."""
    wrong = "not-the-right-secret"
    with pytest.raises(Unauthenticated) as caught:
        racy.again(**{"secret_key" if racy.kind == "s3" else "key": wrong})
    assert wrong not in "".join(traceback.format_exception(caught.value))


def test_all_tokens_are_gone(real_swift_store: Store, real_swift: RealSwift, call: Call) -> None:
    """Swift forgets its tokens (memcached is emptied): uploads and downloads sign in again."""
    for data in (SMALL, LARGE):
        real_swift.forget_tokens()
        real_swift_store.driver.put("k", Body.of(data), call)
        real_swift.forget_tokens()
        assert b"".join(real_swift_store.driver.get("k", call)) == data


def test_a_clock_that_is_wrong(real_s3_store: Store, monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """S3: a signature of an hour ago is Unauthenticated and says why; with the right time the store works."""
    late = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    with monkeypatch.context() as patch:
        patch.setattr("botocore.auth.get_current_datetime", lambda *_, **__: late.replace(tzinfo=None))
        with pytest.raises(StorageError, match="RequestTimeTooSkewed") as caught:
            real_s3_store.driver.put("k", Body.of(SMALL), call)
    assert isinstance(caught.value, Unauthenticated)
    real_s3_store.driver.put("k", Body.of(SMALL), call)
    assert b"".join(real_s3_store.driver.get("k", call)) == SMALL
