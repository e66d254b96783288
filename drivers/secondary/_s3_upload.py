r"""Uploads to S3: one request, or parts; checked by the server before anything is visible.

    the store checks x-amz-checksum-sha256   every request carries it (of the body: known already)
    the store ignores it                     every request carries Content-MD5, which the others check, and
                                             the ETag of the answer must be that MD5

    large:  create ── part 1..n, side by side, each with its digest ── the whole right? ── complete
               └─── any failure: abort; kill -9: abort_uploads finds it ───┘               visible ─┘

Headers are signed, so unsigned payloads lose nothing: who changes the bytes on the way must change the
digest, and cannot sign that.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ...core.spi import Body, Call, Conflict, DataLoss, NotFound, StorageError
from ._body import CheckedReader, md5_of
from ._parts import part_size_for, read_full, send_parts
from ._s3_client import S3Client

# Metadata of each object: its digest, for readers, and which put made it.
SHA256 = "bollard-sha256"
PUT = "bollard-put"

# S3's own limits.
MAX_PARTS = 10_000
MAX_OBJECT = 5 * 1024**4
MAX_SINGLE = 5 * 1024**3

# Sent from memory in one piece, without waiting for "100 Continue".
_SMALL = 1024 * 1024

# To tidy up after a failure, whatever is left of the call's own time.
_CLEAN_UP_SECONDS = 10.0

_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How uploads are made; sizes in bytes.

    Attributes:
        part_size: larger for bodies that would have more than 10,000 parts.
        threads: parts on their way at once.
        single_below: smaller bodies are sent in one request.
        storage_class: parameter of that name, and those of the object lock, if any.
        sha256_checked: the store compares x-amz-checksum-sha256 with what it received.
    """

    part_size: int
    threads: int
    single_below: int
    storage_class: Mapping[str, Any]
    sha256_checked: bool


