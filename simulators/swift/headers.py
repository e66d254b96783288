"""Headers of objects and containers: which are kept, limits, expiry, byte ranges."""

from __future__ import annotations

from email.utils import formatdate

from flask import Request, abort
from werkzeug.http import parse_range_header

from .index import ObjectRecord

_KEPT = {"Content-Type", "Content-Encoding", "Content-Disposition", "Content-Language", "Cache-Control"}
_MAX_NAME, _MAX_VALUE, _MAX_COUNT, _MAX_TOTAL = 128, 256, 90, 4096  # Swift's defaults


def metadata(request: Request, kind: str) -> dict[str, str]:
    """``X-<kind>-Meta-*`` of a request within Swift's limits, else 400."""
    prefix = f"X-{kind}-Meta-"
    found = {
        name.title(): value for name, value in request.headers.items() if name.title().startswith(prefix)
    }
    names = [name.removeprefix(prefix) for name in found]
    total = sum(len(name) for name in names) + sum(len(value) for value in found.values())
    if not all(names) or len(found) > _MAX_COUNT or total > _MAX_TOTAL:
        abort(400, f"Metadata: a name is empty, more than {_MAX_COUNT} of them or over {_MAX_TOTAL} bytes")
    if any(len(name) > _MAX_NAME for name in names) or any(
        len(value) > _MAX_VALUE for value in found.values()
    ):
        abort(400, f"Metadata: a name over {_MAX_NAME} or a value over {_MAX_VALUE} bytes")
    return found


def kept(request: Request) -> dict[str, str]:
    """The headers of an object PUT that come back with every GET."""
    plain = {
        name.title(): value for name, value in request.headers.items() if name.title() in _KEPT and value
    }
    return {"Content-Type": "application/octet-stream", **plain, **metadata(request, "Object")}


def delete_at(request: Request, now: float) -> float | None:
    """When the object shall expire, seconds since the epoch; 400 for a time that is past."""
    after, at = request.headers.get("X-Delete-After"), request.headers.get("X-Delete-At")
    given = after or at
    if given is None:
        return None
    if not given.isdecimal():
        abort(400, "X-Delete-After and X-Delete-At take whole seconds")
    when = now + int(given) if after else float(given)
    if when <= now:
        abort(400, "X-Delete-At in past")
    return when


def describe(record: ObjectRecord) -> dict[str, str]:
    """The headers of a GET or HEAD, without length and range."""
    headers = {
        **record.headers,
        "Etag": f'"{record.slo_etag}"' if record.slo_etag else record.etag,
        "Last-Modified": formatdate(record.modified, usegmt=True),
        "X-Timestamp": f"{record.modified:.5f}",
        "Accept-Ranges": "bytes",
    }
    if record.slo_etag:
        headers["X-Static-Large-Object"] = "True"
    if record.delete_at is not None:
        headers["X-Delete-At"] = str(int(record.delete_at))
    return headers


def ranges(request: Request, size: int) -> list[tuple[int, int]] | None:
    """The (start, length) pairs asked for; None for the whole object, empty when none can be satisfied."""
    parsed = parse_range_header(request.headers.get("Range"))
    if parsed is None or parsed.units != "bytes":
        return None
    result = []
    for begin, end in parsed.ranges:
        start = max(0, size + begin) if begin < 0 else begin
        stop = size if end is None else min(end, size)
        if start < stop:
            result.append((start, stop - start))
    return result
