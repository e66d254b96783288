"""What a Swift server offers and honours: found out, because radosgw speaks its protocol with other rules."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urljoin, urlparse

from ...core.spi import (
    Call,
    Conflict,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    OutOfCapacity,
    PermissionDenied,
    StorageError,
    Unsupported,
)
from ._swift_client import SwiftClient, Wire
from ._swift_upload import delete_all

# What Swift has been shipped with for ten years; the answer where /info is switched off.
USUAL_MAX_SEGMENTS = 1000


def segments_allowed(client: SwiftClient, call: Call) -> int:
    """Return how many segments a manifest may name; 0 without the middleware for large objects."""

    def ask(wire: Wire) -> dict[str, Any]:
        about = urlparse(urljoin(wire.url, "/info"))
        answer: dict[str, Any] = client.api.get_capabilities((about, wire.http[1]))
        return answer

    try:
        found = client.run("/info", call, ask)
    except (NotFound, PermissionDenied, InvalidArgument, Unsupported):
        return USUAL_MAX_SEGMENTS
    return int(found["slo"].get("max_manifest_segments", USUAL_MAX_SEGMENTS)) if "slo" in found else 0


def honours_condition(client: SwiftClient, container: str, base: str, call: Call) -> bool:
    """Find out with a hidden object whether of two puts that overlap only one can win.

        conditional   headers, half ·····················  rest    412: the store looks when it commits
        plain                       ···· whole, done ····          201: it looked at the beginning, or never

    Swift's object server looks at the beginning (2.38: eight racing puts, eight times 201), radosgw's Swift
    API never. A user who may only read, or whose account is full, gets False: it is good for restoring.
    """
    name, what = f"{base}.bollard-probe-{secrets.token_hex(8)}", "the probe of the store"

    def put(contents: bytes | Iterator[bytes], headers: Mapping[str, str]) -> None:
        def act(wire: Wire) -> None:
            about = {"contents": contents, "headers": headers, "http_conn": wire.http}
            client.api.put_object(*wire.account, container, name, **about)

        client.run(what, call, act)

    def overtaken() -> Iterator[bytes]:
        yield b"half of "
        put(b"the probe that is done first", {})
        yield b"the probe"

    try:
        put(overtaken(), {"If-None-Match": "*"})
    except Conflict:
        return True
    except (PermissionDenied, LimitExceeded, OutOfCapacity, InvalidArgument, Unsupported):
        return False
    finally:
        with suppress(StorageError):
            delete_all(client, container, [name], what, call)
    return False
