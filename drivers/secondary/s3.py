"""An S3 bucket as an image store: AWS, Ceph, MinIO, Swift's s3api and whatever else speaks S3."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from ...core.spi import (
    Body,
    Call,
    DataLoss,
    FoundTrait,
    ImageStoreDriver,
    Internal,
    InvalidArgument,
    LimitExceeded,
    Outcome,
    Page,
    PermissionDenied,
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
from ._probe import asked, documented
from ._s3_client import S3Client
from ._s3_leftovers import abort_idle, list_idle
from ._s3_lock import ObjectLock, delete_versions
from ._s3_probe import Found, lists_late, probe, tried_out
from ._s3_upload import MAX_OBJECT, MAX_SINGLE, SHA256, Manners, Upload

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """Where the bucket is and how it is spoken to."""

    bucket: str = option(help="Name of the bucket; it must exist", example="archive")
    endpoint_url: str | None = option(
        help="URL of the service; none for Amazon's own", default=None, example="https://s3.example.org"
    )
    access_key: Secret | None = option(
        help="Access key; none to look where AWS tools look (environment, instance role)",
        default=None,
        secret=True,
    )
    secret_key: Secret | None = option(help="Secret key", default=None, secret=True)
    region: str = option(help="Region of the bucket", default="us-east-1")
    prefix: str = option(help="What all keys begin with inside the bucket", default="", example="zone-1")
    storage_class: str = option(
        help="Storage class; empty for the bucket's own", default="", example="STANDARD_IA"
    )
    addressing_style: str = option(
        help="Bucket in the path or in the host name",
        default="path",
        choices=("path", "virtual", "auto"),
    )
    verify_tls: bool = option(help="Check the server's certificate", default=True)
    ca_file: Path | None = option(help="PEM file of the authorities to trust", default=None)
    connect_timeout: float = option(help="Seconds to connect", default=10.0, minimum=0.1)
    read_timeout: float = option(help="Seconds without a byte", default=60.0, minimum=0.5)
    attempts: int = option(help="How often a request is tried in all", default=4, minimum=1, maximum=20)
    part_size: int = option(
        help="Bytes per part of a large upload", default=16 * MIB, minimum=5 * MIB, maximum=MAX_SINGLE
    )
    upload_threads: int = option(help="Parts of one object sent at once", default=4, minimum=1, maximum=64)
    max_single_upload_size: int = option(
        help="Bytes from which a body is sent in parts; 0: always, negative: never", default=128 * MIB
    )
    checksum: str = option(
        help="Digest that the store compares; probe finds out with a hidden object",
        default="probe",
        choices=("probe", "sha256", "md5"),
    )
    conditional_put: str = option(
        help="Whether the store honours If-None-Match; probe finds out with a hidden object",
        default="probe",
        choices=("probe", "yes", "no"),
    )
    listing_consistent: str = option(
        help="Whether a new key is listed at once; probe: unless the server is Swift",
        default="probe",
        choices=("probe", "yes", "no"),
    )
    lock_days: int = option(
        help="Days for which nothing can be deleted (object lock of the bucket); 0: no lock",
        default=0,
        minimum=0,
    )
    lock_mode: str = option(
        help="Who may delete nevertheless: some with a special permission, or nobody at all",
        default="governance",
        choices=("governance", "compliance"),
    )


class S3Driver(ImageStoreDriver[S3Options]):
    """Objects of one bucket, below one prefix."""

    spi = (1, 0)
    Options: ClassVar[type[S3Options]] = S3Options

    def __init__(self, options: S3Options) -> None:
        super().__init__(options)
        self._client: S3Client | None = None
        self._found = Found("", conditional_put=False)
        self._lists_late = False
        self._manners = Manners(
            part_size=options.part_size,
            threads=options.upload_threads,
            single_below=_single_below(options.max_single_upload_size),
            storage_class={"StorageClass": options.storage_class} if options.storage_class else {},
            sha256_checked=False,
        )
        self._base = check_store_prefix(options.prefix)
        self._lock = ObjectLock(days=options.lock_days, mode=options.lock_mode) if options.lock_days else None

    def open(self, call: Call) -> None:
        """Check the bucket and find out, with a hidden object, what the store checks and honours.

        Credentials that may only read open the store for restoring.
        """
        self.close()
        self._client = S3Client(self.options)
        what = f"the bucket {self.options.bucket!r}"
        bucket = self._ask_for_bucket(what, call)
        if self._lock:
            self._lock.check_bucket(self._client, self.options.bucket, call)
        asks = self.options
        self._found = probe(self._client, self._base, call, asks.checksum, asks.conditional_put)
        self._manners = replace(self._manners, sha256_checked=self._found.checksum == "sha256")
        consistent = asks.listing_consistent
        self._lists_late = consistent == "no" or (consistent == "probe" and lists_late(bucket))

    def _ask_for_bucket(self, what: str, call: Call) -> dict[str, Any]:
        """An answer to HEAD has no body: why it is 403 (secret, clock, or rights) only a GET says."""
        try:
            return self._opened.send("head_bucket", what, call)
        except PermissionDenied:
            return self._opened.send("list_objects_v2", what, call, Prefix=self._base, MaxKeys=1)

    def close(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def traits(self) -> StoreTraits:
        """Return the store's manners; listings of S3 are consistent since 2020, of Swift's s3api never."""
        largest = MAX_SINGLE if self.options.max_single_upload_size < 0 else MAX_OBJECT
        return StoreTraits(
            conditional_put=self._found.conditional_put,
            max_object_size=largest,
            listing_consistent=not self._lists_late,
        )

    def probe(self, call: Call) -> Sequence[FoundTrait]:
        """Try out what can be tried out; see `ImageStoreDriver.probe`."""
        told, options = self.traits(), self.options
        race, wrong = "two puts of a hidden object overlapped", "a hidden object was put with a wrong digest"
        server = "the server is" + ("" if self._lists_late else " not") + " Swift's s3api"
        return [
            asked("conditional_put", told.conditional_put, race, said=options.conditional_put),
            asked("checksum", self._found.checksum or None, wrong, said=options.checksum),
            asked("listing_consistent", told.listing_consistent, server, said=options.listing_consistent),
            documented("max_object_size", told.max_object_size, "10,000 parts, at most 5 TiB: S3's limits"),
            documented("max_part_size", MAX_SINGLE, "S3's limit; smaller ones of a server are not told"),
            *tried_out(self._opened, self._base, call),
        ]

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        """Send the body in one request or in parts; the store compares digests before it shows it."""
        split_key(key)
        call.check()
        if if_absent and not self._found.conditional_put:
            raise Unsupported("this store does not honour If-None-Match: conditional put is not possible")
        largest = self.traits().max_object_size
        if body.size > largest:
            raise LimitExceeded(f"{key!r} has {body.size} bytes; this store takes {largest}")
        token = secrets.token_hex(16)
        manners = self._manners
        if self._lock:
            manners = replace(manners, storage_class={**manners.storage_class, **self._lock.parameters(key)})
        upload = Upload(self._opened, manners, self._base + key, key, body, call, token)
        etag = upload.run(if_absent=if_absent)
        if self._lock and body.size >= manners.single_below:
            self._lock.ensure(self._opened, self._base + key, key, call)
        return StoredObject(key=key, size=body.size, etag=etag)

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Stream the answer; a whole object is compared with the digest that it was put with."""
        split_key(key)
        if length == 0 or offset < 0 or (length is not None and length < 0):
            check_range(key, self.head(key, call).size, offset, length)
            return
        try:
            answer = self._get(key, call, offset, length)
        except InvalidArgument:
            if check_range(key, self.head(key, call).size, offset, length):
                raise
            return  # the empty rest after the last byte, for which S3 has no range
        with closing(answer["Body"]) as stream:
            yield from verified(
                self._read(stream._raw_stream, key, call),  # noqa: SLF001 - its own `read` waits for a whole chunk
                _expected(answer, key, offset, length),
                key,
                call,
            )

    def head(self, key: str, call: Call) -> StoredObject:
        """Return size and ETag."""
        split_key(key)
        answer = self._opened.send("head_object", key, call, Key=self._base + key)
        return StoredObject(key=key, size=answer["ContentLength"], etag=answer["ETag"].strip('"'))

    def list(
        self, prefix: str, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[StoredObject]:
        """List through ListObjectsV2, leaving out what is not ours."""
        check_prefix(prefix)

        def fetch(last: str, most: int) -> RawPage:
            start = {"StartAfter": self._base + last} if last else {}
            what = f"the keys under {prefix!r}"
            answer = self._opened.send(
                "list_objects_v2", what, call, Prefix=self._base + prefix, MaxKeys=most, **start
            )
            return RawPage([self._listed(item) for item in answer.get("Contents", ())], answer["IsTruncated"])

        return page_of(fetch, after, limit)

    def delete(self, key: str, call: Call) -> None:
        """Delete the object; S3 itself says nothing of a missing one. A locked one is refused (`InUse`)."""
        split_key(key)
        if self._lock:
            delete_versions(self._opened, self._base + key, key, call)
            return
        self._opened.send("delete_object", key, call, Key=self._base + key)

    def abort_uploads(self, prefix: str, call: Call, *, older_than: float) -> int:
        """Abort multipart uploads that got no part for `older_than` seconds, by the server's clock."""
        check_prefix(prefix)
        return abort_idle(self._opened, self._base + prefix, call, older_than)

    def unfinished(self, prefix: str, call: Call, *, older_than: float) -> Iterator[Unfinished]:
        """Yield the multipart uploads that `abort_uploads` would abort."""
        check_prefix(prefix)
        yield from list_idle(self._opened, self._base, prefix, call, older_than)

    @property
    def _opened(self) -> S3Client:
        if self._client is None:
            raise Unavailable("the store is not open", outcome=Outcome.NOT_APPLIED)
        return self._client

    def _get(self, key: str, call: Call, offset: int, length: int | None) -> dict[str, Any]:
        end = "" if length is None else str(offset + length - 1)
        ranged = {"Range": f"bytes={offset}-{end}"} if offset or length is not None else {}
        return self._opened.send("get_object", key, call, Key=self._base + key, **ranged)

    def _read(self, stream: Any, key: str, call: Call) -> Iterator[bytes]:
        while True:
            with self._opened.translating(key, call):
                # `read` waits for the whole chunk: a server that drips would outlive each deadline.
                data: bytes = stream.read1(CHUNK)
            if not data:
                return
            yield data

    def _listed(self, item: Mapping[str, Any]) -> StoredObject:
        return StoredObject(
            key=item["Key"][len(self._base) :], size=item["Size"], etag=item["ETag"].strip('"')
        )


def _single_below(option_value: int) -> int:
    """Read `max_single_upload_size` as CloudStack's S3TO does; what one request can take is the limit."""
    return MAX_SINGLE + 1 if option_value < 0 else min(option_value, MAX_SINGLE + 1)


def _expected(answer: Mapping[str, Any], key: str, offset: int, length: int | None) -> Expected:
    """Return what the answer's body must be.

    Raises:
        InvalidArgument: S3 cut the range to what there is.
        DataLoss: the answer announces another length than was asked for.
    """
    whole = not offset and length is None
    total = answer["ContentLength"] if whole else int(answer.get("ContentRange", "/-1").rpartition("/")[2])
    if total < 0:
        raise Internal(f"{key}: the store ignored the range")
    wanted = check_range(key, total, offset, length)
    if answer["ContentLength"] != wanted:
        raise DataLoss(f"the store announces {answer['ContentLength']} of {wanted} bytes of {key!r}")
    return Expected(wanted, answer["Metadata"].get(SHA256, "") if whole else "")
