"""Segments that no manifest names."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, NamedTuple

from ...core.spi import Call, NotFound, Unfinished
from ._http import server_time
from ._swift_client import SwiftClient
from ._swift_upload import PUT, Place, delete_all, head

_WHAT = "the unfinished uploads"
_PAGE = 1000


class _Segment(NamedTuple):
    """A segment: its name, the object and the put that it was made for, its age in seconds, its bytes."""

    name: str
    owner: str
    token: str
    age: float
    size: int


def abort_idle(client: SwiftClient, place: Place, prefix: str, call: Call, older_than: float) -> int:
    """Delete the segments of puts that were not finished and sent none for `older_than` seconds.

    Returns the number of puts. The manifest is asked for its token, from the newest replica: an overwritten
    or deleted object's segments are leftovers too.
    """
    removed = 0
    for upload in _idle(client, place, prefix, call, older_than):
        delete_all(client, place.segments, [segment.name for segment in upload], _WHAT, call)
        removed += 1
    return removed


def list_idle(
    client: SwiftClient, place: Place, base: str, prefix: str, call: Call, older_than: float
) -> Iterator[Unfinished]:
    """Yield what `abort_idle` would remove; keys are told without the store's `base`."""
    for upload in _idle(client, place, base + prefix, call, older_than):
        yield Unfinished(
            key=upload[0].owner.removeprefix(base),
            idle=min(segment.age for segment in upload),
            size=sum(segment.size for segment in upload),
        )


def _idle(
    client: SwiftClient, place: Place, prefix: str, call: Call, older_than: float
) -> Iterator[list[_Segment]]:
    """Yield the segments of each put that nobody finished."""
    segments = _segments(client, place, prefix, call)
    for (owner, token), group in groupby(segments, key=lambda s: (s.owner, s.token)):
        upload = list(group)
        idle = min(segment.age for segment in upload)
        if (
            owner.startswith(prefix)
            and idle >= older_than
            and not _is_live(client, place, owner, token, call)
        ):
            yield upload


def live_segments(client: SwiftClient, place: Place, name: str, token: str, call: Call) -> list[str]:
    """Return the names of the segments that one put of `name` made."""
    return [segment.name for segment in _segments(client, place, f"{name}/{token}/", call)]


def _is_live(client: SwiftClient, place: Place, owner: str, token: str, call: Call) -> bool:
    try:
        return head(client, place.container, owner, _WHAT, call).get(PUT) == token
    except NotFound:
        return False


def _segments(client: SwiftClient, place: Place, prefix: str, call: Call) -> Iterator[_Segment]:
    """Yield the segments under `prefix`, sorted by name, so those of one put are together."""
    last = ""
    while True:
        try:
            now, page = _page(client, place, prefix, last, call)
        except NotFound:  # the container is made by the first large put
            return
        for item in page:
            if item["name"].count("/") < 2:
                continue  # not one of ours
            owner, token, _ = item["name"].rsplit("/", 2)
            written = datetime.fromisoformat(item["last_modified"]).replace(tzinfo=UTC)
            age = max(0.0, (now - written).total_seconds())  # Date counts whole seconds
            yield _Segment(item["name"], owner, token, age, int(item["bytes"]))
        if len(page) < _PAGE:
            return
        last = page[-1]["name"]


def _page(
    client: SwiftClient, place: Place, prefix: str, last: str, call: Call
) -> tuple[datetime, list[dict[str, Any]]]:
    headers, items = client.run(
        _WHAT,
        call,
        lambda wire: client.api.get_container(
            *wire.account, place.segments, marker=last, limit=_PAGE, prefix=prefix, http_conn=wire.http
        ),
    )
    return server_time(headers), items
