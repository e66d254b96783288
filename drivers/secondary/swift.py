"""A container of OpenStack Swift as an image store."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ...core.spi import (
    GIB,
    Body,
    Busy,
    Call,
    DataLoss,
    FoundTrait,
    ImageStoreDriver,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Outcome,
    Page,
    StoredObject,
    StoreTraits,
    Unavailable,
    Unfinished,
    Unsupported,
    option,
)
from ...transfer_objects.secret import Secret
from ._body import CHUNK, check_range
from ._download import Expected, verified
from ._keys import check_prefix, check_store_prefix, split_key
from ._listing import RawPage, page_of
from ._probe import asked, documented, probed
from ._swift_client import SwiftClient, Wire
from ._swift_leftovers import abort_idle, list_idle, live_segments
from ._swift_probe import Limits, honours_condition, limits, tried_out
from ._swift_upload import PUT, SHA256, Manners, Place, Upload, delete_all, head

MIB = 1024 * 1024

# Segments are sent from memory; an object of more than a thousand of them would need larger ones.
_LARGEST_SEGMENT = GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class SwiftOptions:
    """Where to sign in, and where the objects are."""

    url: str = option(help="Authentication URL", example="https://swift.example.org/auth/v1.0")
    user_name: str = option(help="User", example="bollard")
    key: Secret = option(help="The user's key or password", secret=True)
    container: str = option(help="Name of the container; it must exist", example="archive")
    account: str = option(help="Account (v1) or project (v2, v3) of the user", default="", example="cloud")
    auth_version: str = option(help="Version of the sign-in", default="1", choices=("1", "2", "3"))
    user_domain: str = option(help="Keystone domain of the user (v3)", default="Default")
    project_domain: str = option(help="Keystone domain of the project (v3)", default="Default")
    region: str = option(help="Region, where the catalog has several", default="")
    storage_url: str = option(help="Storage URL to use instead of the one that sign-in gives", default="")
    prefix: str = option(help="What all names begin with inside the container", default="", example="zone-1")
    storage_policy: str = option(help="Policy of the container for segments, if it is made", default="")
    verify_tls: bool = option(help="Check the server's certificate", default=True)
    ca_file: Path | None = option(help="PEM file of the authorities to trust", default=None)
    connect_timeout: float = option(help="Seconds to connect", default=10.0, minimum=0.1)
    read_timeout: float = option(help="Seconds without a byte", default=60.0, minimum=0.5)
    attempts: int = option(help="How often a request is tried in all", default=4, minimum=1, maximum=20)
    segment_size: int = option(
        help="Bytes per segment of a large object", default=32 * MIB, minimum=MIB, maximum=_LARGEST_SEGMENT
    )
    upload_threads: int = option(help="Segments of one object sent at once", default=4, minimum=1, maximum=64)
    max_single_upload_size: int = option(
        help="Bytes from which a body is sent in segments; 0: always, negative: never", default=128 * MIB
    )
    conditional_put: str = option(
        help="Whether the store honours If-None-Match; probe finds out with a hidden object",
        default="probe",
        choices=("probe", "yes", "no"),
    )

    def sign_in_user(self) -> str:
        """Return the user as the sign-in wants it: v1 has account and user in one word."""
        joined = self.auth_version == "1" and self.account and ":" not in self.user_name
        return f"{self.account}:{self.user_name}" if joined else self.user_name


class SwiftDriver(ImageStoreDriver[SwiftOptions]):
    """Objects of one container, below one prefix; segments of large ones in a second container."""

    spi = (1, 0)
    Options: ClassVar[type[SwiftOptions]] = SwiftOptions

    def __init__(self, options: SwiftOptions) -> None:
        super().__init__(options)
        self._base = check_store_prefix(options.prefix)
        self._place = Place(options.container, f"{options.container}_segments", options.storage_policy)
        self._client: SwiftClient | None = None
        self._conditional = False
        self._limits = Limits()

    def open(self, call: Call) -> None:
        """Sign in, check the container, and find out what the store honours.

        A user who may only read opens the store for restoring.
        """
        self.close()
        self._client = SwiftClient(self.options)
        what = f"the container {self.options.container!r}"
        self._run(what, call, lambda w: self._api.head_container(*w.account, self._place.container, w.http))
        self._limits = limits(self._client, call)
        asked = self.options.conditional_put
        self._conditional = asked == "yes" or (
            asked == "probe" and honours_condition(self._client, self._place.container, self._base, call)
        )

    def close(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def traits(self) -> StoreTraits:
        """Return the store's manners: with a container server down, listings lag behind."""
        return StoreTraits(
            conditional_put=self._conditional, max_object_size=self._largest, listing_consistent=False
        )

    def probe(self, call: Call) -> Sequence[FoundTrait]:
        """Try out what can be tried out; see `ImageStoreDriver.probe`."""
        race = "two puts of a hidden object overlapped"
        limit = probed if self._limits.told else documented
        said = "/info says so" if self._limits.told else "Swift's default; /info is switched off"
        return [
            asked("conditional_put", self._conditional, race, said=self.options.conditional_put),
            limit("max_object_size", self._largest, f"{said}: segments of a manifest x their largest size"),
            limit("max_segments", self._limits.segments, said),
            limit("max_segment_size", min(self._limits.single, _LARGEST_SEGMENT), f"{said}; at most 1 GiB"),
            documented(
                "listing_consistent", value=False, how="listings lag while a container server is down"
            ),
            *tried_out(self._opened, self._place.container, self._base, call),
        ]

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        """Send the body with its MD5, which Swift compares before it shows the object."""
        split_key(key)
        call.check()
        if if_absent and not self._conditional:
            raise Unsupported("this store does not honour If-None-Match: conditional put is not possible")
        if body.size > self.traits().max_object_size:
            most = self.traits().max_object_size
            raise LimitExceeded(f"{key!r} has {body.size} bytes; this store takes {most}")
        token = secrets.token_hex(16)
        upload = Upload(self._opened, self._place, self._base + key, key, body, call, token)
        return StoredObject(key=key, size=body.size, etag=upload.run(self._manners(), if_absent=if_absent))

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Stream the answer; a whole object is compared with the digest that it was put with."""
        split_key(key)
        if length == 0 or offset < 0 or (length is not None and length < 0):
            check_range(key, self.head(key, call).size, offset, length)
            return
        with self._opened.borrowed(key, call) as http:
            try:
                headers, body = self._get(http, key, call, offset, length)
            except InvalidArgument:
                if check_range(key, self.head(key, call).size, offset, length):
                    raise
                return  # the empty rest after the last byte, for which HTTP has no range
            with closing(body):
                expected = _expected(headers, key, offset, length)
                yield from verified(self._read(body, key, call), expected, key, call)

    def head(self, key: str, call: Call) -> StoredObject:
        """Return size and ETag."""
        split_key(key)
        headers = head(self._opened, self._place.container, self._base + key, key, call)
        return StoredObject(key=key, size=int(headers["content-length"]), etag=headers["etag"].strip('"'))

    def list(
        self, prefix: str, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[StoredObject]:
        """List the container, leaving out what is not ours."""
        check_prefix(prefix)
        what = f"the keys under {prefix!r}"

        def fetch(last: str, most: int) -> RawPage:
            where = {
                "marker": self._base + last if last else "",
                "prefix": self._base + prefix,
                "limit": most,
            }
            _, items = self._run(
                what,
                call,
                lambda w: self._api.get_container(
                    *w.account, self._place.container, http_conn=w.http, **where
                ),
            )
            return RawPage([self._listed(item) for item in items], more=len(items) == most)

        return page_of(fetch, after, limit)

    def delete(self, key: str, call: Call) -> None:
        """Delete the object, then its segments: a manifest whose segments are gone must never be seen.

        Swift's own `multipart-manifest=delete` begins with the segments.
        """
        split_key(key)
        name = self._base + key
        with suppress(NotFound):
            headers = head(self._opened, self._place.container, name, key, call)
            delete_all(self._opened, self._place.container, [name], key, call)
            if "x-static-large-object" in headers and PUT in headers:
                segments = live_segments(self._opened, self._place, name, headers[PUT], call)
                delete_all(self._opened, self._place.segments, segments, key, call)

    def abort_uploads(self, prefix: str, call: Call, *, older_than: float) -> int:
        """Delete segments of puts that were not finished, and of objects that were overwritten."""
        check_prefix(prefix)
        return abort_idle(self._opened, self._place, self._base + prefix, call, older_than)

    def unfinished(self, prefix: str, call: Call, *, older_than: float) -> Iterator[Unfinished]:
        """Yield the puts whose segments `abort_uploads` would delete."""
        check_prefix(prefix)
        yield from list_idle(self._opened, self._place, self._base, prefix, call, older_than)

    @property
    def _largest(self) -> int:
        if self._limits.segments and self.options.max_single_upload_size >= 0:
            return self._limits.segments * min(self._limits.single, _LARGEST_SEGMENT)
        return self._limits.single

    @property
    def _opened(self) -> SwiftClient:
        if self._client is None:
            raise Unavailable("the store is not open", outcome=Outcome.NOT_APPLIED)
        return self._client

    @property
    def _api(self) -> Any:
        return self._opened.api

    def _run(self, what: str, call: Call, act: Any) -> Any:
        return self._opened.run(what, call, act)

    def _manners(self) -> Manners:
        options = self.options
        wanted, most = options.max_single_upload_size, self._limits.single
        single = wanted < 0 or not self._limits.segments
        return Manners(
            segment_size=min(options.segment_size, most),
            max_segments=self._limits.segments,
            threads=options.upload_threads,
            single_below=most + 1 if single else min(wanted, most + 1),
        )

    def _get(
        self, http: Any, key: str, call: Call, offset: int, length: int | None
    ) -> tuple[Mapping[str, str], Any]:
        end = "" if length is None else str(offset + length - 1)
        ranged = {"Range": f"bytes={offset}-{end}"} if offset or length is not None else {}

        def act(wire: Wire) -> tuple[Mapping[str, str], Any]:
            where = (self._place.container, self._base + key)
            answer: tuple[Mapping[str, str], Any] = self._api.get_object(
                *wire.account, *where, http_conn=wire.http, resp_chunk_size=CHUNK, headers=ranged
            )
            return answer

        try:
            return self._opened.run_on(http, key, call, act)
        except Busy as error:  # 409: the first segment is not the one that the manifest names
            raise DataLoss(f"{key!r}: a segment is gone or was overwritten") from error

    def _read(self, body: Any, key: str, call: Call) -> Iterator[bytes]:
        while True:
            with self._opened.translating(key, call):
                # `read` waits for the whole chunk: a server that drips would outlive each deadline.
                data: bytes = body.resp.raw.read1(CHUNK)
            if not data:
                return
            yield data

    def _listed(self, item: Mapping[str, Any]) -> StoredObject:
        return StoredObject(key=item["name"][len(self._base) :], size=item["bytes"], etag=item["hash"])


def _expected(headers: Mapping[str, str], key: str, offset: int, length: int | None) -> Expected:
    """Return what the answer's body must be.

    Raises:
        InvalidArgument: Swift cut the range to what there is.
        DataLoss: the answer announces another length than was asked for.
    """
    announced = int(headers["content-length"])
    if offset or length is not None:
        total = int(headers.get("content-range", "/-1").rpartition("/")[2])
        wanted = check_range(key, total, offset, length)
        if announced != wanted:
            raise DataLoss(f"the store announces {announced} of {wanted} bytes of {key!r}")
        return Expected(wanted)
    if SHA256 in headers:
        return Expected(announced, headers[SHA256])
    foreign_large = "x-static-large-object" in headers or "x-object-manifest" in headers
    return Expected(announced) if foreign_large else Expected(announced, headers["etag"].strip('"'), "md5")
