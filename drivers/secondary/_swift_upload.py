r"""Uploads to Swift: one PUT, or segments and a manifest; compared by the server with their MD5.

    <container>            <prefix><key>                              object, or manifest of its segments
    <container>_segments   <prefix><key>/<token of the put>/00000001  never listed as objects

    large:  segment 1..n, side by side, each with its Etag ── the whole right? ── PUT manifest
               └── failure: deleted; kill -9: abort_uploads finds segments ──┘     visible ─┘
                   that the manifest in place (if any) doesn't name by token

Dynamic large objects are not used: one with a missing segment is silently short, with status 200.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from ...core.spi import Body, Call, Conflict, NotFound, Outcome, StorageError, Unavailable
from ._body import CHUNK, CheckedReader, md5_of
from ._parts import part_size_for, send_parts
from ._swift_client import SwiftClient, Wire

# Metadata of each object: its digest, for readers, and which put made it.
SHA256 = "x-object-meta-bollard-sha256"
PUT = "x-object-meta-bollard-put"

_CLEAN_UP_SECONDS = 10.0


class Place(NamedTuple):
    """Where a store keeps things; `policy` is the storage policy of a container that is made."""

    container: str
    segments: str
    policy: str


class Manners(NamedTuple):
    """How uploads are made; sizes in bytes."""

    segment_size: int
    max_segments: int
    threads: int
    single_below: int


class Upload:
    """One put of one object.

    Args:
        name: object within the container; `key` is what errors say.
        token: unlike that of any other put; names its segments, and tells after a lost answer whether
            it was ours that counted.
    """

    def __init__(
        self, client: SwiftClient, place: Place, name: str, key: str, body: Body, call: Call, token: str
    ) -> None:
        self._client = client
        self._place = place
        self._name = name
        self._key = key
        self._body = body
        self._call = call
        self._token = token
        self._about = {SHA256: body.sha256, PUT: token}

    def run(self, manners: Manners, *, if_absent: bool) -> str:
        """Store the object and return its ETag; see `ImageStoreDriver.put`."""
        condition = {"If-None-Match": "*"} if if_absent else {}
        if self._body.size < manners.single_below:
            return self._single(condition)
        return self._large(manners, condition)

    def _single(self, condition: Mapping[str, str]) -> str:
        md5 = md5_of(self._body, self._call).hex()

        def put(wire: Wire) -> str:
            with CheckedReader(self._body, self._call) as reader:
                return _acknowledged(
                    self._client.api.put_object(
                        *wire.account,
                        self._place.container,
                        self._name,
                        contents=reader if self._body.size else b"",
                        content_length=self._body.size,
                        etag=md5,
                        chunk_size=CHUNK if self._body.size else None,
                        headers={**self._about, **condition},
                        http_conn=wire.http,
                    ),
                    md5,
                    self._key,
                )

        try:
            return self._client.run(self._key, self._call, put)
        except Conflict:
            return self._ours_after_all()

    def _large(self, manners: Manners, condition: Mapping[str, str]) -> str:
        if condition and self._stored() is not None:
            raise Conflict(f"{self._key}: an object of this key exists")  # before a terabyte is sent
        self._make_container()
        size = part_size_for(self._body.size, manners.segment_size, manners.max_segments)
        count = -(-self._body.size // size)
        try:
            with CheckedReader(self._body, self._call) as reader:
                entries = send_parts(reader, size, manners.threads, self._send_segment)
        except BaseException:  # a KeyboardInterrupt too: nobody sees segments, and they cost
            self._drop_segments(count)
            raise
        try:
            return self._put_manifest(entries, condition)
        except StorageError as error:
            # A manifest whose answer was lost may be in place, and names these segments.
            if error.outcome is Outcome.NOT_APPLIED:
                self._drop_segments(count)
            raise

    def _make_container(self) -> None:
        policy = {"X-Storage-Policy": self._place.policy} if self._place.policy else {}
        self._client.run(
            f"the container {self._place.segments!r}",
            self._call,
            lambda wire: self._client.api.put_container(
                *wire.account, self._place.segments, http_conn=wire.http, headers=policy
            ),
        )

    def _send_segment(self, number: int, data: bytes) -> dict[str, Any]:
        name = f"{self._name}/{self._token}/{number:08d}"
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()

        def put(wire: Wire) -> str:
            etag = self._client.api.put_object(
                *wire.account, self._place.segments, name, contents=data, etag=md5, http_conn=wire.http
            )
            return _acknowledged(etag, md5, self._key)

        self._client.run(self._key, self._call, put)
        return {"path": f"/{self._place.segments}/{name}", "etag": md5, "size_bytes": len(data)}

    def _put_manifest(self, entries: Sequence[Mapping[str, Any]], condition: Mapping[str, str]) -> str:
        whole = hashlib.md5("".join(e["etag"] for e in entries).encode(), usedforsecurity=False)
        manifest = json.dumps(entries).encode()

        def put(wire: Wire) -> str:
            return _acknowledged(
                self._client.api.put_object(
                    *wire.account,
                    self._place.container,
                    self._name,
                    contents=manifest,
                    etag=whole.hexdigest(),
                    query_string="multipart-manifest=put",
                    headers={**self._about, **condition},
                    http_conn=wire.http,
                ),
                whole.hexdigest(),
                self._key,
            )

        try:
            return self._client.run(self._key, self._call, put)
        except Conflict:
            return self._ours_after_all()

    def _ours_after_all(self) -> str:
        """Return the ETag if the object in place is of this put, whose answer was lost; else `Conflict`."""
        stored = self._stored()
        if stored is None or stored.get(PUT) != self._token:
            raise Conflict(f"{self._key}: an object of this key exists")
        return str(stored["etag"]).strip('"')

    def _stored(self) -> Mapping[str, str] | None:
        try:
            return head(self._client, self._place.container, self._name, self._key, self._call)
        except NotFound:
            return None

    def _drop_segments(self, count: int) -> None:
        """Delete what was sent; what cannot be deleted now, `abort_uploads` finds."""
        names = [f"{self._name}/{self._token}/{number:08d}" for number in range(1, count + 1)]
        with suppress(StorageError):
            delete_all(self._client, self._place.segments, names, self._key, Call.within(_CLEAN_UP_SECONDS))


def _acknowledged(etag: str, expected: str, key: str) -> str:
    """Return the ETag of a PUT that Swift has answered.

    A portal or a proxy answers 200 with its login page, and swiftclient takes that for success: only who
    has stored the bytes knows their digest.

    Raises:
        Unavailable: there is none, or another; repeating is safe.
    """
    if (found := str(etag).strip('"')) != expected:
        said = f"the ETag {found!r}" if found else "no ETag"
        raise Unavailable(
            f"{key}: the answer to the PUT has {said}, so it is not Swift's", outcome=Outcome.UNKNOWN
        )
    return found


def head(client: SwiftClient, container: str, name: str, what: str, call: Call) -> Mapping[str, str]:
    """Return an object's headers as the newest replica has them, or raise `NotFound`."""
    headers: Mapping[str, str] = client.run(
        what,
        call,
        lambda wire: client.api.head_object(
            *wire.account, container, name, http_conn=wire.http, headers={"X-Newest": "true"}
        ),
    )
    return headers


def delete_all(client: SwiftClient, container: str, names: Sequence[str], what: str, call: Call) -> None:
    """Delete objects; missing ones are fine."""
    for name in names:
        with suppress(NotFound):
            client.run(what, call, partial(_delete, client, container, name))


def _delete(client: SwiftClient, container: str, name: str, wire: Wire) -> None:
    client.api.delete_object(*wire.account, container, name, http_conn=wire.http)
