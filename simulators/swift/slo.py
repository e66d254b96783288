"""Static large objects: a manifest that names segments, checked when it is put.

manifest   [ {name: /c/s1, hash, bytes} | {name: /c/s2, hash, bytes, range} | ... ]
object     <------- s1 -------><--- range of s2 --->...
ETag       MD5 of "hash1" + "hash2:range;" + ...
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import abort
from werkzeug.http import parse_range_header

from .index import ObjectKey, ObjectRecord
from .listing import iso_time

MAX_SEGMENTS = 1000
MAX_MANIFEST_BYTES = 8 * 1024 * 1024

_KEYS = {"path", "etag", "size_bytes", "range"}

Find = Callable[[ObjectKey], ObjectRecord | None]
Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Segment:
    """One piece of a large object.

    Attributes:
        key: the object that holds it.
        etag: what that object's ETag must still be.
        size: what that object's size must still be, in bytes.
        start: where the piece begins in that object.
        length: bytes of the piece.
    """

    key: ObjectKey
    etag: str
    size: int
    start: int
    length: int


def etag_of(record: ObjectRecord) -> str:
    """The ETag that readers see, without quotes."""
    return record.slo_etag or record.etag


def build(body: bytes, account: str, find: Find, *, check_etags: bool) -> tuple[list[Entry], int, str]:
    """Checks what a client put and returns the stored manifest, the object's size and its ETag.

    Aborts with 400 (with one line per wrong segment) or 413.
    """
    errors: list[str] = []
    entries: list[Entry] = []
    for given in _parse(body):
        path = "/" + str(given["path"]).lstrip("/")
        record = find(_key(account, path))
        problem = _problem(given, record, check_etags=check_etags)
        if problem or record is None:
            errors.append(f"{path}, {problem}")
        else:
            entries.append(_entry(path, given, record))
    if errors:
        abort(400, "Errors:\n" + "\n".join(errors))
    digest = hashlib.md5(usedforsecurity=False)
    for entry in entries:
        digest.update((f"{entry['hash']}:{entry['range']};" if "range" in entry else entry["hash"]).encode())
    return entries, sum(segment.length for segment in segments(entries, account)), digest.hexdigest()


def _parse(body: bytes) -> list[Entry]:
    try:
        given = json.loads(body)
    except ValueError:
        abort(400, "Manifest must be valid JSON.")
    if not isinstance(given, list) or not given:
        abort(400, "Manifest must be a list of at least one segment.")
    if len(given) > MAX_SEGMENTS:
        abort(413, f"Number of segments must be <= {MAX_SEGMENTS}")
    for index, entry in enumerate(given):
        if not isinstance(entry, dict) or "path" not in entry or set(entry) - _KEYS:
            abort(400, f"Index {index}: a segment has path, etag, size_bytes, range and nothing else")
        if "/" not in str(entry["path"]).lstrip("/"):
            abort(400, f"Index {index}: path does not refer to an object")
    return given


def _problem(given: Entry, record: ObjectRecord | None, *, check_etags: bool) -> str | None:
    if record is None:
        return "404 Not Found"
    if record.content_size == 0:
        return "Too Small; each segment must be at least 1 byte."
    if given.get("size_bytes") not in (None, record.content_size):
        return "Size Mismatch"
    if check_etags and given.get("etag") not in (None, etag_of(record)):
        return "Etag Mismatch"
    if given.get("range") and _window(given["range"], record.content_size) is None:
        return "Unsatisfiable Range"
    return None


def _entry(path: str, given: Entry, record: ObjectRecord) -> Entry:
    entry = {
        "name": path,
        "hash": etag_of(record),
        "bytes": record.content_size,
        "content_type": record.content_type,
        "last_modified": iso_time(record.modified),
    }
    window = _window(given.get("range"), record.content_size)
    if window is not None:
        entry["range"] = f"{window[0]}-{window[0] + window[1] - 1}"
    return entry if record.slo_etag is None else {**entry, "sub_slo": True}


def segments(entries: list[Entry], account: str) -> list[Segment]:
    """The pieces that a stored manifest names, in order."""
    result = []
    for entry in entries:
        start, length = _window(entry.get("range"), entry["bytes"]) or (0, entry["bytes"])
        result.append(Segment(_key(account, entry["name"]), entry["hash"], entry["bytes"], start, length))
    return result


def as_put(entries: list[Entry]) -> list[Entry]:
    """A stored manifest in the form that clients put (``format=raw``)."""
    names = {"name": "path", "hash": "etag", "bytes": "size_bytes", "range": "range"}
    return [{names[key]: value for key, value in entry.items() if key in names} for entry in entries]


def _key(account: str, path: str) -> ObjectKey:
    container, _, name = path.lstrip("/").partition("/")
    return account, container, name


def _window(text: object, size: int) -> tuple[int, int] | None:
    parsed = parse_range_header(f"bytes={text}") if text else None
    bounds = parsed.range_for_length(size) if parsed else None
    return None if bounds is None else (bounds[0], bounds[1] - bounds[0])
