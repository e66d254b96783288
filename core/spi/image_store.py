"""Secondary storage: objects under keys. NFS, S3 and Swift behind one small contract.

key    "v1/vol-1/snap-2/0000000000000000.zip"   relative, '/'-separated, no '.', '..', empty part
put    all or nothing: nobody sees half an object under its final name
"""

from __future__ import annotations

import hashlib
import io
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import BinaryIO, Self, TypeVar

from .call import Call
from .driver import Driver
from .errors import Unsupported
from .model import Page
from .traits import FoundBy, FoundTrait, StoreTraits

O = TypeVar("O")  # noqa: E741 - as in driver.py


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object on the store; `size` in bytes. `etag` is the store's own word, never relied on."""

    key: str
    size: int
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """What a put that nobody finished left of an object.

    Attributes:
        key: of the object that it would have become.
        idle: seconds since it moved, by the store's clock.
        size: bytes that it occupies; None if the store does not tell.
    """

    key: str
    idle: float
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What is put: length and digest are known before the first byte goes out.

    Attributes:
        size: bytes.
        sha256: hex digest of all of them.
        open: returns a fresh reader from the start; called again by each retry.
        crc32: of all of them, as ZIP and zlib have it, if whoever made the digest has it at hand. A driver
            may compare the bytes that it sends with this instead of hashing them once more: it looks
            for bytes that changed in memory meanwhile, and `sha256` is still what a reader compares.
    """

    size: int
    sha256: str
    open: Callable[[], BinaryIO]
    crc32: int | None = None

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Self:
        """Return a body over bytes in memory."""
        view = memoryview(data)
        return cls(size=view.nbytes, sha256=hashlib.sha256(view).hexdigest(), open=lambda: io.BytesIO(view))


class ImageStoreDriver(Driver[O]):
    """Objects on one secondary store."""

    @abstractmethod
    def open(self, call: Call) -> None:
        """Connect and check that the container, bucket or directory is there and usable.

        [store.open-typed] As `PrimaryDriver.open`: typed, within the deadline.
        """

    @abstractmethod
    def traits(self) -> StoreTraits:
        """Return the store's manners."""

    def probe(self, call: Call) -> Sequence[FoundTrait]:
        """Try out what can be tried out, and tell each trait with how it is known.

        Writes hidden objects at most, and deletes them. Without this method the driver's word counts.
        """
        del call
        told = self.traits()
        return [
            FoundTrait(
                name=field.name,
                value=getattr(told, field.name),
                found_by=FoundBy.DOCUMENTED,
                how="the driver says so",
            )
            for field in fields(told)
        ]

    @abstractmethod
    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        """Store an object.

        [store.atomic] Nothing MUST be visible under `key` before it is complete, and an aborted put
        MUST leave nothing that `abort_uploads` does not find. [store.digest] A body whose bytes do
        not match `size` and `sha256` (or `crc32`, where it has one) MUST give `DataLoss` and leave
        nothing. [store.if-absent] With `if_absent` an existing key MUST give `Conflict` and stay as it
        was. [store.keys] Two keys MUST NOT share an object, whatever their case, length or Unicode form;
        one that cannot be kept exactly MUST give `InvalidArgument` or `LimitExceeded`. [store.bounded]
        Memory MUST NOT grow with the size of the body.
        """

    @abstractmethod
    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Stream bytes from `offset`; all the rest, or exactly `length`.

        [store.get-exact] A short answer MUST raise (`DataLoss`, or `Unavailable` if the connection
        broke), never end early. [store.range] A range outside the object MUST give
        `InvalidArgument`. [store.missing] A missing key MUST give `NotFound` at the first `next`.
        """

    @abstractmethod
    def head(self, key: str, call: Call) -> StoredObject:
        """Return size and etag, or raise `NotFound`."""

    @abstractmethod
    def list(
        self, prefix: str, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[StoredObject]:
        """List keys that start with `prefix`, sorted by their UTF-8 bytes, in pages.

        [store.hidden] Uploads in progress and the driver's own temporary objects MUST NOT appear.
        [store.listed] A key that exists throughout MUST be listed once, with its size; one that was put
        or deleted before the call as it is now, if `StoreTraits.listing_consistent`.
        """

    @abstractmethod
    def delete(self, key: str, call: Call) -> None:
        """Delete; a missing key is fine."""

    @abstractmethod
    def abort_uploads(self, prefix: str, call: Call, *, older_than: float) -> int:
        """Remove what unfinished puts under `prefix` left, if older than so many seconds.

        Returns how many were removed. [store.abort-live] A put that is still moving and younger
        MUST survive.
        """

    def unfinished(self, prefix: str, call: Call, *, older_than: float) -> Iterator[Unfinished]:
        """Yield what `abort_uploads` would remove, so that people can look before.

        Raises:
            Unsupported: the driver is older than this method.
        """
        del prefix, call, older_than
        raise Unsupported(f"{type(self).__name__} cannot list what unfinished puts left")
