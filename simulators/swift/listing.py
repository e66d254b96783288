"""Listings of containers and objects: order, paging, delimiter, JSON and plain text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flask import Request, Response, abort

from .index import ContainerRecord, ObjectRecord

LIMIT = 10_000

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a client asked a listing for; names are compared as UTF-8 bytes."""

    prefix: str = ""
    marker: str = ""
    end_marker: str = ""
    delimiter: str = ""
    limit: int = LIMIT
    as_json: bool = False

    @classmethod
    def of(cls, request: Request) -> Query:
        """Reads the query string and the Accept header; aborts with 412 for a bad limit."""
        limit = request.args.get("limit") or str(LIMIT)
        if not limit.isdecimal() or int(limit) > LIMIT:
            abort(412, f"Maximum limit is {LIMIT}")
        wanted = request.args.get("format") or request.headers.get("Accept", "")
        names = {name: request.args.get(name, "") for name in ("prefix", "marker", "end_marker", "delimiter")}
        return cls(**names, limit=int(limit), as_json="json" in wanted)


def page(entries: Iterable[Entry], query: Query) -> list[Entry]:
    """One page: entries behind ``marker``, grouped into subdirectories at the delimiter.

    Args:
        entries: with "name", in byte order.
        query: what was asked.
    """
    result: list[Entry] = []
    for entry in entries:
        name = entry["name"]
        if not _inside(name, query):
            continue
        group = _group(name, query)
        if group is None:
            result.append(entry)
        elif group != query.marker and (not result or result[-1].get("subdir") != group):
            result.append({"subdir": group})
        if len(result) > query.limit:
            return result[: query.limit]
    return result[: query.limit]


def _inside(name: str, query: Query) -> bool:
    raw = name.encode()
    return (
        name.startswith(query.prefix)
        and raw > query.marker.encode()
        and (not query.end_marker or raw < query.end_marker.encode())
    )


def _group(name: str, query: Query) -> str | None:
    if not query.delimiter:
        return None
    at = name.find(query.delimiter, len(query.prefix))
    return None if at < 0 else name[: at + len(query.delimiter)]


def object_entry(record: ObjectRecord) -> Entry:
    """How a listing shows an object."""
    entry = {
        "name": record.key[2],
        "hash": record.etag,
        "bytes": record.content_size,
        "content_type": record.content_type,
        "last_modified": iso_time(record.modified),
    }
    return entry if record.slo_etag is None else {**entry, "slo_etag": f'"{record.slo_etag}"'}


def container_entry(record: ContainerRecord) -> Entry:
    """How an account's listing shows a container."""
    return {
        "name": record.name,
        "count": record.count,
        "bytes": record.used_bytes,
        "last_modified": iso_time(record.created),
    }


def iso_time(seconds: float) -> str:
    """Swift's form: UTC with microseconds and no zone."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


def reply(entries: list[Entry], query: Query, headers: Mapping[str, str]) -> Response:
    """200 with JSON or one name per line; 204 for empty plain text, as Swift does."""
    if query.as_json:
        body, kind = json.dumps(entries), "application/json; charset=utf-8"
    else:
        body, kind = "".join(f"{entry.get('name') or entry['subdir']}\n" for entry in entries), "text/plain"
    status = 200 if body else 204
    return Response(body, status, headers=dict(headers), content_type=kind)
