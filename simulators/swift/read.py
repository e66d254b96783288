"""GET and HEAD of objects: preconditions, ranges, manifests, and the ways in which reads go wrong."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from itertools import chain

from flask import Request, Response, abort

from ..http_server import DropConnection
from . import headers as head
from . import slo
from .content import BrokenSloError, Content, open_content
from .defects import SwiftDefects
from .index import ObjectKey
from .store import NEVER, Store


def get(store: Store, defects: SwiftDefects, request: Request, key: ObjectKey) -> Response:
    """The object, some ranges of it, or its manifest."""
    content = open_content(store, key)
    if content is None:
        abort(404)
    try:
        response = _reply(content, request)
        if request.method == "GET" and response.status_code in (200, 206):
            _spoil(response, store, defects, key)
    except BrokenSloError:
        content.close()
        abort(409, "A segment of the large object is missing or changed")
    except BaseException:
        content.close()
        raise
    response.call_on_close(content.close)
    return response


def _reply(content: Content, request: Request) -> Response:
    record = content.record
    if record.slo_etag and request.args.get("multipart-manifest") == "get":
        return _manifest(content, request)
    described = head.describe(record)
    etag = slo.etag_of(record)
    if request.if_match and not request.if_match.contains(etag):
        abort(412)
    if request.if_none_match and request.if_none_match.contains(etag):
        return Response("", 304, described)
    wanted = head.ranges(request, content.size)
    if wanted is None:
        return _answer(content, request, 200, [(0, content.size)], described)
    if not wanted:
        return Response("", 416, {"Content-Range": f"bytes */{content.size}"})
    return _answer(content, request, 206, wanted, described)


def _answer(
    content: Content, request: Request, status: int, wanted: list[tuple[int, int]], headers: dict[str, str]
) -> Response:
    parts: Iterable[bytes]
    if len(wanted) == 1:
        start, length = wanted[0]
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{content.size}"
        parts = [] if request.method == "HEAD" else content.read(start, length)
    else:
        headers, parts, length = _multipart(content, wanted, headers)
    response = Response(parts, status, headers)
    response.headers["Content-Length"] = str(length)
    return response


def _multipart(
    content: Content, wanted: list[tuple[int, int]], headers: dict[str, str]
) -> tuple[dict[str, str], Iterable[bytes], int]:
    boundary = uuid.uuid4().hex
    pieces: list[Iterable[bytes]] = []
    total = 0
    for start, length in wanted:
        span = f"bytes {start}-{start + length - 1}/{content.size}"
        intro = (
            f"\r\n--{boundary}\r\nContent-Type: {headers['Content-Type']}\r\nContent-Range: {span}\r\n\r\n"
        )
        pieces += [[intro.encode()], _later(content, start, length)]
        total += len(intro.encode()) + length
    end = f"\r\n--{boundary}--".encode()
    kind = f"multipart/byteranges; boundary={boundary}"
    return {**headers, "Content-Type": kind}, chain(*pieces, [end]), total + len(end)


def _later(content: Content, start: int, length: int) -> Iterator[bytes]:
    """Reads when its turn comes: all ranges share one file position."""
    yield from content.read(start, length)


def _manifest(content: Content, request: Request) -> Response:
    entries = content.manifest()
    body = json.dumps(slo.as_put(entries) if request.args.get("format") == "raw" else entries)
    headers = {**head.describe(content.record), "Etag": content.record.etag}
    headers["Content-Type"] = "application/json; charset=utf-8"
    return Response(body, 200, headers)


def _spoil(response: Response, store: Store, defects: SwiftDefects, key: ObjectKey) -> None:
    """Applies the read defects that are switched on."""
    length = int(response.headers.get("Content-Length") or 0)
    if length and defects.take("corrupt_first_read"):
        store.delete(key, listed_until=NEVER)  # the object server quarantines what fails its checksum
        response.response = _flip_bit(response.iter_encoded(), length // 2)
    if defects.take("short_body"):
        response.headers["Content-Length"] = str(length // 2)
        response.response = _first(response.iter_encoded(), length // 2)
    if defects.take("drop_connection_midway"):
        response.response = chain(_first(response.iter_encoded(), length // 2), iter(_drop, b""))


def _flip_bit(parts: Iterable[bytes], at: int) -> Iterator[bytes]:
    for data in parts:
        if 0 <= at < len(data):
            spoilt = bytearray(data)
            spoilt[at] ^= 1
            yield bytes(spoilt)
        else:
            yield data
        at -= len(data)


def _first(parts: Iterable[bytes], length: int) -> Iterator[bytes]:
    for data in parts:
        if length > 0:
            yield data[:length]
        length -= len(data)


def _drop() -> bytes:
    raise DropConnection


def dropped() -> Response:
    """A reply that is never sent: the connection is reset instead."""
    return Response(iter(_drop, b""))
