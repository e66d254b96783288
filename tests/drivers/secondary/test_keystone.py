"""Real Swift whose users are those of a real Keystone: signing in, tokens that end, refusals."""

from __future__ import annotations

import itertools
import os
import time
import traceback
from contextlib import closing
from typing import TYPE_CHECKING

import msgpack
import pytest
from cryptography.fernet import Fernet

from bollard.core.spi import (
    Body,
    Call,
    InvalidArgument,
    StorageError,
    Unauthenticated,
    Unavailable,
    parse_options,
)
from bollard.drivers.secondary.swift import SwiftDriver
from real_keystone import RealKeystone
from real_swift import RealSwift

from .conftest import PART, keystone_sign_in

if TYPE_CHECKING:
    from .conftest import Store

pytestmark = pytest.mark.real
LARGE = os.urandom(2 * PART + 12345)


def test_objects_of_a_project(keystone_store: Store, call: Call) -> None:
    """Small and large objects, a listing, ranges and deletion, signed in with user, project and domain."""
    driver = keystone_store.driver
    driver.put("small", Body.of(b"x"), call)
    driver.put("large", Body.of(LARGE), call)
    assert b"".join(driver.get("large", call)) == LARGE
    assert b"".join(driver.get("large", call, offset=PART - 1, length=2)) == LARGE[PART - 1 : PART + 1]
    assert [item.key for item in driver.list("", call).items] == ["large", "small"]
    driver.delete("large", call)
    driver.delete("small", call)
    assert keystone_store.names() == []


@pytest.mark.parametrize("end", ["revoked", "expired"])
def test_a_token_that_ends_costs_one_sign_in(
    keystone_store: Store,
    keystone: RealKeystone,
    real_swift: RealSwift,
    monkeypatch: pytest.MonkeyPatch,
    call: Call,
    end: str,
) -> None:
    """In front of an upload, and of a download."""
    driver = keystone_store.driver
    client = driver._client  # type: ignore[attr-defined] # a driver of Swift
    sign_ins, sign_in = itertools.count(), client._sign_in
    monkeypatch.setattr(client, "_sign_in", lambda c: (next(sign_ins), sign_in(c))[1])

    def end_token() -> None:
        url, token = client._signed_in
        if end == "revoked":
            keystone.revoke(token)
            real_swift.forget_tokens()
        else:
            client._signed_in = (url, _expired(keystone, token))

    end_token()
    driver.put("k", Body.of(LARGE), call)
    end_token()
    assert b"".join(driver.get("k", call)) == LARGE
    assert next(sign_ins) == 2


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"key": "not-the-password"}, Unauthenticated),
        ({"account": "no-such-project"}, Unauthenticated),
        ({"user_domain": "no-such-domain"}, Unauthenticated),
        ({"region": "nowhere"}, InvalidArgument),
        ({"url": "http://127.0.0.1:9/v3"}, Unavailable),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_refused_sign_in(
    keystone: RealKeystone, call: Call, wrong: dict[str, str], error: type[StorageError]
) -> None:
    """The error says what to look at, and neither it nor its causes hold a password or a token."""
    options = {**keystone_sign_in(keystone), "container": "archive", "attempts": 1, **wrong}
    driver = SwiftDriver(parse_options(SwiftDriver.Options, options))
    with closing(driver), pytest.raises(error) as caught:
        driver.open(call)
    told = "".join(traceback.format_exception(caught.value))
    assert "not-the-password" not in told
    assert keystone.password not in told
    assert "gAAAA" not in told  # each fernet token begins so


def _expired(keystone: RealKeystone, token: str) -> str:
    """Return the token as Keystone would have given it an hour and a day ago, sealed with its own key."""
    key = Fernet((keystone.home / "keys" / "1").read_bytes())
    parts = msgpack.unpackb(key.decrypt(token + "=" * (-len(token) % 4)), raw=True, strict_map_key=False)
    [at] = [index for index, part in enumerate(parts) if isinstance(part, float)]
    parts[at] = time.time() - 86400
    return key.encrypt(msgpack.packb(parts, use_bin_type=False)).rstrip(b"=").decode()
