"""PUT, POST, COPY and DELETE of objects."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import IO
from urllib.parse import unquote

from flask import Request, Response, abort

from ..http_server import CHUNK
from . import headers as head
from . import slo
from .content import BrokenSloError, open_content
from .defects import SwiftDefects
from .index import ObjectKey, ObjectRecord
from .read import dropped
from .store import NoContainerError, ObjectExistsError, Store, Upload

MAX_OBJECT_BYTES = 5 * 1024**3

# Seconds between a condition that is looked at early and the commit: what a network and a disk take.
_ON_ITS_WAY = 0.05


@dataclass(frozen=True, slots=True)
class Writer:
    """Changes objects of one store under the switched-on defects."""

    store: Store
    defects: SwiftDefects

    def put(self, request: Request, key: ObjectKey) -> Response:
        """Creates or replaces an object from the body, another object, or a manifest."""
        only_new = self._only_new(request)
        if not self.store.index.has_container(*key[:2]):
            abort(404)
        if only_new and self.store.find(key) is not None:
            abort(412)
        if only_new and self.defects.checks_if_none_match_early:
            only_new = False
            time.sleep(_ON_ITS_WAY)
        if "X-Copy-From" in request.headers:
            source = _path(key[0], request.headers["X-Copy-From"])
            return self._copy(request, source, key, only_new=only_new)
        _check_length(request)
        if self.defects.take("drop_connection_midway"):
            _read_half(request)
            return dropped()
        if request.args.get("multipart-manifest") == "put":
            return self._put_manifest(request, key, only_new=only_new)
        return self._store(request, key, _chunks(request.stream), head.kept(request), only_new=only_new)

    def _only_new(self, request: Request) -> bool:
        wanted = request.headers.get("If-None-Match")
        if wanted not in (None, "*"):
            abort(400, "If-None-Match only supports *")
        return wanted == "*" and not self.defects.put_ignores_if_none_match

    def _put_manifest(self, request: Request, key: ObjectKey, *, only_new: bool) -> Response:
        if (request.content_length or 0) > slo.MAX_MANIFEST_BYTES:
            abort(413, "Manifest is too large")
        check = not self.defects.etag_not_checked
        body = request.stream.read(slo.MAX_MANIFEST_BYTES)
        entries, size, etag = slo.build(body, key[0], self.store.find, check_etags=check)
        if check and _given_etag(request) not in (None, etag):
            abort(422)
        stored = [json.dumps(entries).encode()]
        record = ObjectRecord(
            key=key,
            blob="",
            size=0,
            etag="",
            modified=0.0,
            headers=head.kept(request),
            slo_size=size,
            slo_etag=etag,
        )
        return self._commit(request, record, stored, only_new=only_new)

    def _store(
        self,
        request: Request,
        key: ObjectKey,
        parts: Iterable[bytes],
        headers: Mapping[str, str],
        *,
        only_new: bool,
    ) -> Response:
        record = ObjectRecord(key=key, blob="", size=0, etag="", modified=0.0, headers=headers)
        return self._commit(request, record, parts, only_new=only_new)

    def _commit(
        self, request: Request, record: ObjectRecord, parts: Iterable[bytes], *, only_new: bool
    ) -> Response:
        """Writes the blob and makes the record, completed from it, visible."""
        upload = self.store.begin()
        try:
            upload.write(parts)
            if record.slo_etag is None:
                self._check_etag(request, upload)
            record = self._complete(request, record, upload)
            self.store.commit(upload, record, only_new=only_new)
        except ObjectExistsError:
            abort(412)
        except NoContainerError:
            abort(404)
        finally:
            upload.discard()
        if self.defects.take("lost_reply"):
            return dropped()
        described = head.describe(record)
        return Response("", 201, {name: described[name] for name in ("Etag", "Last-Modified")})

    def _check_etag(self, request: Request, upload: Upload) -> None:
        if upload.size > MAX_OBJECT_BYTES:
            abort(413)
        if not self.defects.etag_not_checked and _given_etag(request) not in (None, upload.etag):
            abort(422)

    def _complete(self, request: Request, record: ObjectRecord, upload: Upload) -> ObjectRecord:
        now = self.store.clock()
        return replace(
            record,
            blob=upload.blob,
            size=upload.size,
            etag=upload.etag,
            modified=now,
            delete_at=head.delete_at(request, now),
            listed_from=now + self.defects.listing_lag,
        )

    def copy(self, request: Request, source: ObjectKey) -> Response:
        """COPY: the destination is in a header."""
        if "Destination" not in request.headers:
            abort(412, "Destination header required")
        destination = _path(source[0], request.headers["Destination"])
        if not self.store.index.has_container(*destination[:2]):
            abort(404)
        return self._copy(request, source, destination, only_new=False)

    def _copy(self, request: Request, source: ObjectKey, target: ObjectKey, *, only_new: bool) -> Response:
        content = open_content(self.store, source)
        if content is None:
            abort(404)
        fresh = request.headers.get("X-Fresh-Metadata", "").lower() == "true"
        given = head.metadata(request, "Object")
        headers = {**({} if fresh else content.record.headers), **given}
        try:
            if content.record.slo_etag and request.args.get("multipart-manifest") == "get":
                record = replace(content.record, key=target, headers=headers)
                response = self._commit(request, record, _chunks(content.blob), only_new=only_new)
            else:
                parts = content.read(0, content.size, to_the_end=True)
                response = self._store(request, target, parts, headers, only_new=only_new)
        except BrokenSloError:
            abort(409)
        finally:
            content.close()
        response.headers["X-Copied-From"] = "/".join(source[1:])
        return response

    def post(self, request: Request, key: ObjectKey) -> Response:
        """Replaces the user metadata and the expiry."""
        given = head.metadata(request, "Object")
        with self.store.index.transaction():
            record = self.store.find(key)
            if record is None:
                abort(404)
            system = {
                name: value for name, value in record.headers.items() if not name.startswith("X-Object-Meta-")
            }
            if request.content_type:
                system["Content-Type"] = request.content_type
            expiry = head.delete_at(request, self.store.clock())
            self.store.index.put_object(replace(record, headers={**system, **given}, delete_at=expiry))
        return Response("", 202)

    def delete(self, request: Request, key: ObjectKey) -> Response:
        """Removes an object, with its segments when asked."""
        if request.args.get("multipart-manifest") == "delete":
            names = self._with_segments(key)
            return bulk_reply(request, [self.remove(name) for name in names])
        if not self.remove(key):
            abort(404)
        return Response("", 204)

    def _with_segments(self, key: ObjectKey) -> list[ObjectKey]:
        content = open_content(self.store, key)
        if content is None:
            return [key]
        try:
            if content.record.slo_etag is None:
                abort(400, "Not an SLO manifest")
            return [*(segment.key for segment in slo.segments(content.manifest(), key[0])), key]
        finally:
            content.close()

    def remove(self, key: ObjectKey) -> bool:
        """Removes one object; False when there is none."""
        lag = self.defects.listing_lag
        return self.store.delete(key, listed_until=self.store.clock() + lag if lag else None)


def bulk_reply(request: Request, removed: list[bool]) -> Response:
    """The answer of bulk and SLO deletes: always 200, the result is in the body."""
    report: dict[str, object] = {
        "Response Status": "200 OK" if any(removed) else "404 Not Found",
        "Response Body": "",
        "Number Deleted": sum(removed),
        "Number Not Found": len(removed) - sum(removed),
        "Errors": [],
    }
    if "json" in request.headers.get("Accept", ""):
        return Response(json.dumps(report), content_type="application/json")
    lines = "".join(f"{name}: {value}\n" for name, value in report.items() if name != "Errors")
    return Response(lines + "Errors:\n", content_type="text/plain")


def _check_length(request: Request) -> None:
    if request.content_length is None and "chunked" not in request.headers.get("Transfer-Encoding", ""):
        abort(411)
    if (request.content_length or 0) > MAX_OBJECT_BYTES:
        abort(413)


def _given_etag(request: Request) -> str | None:
    etag = request.headers.get("Etag", "").strip('"').lower()
    return etag or None


def _path(account: str, text: str) -> ObjectKey:
    container, _, name = unquote(text).lstrip("/").partition("/")
    if not container or not name:
        abort(412, "a path of the form container/object is required")
    return account, container, name


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    while data := source.read(CHUNK):
        yield data


def _read_half(request: Request) -> None:
    left = (request.content_length or 2 * CHUNK) // 2
    while left > 0 and (data := request.stream.read(min(CHUNK, left))):
        left -= len(data)
