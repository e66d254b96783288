"""What a Swift server offers and honours: found out, because radosgw speaks its protocol with other rules."""

from __future__ import annotations

from collections.abc import Mapping
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
from ._probe import HiddenNames, Overtaken
from ._swift_client import SwiftClient, Wire
from ._swift_upload import delete_all

# What Swift has been shipped with for ten years; the answer where /info is switched off.
USUAL_MAX_SEGMENTS = 1000

# A request that a busy server takes up late looks like a condition that was honoured (4 of 180 probes of the
# simulator, before `race` put something else first): that must happen twice. The other error is harmless.
_RACES = 2


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
    """Find out with hidden objects whether of two puts that overlap only one can win; see `Overtaken`.

    Swift's object server looks at the beginning (2.38: eight racing puts, eight times 201), radosgw's Swift
    API never. A user who may only read, or whose account is full, gets False: it is good for restoring.
    """
    names, what = HiddenNames(base), "the probe of the store"

    def put(wire: Wire, name: str, contents: bytes | Overtaken, headers: Mapping[str, str]) -> None:
        about = {"contents": contents, "content_length": len(contents), "headers": headers}
        client.api.put_object(*wire.account, container, name, http_conn=wire.http, **about)

    def put_plainly(name: str) -> None:
        client.run(what, call, lambda wire: put(wire, name, b"done first", {}))

    def race(wire: Wire) -> None:
        # A retry that found what the first attempt put would take that for a condition that was honoured.
        name = names.new()

        def overtake() -> None:
            # This one goes the same way: what the store does at the beginning, it has done then.
            put_plainly(names.new())
            put_plainly(name)

        put(wire, name, Overtaken(overtake), {"If-None-Match": "*"})

    try:
        for _ in range(_RACES):
            with suppress(Conflict):
                client.run(what, call, race)
                return False
    except (PermissionDenied, LimitExceeded, OutOfCapacity, InvalidArgument, Unsupported):
        return False
    finally:
        with suppress(StorageError):
            delete_all(client, container, names.given, what, call)
    return True
