"""A faithful image store in memory that can fail on command."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bollard.core.spi import (
    Body,
    Call,
    Conflict,
    DataLoss,
    ImageStoreDriver,
    InvalidArgument,
    NotFound,
    Page,
    StoredObject,
    StoreTraits,
)


class Crash(BaseException):
    """The process died here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryOptions:
    """How the store behaves."""

    conditional_put: bool = True
    listing_consistent: bool = True


Hook = Callable[[str, str, str], None]
"""`hook("before" | "after", method, key)`: may raise, may switch to another actor."""


def _calm(when: str, method: str, key: str) -> None:
    """Let everything happen as it should."""


class MemoryStore(ImageStoreDriver[MemoryOptions]):
    """Objects in a dict. Listings show the state of the last `settle` where they are not consistent."""

    Options = MemoryOptions

    def __init__(self, options: MemoryOptions | None = None) -> None:
        super().__init__(options or MemoryOptions())
        self.objects: dict[str, bytes] = {}
        self.listed: dict[str, int] = {}
        self.calls: list[tuple[str, str]] = []
        self.sent = 0
        self.hook: Hook = _calm
        self._lock = threading.Lock()

    def open(self, call: Call) -> None:
        """Nothing to connect to."""

    def close(self) -> None:
        """Nothing to close."""

    def traits(self) -> StoreTraits:
        """Return what the options say."""
        return StoreTraits(
            conditional_put=self.options.conditional_put,
            max_object_size=2**40,
            listing_consistent=self.options.listing_consistent,
        )

    def calm(self) -> None:
        """Fail no more."""
        self.hook = _calm

    def settle(self) -> None:
        """Let listings show what is there."""
        self.listed = {key: len(data) for key, data in self.objects.items()}

    def _enter(self, method: str, key: str, call: Call) -> None:
        self.hook("before", method, key)
        call.check()
        with self._lock:
            self.calls.append((method, key))

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        """Store all of the body, checked, or nothing."""
        with body.open() as reader:
            data = reader.read()
        if len(data) != body.size or hashlib.sha256(data).hexdigest() != body.sha256:
            raise DataLoss(f"{key}: the body is not what it said")
        self._enter("put", key, call)
        with self._lock:
            if if_absent and key in self.objects:
                raise Conflict(f"{key} exists")
            self.objects[key] = data
            self.sent += len(data)
        self.hook("after", "put", key)
        return StoredObject(key=key, size=len(data))

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the range in small pieces."""
        self._enter("get", key, call)
        data = self._object(key)
        end = len(data) if length is None else offset + length
        if not 0 <= offset <= end <= len(data):
            raise InvalidArgument(f"{key}: no such range")
        for start in range(offset, end, 100_000):
            yield data[start : min(start + 100_000, end)]

    def head(self, key: str, call: Call) -> StoredObject:
        """Return the size."""
        self._enter("head", key, call)
        return StoredObject(key=key, size=len(self._object(key)))

    def _object(self, key: str) -> bytes:
        try:
            return self.objects[key]
        except KeyError as error:
            raise NotFound(f"no object {key}") from error

    def list(
        self, prefix: str, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[StoredObject]:
        """List a page."""
        self._enter("list", prefix, call)
        if self.options.listing_consistent:
            self.settle()
        keys = sorted(key for key in self.listed if key.startswith(prefix) and key > (after or ""))
        items = [StoredObject(key=key, size=self.listed[key]) for key in keys[:limit]]
        return Page(items=items, after=keys[limit - 1] if len(keys) > limit else None)

    def delete(self, key: str, call: Call) -> None:
        """Delete; a missing key is fine."""
        self._enter("delete", key, call)
        with self._lock:
            self.objects.pop(key, None)
        self.hook("after", "delete", key)

    def abort_uploads(self, prefix: str, call: Call, *, older_than: float) -> int:  # noqa: ARG002 - the contract
        """There are none: a put is one step."""
        self._enter("abort_uploads", prefix, call)
        return 0
