"""What a Swift server offers and honours: found out, because radosgw speaks its protocol with other rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlparse

from ...core.spi import (
    GIB,
    Call,
    Conflict,
    DataLoss,
    FoundTrait,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    OutOfCapacity,
    PermissionDenied,
    StorageError,
    Unsupported,
)
from ._probe import HiddenNames, Overtaken, listed, probed
from ._swift_client import SwiftClient, Wire
from ._swift_upload import delete_all

# A request that a busy server takes up late looks like a condition that was honoured (4 of 180 probes of the
# simulator, before `race` put something else first): that must happen twice. The other error is harmless.
_RACES = 2


class Limits(NamedTuple):
    """What `/info` says; sizes in bytes.

    Attributes:
        segments: how many a manifest may name; 0 without the middleware for large objects.
        single: largest body of one PUT, so also largest segment.
        told: False where `/info` is switched off, and these are Swift's defaults.
    """

    segments: int = 1000
    single: int = 5 * GIB
    told: bool = False


def limits(client: SwiftClient, call: Call) -> Limits:
    """Ask the store for its limits."""

    def ask(wire: Wire) -> dict[str, Any]:
        about = urlparse(urljoin(wire.url, "/info"))
        answer: dict[str, Any] = client.api.get_capabilities((about, wire.http[1]))
        return answer

    usual = Limits()
    try:
        found = client.run("/info", call, ask)
    except (NotFound, PermissionDenied, InvalidArgument, Unsupported):
        return usual
    segments = int(found["slo"].get("max_manifest_segments", usual.segments)) if "slo" in found else 0
    return Limits(segments, int(found.get("swift", {}).get("max_file_size", usual.single)), told=True)


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


def tried_out(client: SwiftClient, container: str, base: str, call: Call) -> list[FoundTrait]:
    """Put hidden objects: what becomes of them shows the rest of the traits."""
    names, what = HiddenNames(base), "the probe of the store"

    def put(name: str, etag: str | None = None) -> None:
        client.run(
            what,
            call,
            lambda w: client.api.put_object(
                *w.account, container, name, http_conn=w.http, contents=b"p", etag=etag
            ),
        )

    def listing(prefix: str) -> list[str]:
        _, items = client.run(
            what,
            call,
            lambda w: client.api.get_container(*w.account, container, http_conn=w.http, prefix=prefix),
        )
        return [item["name"] for item in items]

    try:
        return [*_digest(lambda: put(names.new(), etag="0" * 32)), *listed(names, put, listing)]
    except (PermissionDenied, LimitExceeded, OutOfCapacity) as error:
        return [probed("writable", value=False, how=f"a hidden object was refused: {error.message}")]
    finally:
        with suppress(StorageError):
            delete_all(client, container, names.given, what, call)


def _digest(put_wrongly: Callable[[], None]) -> list[FoundTrait]:
    how = "a hidden object was put with a wrong Etag"
    try:
        put_wrongly()
    except DataLoss:
        return [probed("checksum", "md5", how)]
    return [probed("checksum", None, f"{how}, and taken")]