class Upload:
    """One put of one object.

    Args:
        name: key within the bucket; `key` is what errors say.
        token: unlike that of any other put; tells after a lost answer whether it was ours that counted.
    """

    def __init__(
        self, client: S3Client, manners: Manners, name: str, key: str, body: Body, call: Call, token: str
    ) -> None:
        self._client = client
        self._manners = manners
        self._name = name
        self._key = key
        self._body = body
        self._call = call
        self._token = token
        self._about = {"Metadata": {SHA256: body.sha256, PUT: token}, **manners.storage_class}

    def run(self, *, if_absent: bool) -> str:
        """Store the object and return its ETag; see `ImageStoreDriver.put`."""
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        single = self._body.size < self._manners.single_below
        answer = self._single(condition) if single else self._multipart(condition)
        return str(answer.get("ETag", "")).strip('"')

    def _single(self, condition: Mapping[str, str]) -> dict[str, Any]:
        checked = self._manners.sha256_checked
        md5 = b"" if checked else md5_of(self._body, self._call)
        digest = _sha256_header(bytes.fromhex(self._body.sha256)) if checked else _md5_header(md5)

        def put() -> dict[str, Any]:
            size = self._body.size
            with CheckedReader(self._body, self._call) as reader:
                payload = read_full(reader, size) if size <= _SMALL else reader
                rest = {"Body": payload, "ContentLength": size, **self._about, **digest, **condition}
                return self._client.once("put_object", self._key, self._call, Key=self._name, **rest)

        answer = self._committed(lambda: self._client.repeat(put, self._call))
        if not checked and not _matches(answer, md5):
            self._withdraw()
            raise DataLoss(f"{self._key!r} reached the store changed, and was taken back")
        return answer

    def _multipart(self, condition: Mapping[str, str]) -> dict[str, Any]:
        if condition and self._stored() is not None:
            raise Conflict(f"{self._key}: an object of this key exists")  # before a terabyte is sent
        algorithm = {"ChecksumAlgorithm": "SHA256"} if self._manners.sha256_checked else {}
        upload = str(self._send("create_multipart_upload", **self._about, **algorithm)["UploadId"])
        try:
            parts = {"MultipartUpload": {"Parts": self._send_parts(upload)}}
            answer = self._committed(
                lambda: self._send("complete_multipart_upload", UploadId=upload, **parts, **condition)
            )
        except BaseException:  # a KeyboardInterrupt too: parts are invisible, and cost until they are aborted
            self._abort(upload)
            raise
        self._check_whole()
        return answer

    def _send_parts(self, upload: str) -> list[dict[str, Any]]:
        size = part_size_for(self._body.size, self._manners.part_size, MAX_PARTS)
        with CheckedReader(self._body, self._call) as reader:
            return send_parts(
                reader,
                size,
                self._manners.threads,
                lambda number, data: self._send_part(upload, number, data),
            )

    def _send_part(self, upload: str, number: int, data: bytes) -> dict[str, Any]:
        if self._manners.sha256_checked:
            sha256 = _sha256_header(hashlib.sha256(data).digest())
            answer = self._send("upload_part", UploadId=upload, PartNumber=number, Body=data, **sha256)
            return {"PartNumber": number, "ETag": answer["ETag"], **sha256}
        md5 = hashlib.md5(data, usedforsecurity=False).digest()
        answer = self._send("upload_part", UploadId=upload, PartNumber=number, Body=data, **_md5_header(md5))
        if not _matches(answer, md5):
            raise DataLoss(f"part {number} of {self._key!r} reached the store changed")
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _send(self, operation: str, **params: Any) -> dict[str, Any]:
        return self._client.send(operation, self._key, self._call, Key=self._name, **params)

    def _committed(self, act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Run the committing request; a refusal may be the echo of our own, whose answer was lost.

        A conditional PUT that is sent again finds its own object (412), a completion finds its upload
        gone (404).
        """
        try:
            return act()
        except (Conflict, NotFound):
            stored = self._stored()
            if stored is None or not self._is_ours(stored):
                raise
            return stored

    def _stored(self) -> dict[str, Any] | None:
        try:
            return self._send("head_object")
        except NotFound:
            return None

    def _is_ours(self, stored: Mapping[str, Any]) -> bool:
        return bool(stored["Metadata"].get(PUT) == self._token and stored["ContentLength"] == self._body.size)

    def _check_whole(self) -> None:
        """A completed upload has the right size; unless somebody has replaced or deleted it since."""
        stored = self._stored()
        if stored is not None and stored["Metadata"].get(PUT) == self._token and not self._is_ours(stored):
            self._withdraw()
            raise DataLoss(f"{self._key!r} has {stored['ContentLength']} instead of {self._body.size} bytes")

    def _withdraw(self) -> None:
        stored = self._stored()
        if stored is not None and stored["Metadata"].get(PUT) == self._token:
            self._send("delete_object")

    def _abort(self, upload: str) -> None:
        """Drop the parts. What cannot be dropped now is left to `abort_uploads`: the first error counts."""
        with suppress(StorageError):
            self._client.send(
                "abort_multipart_upload",
                self._key,
                Call.within(_CLEAN_UP_SECONDS),
                Key=self._name,
                UploadId=upload,
            )


def _sha256_header(digest: bytes) -> dict[str, str]:
    return {"ChecksumSHA256": base64.b64encode(digest).decode()}


def _md5_header(digest: bytes) -> dict[str, str]:
    return {"ContentMD5": base64.b64encode(digest).decode()}


def _matches(answer: Mapping[str, Any], md5: bytes) -> bool:
    """Tell whether an ETag speaks against the upload; with customer or KMS keys it is not an MD5."""
    if "SSECustomerAlgorithm" in answer or "kms" in answer.get("ServerSideEncryption", ""):
        return True
    etag = str(answer.get("ETag", "")).strip('"')
    return _MD5.fullmatch(etag) is None or etag == md5.hex()
