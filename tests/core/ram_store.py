"""A small honest secondary store in memory, whose connections break where a test wants it."""

# ruff: noqa: ARG002, D102 - the methods are the interface's, whose docstrings stand in core/spi

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
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
    option,
)
from bollard.transfer_objects.secret import Secret

TOKEN = "t0ken/of+the store"


@dataclass(frozen=True, slots=True, kw_only=True)
class RamStoreOptions:
    """A token that must not be seen."""

    token: Secret = option(help="A token", secret=True, default=Secret(TOKEN))


class RamStore(ImageStoreDriver[RamStoreOptions]):
    """Objects in a dictionary.

    Attributes:
        breaks: for each coming `get`: how many bytes it may deliver, and what it raises then.
        faults: raised by the next calls of any other method, one each.
    """

    Options = RamStoreOptions

    def __init__(self, options: RamStoreOptions, *, chunk: int = 7) -> None:
        super().__init__(options)
        self.chunk = chunk
        self.objects: dict[str, bytes] = {}
        self.breaks: deque[tuple[int, Exception | None]] = deque()
        self.faults: deque[Exception] = deque()
        self.calls: list[str] = []
        self.ranges: list[tuple[int, int | None]] = []
        self.closed = 0

    def _enter(self, name: str) -> None:
        self.calls.append(name)
        if self.faults:
            raise self.faults.popleft()

    def open(self, call: Call) -> None:
        self._enter("open")

    def close(self) -> None:
        self.closed += 1

    def traits(self) -> StoreTraits:
        return StoreTraits(conditional_put=True, max_object_size=1000, listing_consistent=True)

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        self._enter("put")
        if if_absent and key in self.objects:
            raise Conflict(f"{key} exists")
        with body.open() as file:
            data = file.read()
        if len(data) != body.size or hashlib.sha256(data).hexdigest() != body.sha256:
            raise DataLoss(f"{key}: not the announced bytes")
        self.objects[key] = data
        return StoredObject(key=key, size=len(data))

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        self._enter("get")  # at once, not at the first `next`: a driver need not be a generator
        self.ranges.append((offset, length))
        return self._stream(key, offset, length)

    def _stream(self, key: str, offset: int, length: int | None) -> Iterator[bytes]:
        if key not in self.objects:
            raise NotFound(f"{key} is not there")
        data = self.objects[key]
        end = len(data) if length is None else offset + length
        if (offset and offset >= len(data)) or end > len(data):  # as S3 answers 416
            raise InvalidArgument(f"{offset}..{end} is outside of {key}")
        allowed, error = self.breaks.popleft() if self.breaks else (end - offset, None)
        stop = min(end, offset + allowed)
        while offset < stop:
            yield data[offset : min(stop, offset + self.chunk)]
            offset += self.chunk
        if error is not None:
            raise error

    def head(self, key: str, call: Call) -> StoredObject:
        self._enter("head")
        if key not in self.objects:
            raise NotFound(f"{key} is not there")
        return StoredObject(key=key, size=len(self.objects[key]))

    def list(
        self, prefix: str, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[StoredObject]:
        self._enter("list")
        keys = sorted(k for k in self.objects if k.startswith(prefix) and (after is None or k > after))
        items = [StoredObject(key=k, size=len(self.objects[k])) for k in keys[:limit]]
        return Page(items=items, after=keys[limit - 1] if len(keys) > limit else None)

    def delete(self, key: str, call: Call) -> None:
        self._enter("delete")
        self.objects.pop(key, None)

    def abort_uploads(self, prefix: str, call: Call, *, older_than: float) -> int:
        self._enter("abort_uploads")
        return 0
