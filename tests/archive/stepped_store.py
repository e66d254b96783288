"""A real store behind the hook of the model test: one call at a time, with faults, below a prefix."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO, cast

from bollard.core.spi import (
    Body,
    Call,
    ImageStoreDriver,
    Outcome,
    Page,
    StoredObject,
    StoreTraits,
    Unavailable,
)


class _Torn(io.BytesIO):
    """A body whose sender loses the connection half-way."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = len(data) // 2

    def read(self, size: int | None = -1) -> bytes:
        """Return bytes of the first half, then fail."""
        if not self._left:
            raise Unavailable("torn by the test", outcome=Outcome.UNKNOWN)
        taken = super().read(self._left if size is None or size < 0 else min(size, self._left))
        self._left -= len(taken)
        return taken


class SteppedStore(ImageStoreDriver[Any]):
    """Calls of the engine, told to `hook` before they go to `driver`; every so many of them fails.

    Faults: the request never arrives; it is carried out and the reply is lost; a body is torn half-way.

    Args:
        prefix: what keys begin with on the real store.
        faults: how many of all calls fail, from 0 to 1.
    """

    def __init__(self, driver: ImageStoreDriver[Any], prefix: str, seed: int, faults: float) -> None:
        super().__init__(driver.options)
        self._driver = driver
        self._prefix = prefix
        self._random = random.Random(seed)  # noqa: S311 - a history, no secret
        self.faults = faults
        self.failed = 0
        self.hook: Any = lambda *_: None
        self.listed: dict[str, int] = {}

    @property
    def objects(self) -> dict[str, bytes]:
        """Every key on the store below the prefix, with as many bytes as it has."""
        found, after = {}, None
        while True:
            page = self._driver.list(self._prefix, Call(), after=after)
            found.update({i.key.removeprefix(self._prefix): bytes(i.size) for i in page.items})
            after = page.after
            if after is None:
                return found

    def settle(self) -> None:
        """A real store lists when it likes; on one machine, at once."""

    def clear(self) -> None:
        """Remove everything below the prefix."""
        for key in self.objects:
            self._driver.delete(self._prefix + key, Call())

    def open(self, call: Call) -> None:
        """It is open."""

    def close(self) -> None:
        """Its owner closes it."""

    def traits(self) -> StoreTraits:
        """Those of the driver."""
        return self._driver.traits()

    def _fault(self) -> str:
        if self._random.random() >= self.faults:
            return ""
        self.failed += 1
        return self._random.choice(["lost request", "lost reply", "torn"])

    def _before(self, method: str, key: str) -> str:
        self.hook("before", method, key)
        fault = self._fault()
        if fault == "lost request":
            raise Unavailable(f"{method} {key}: {fault}", outcome=Outcome.NOT_APPLIED)
        return fault

    def _after(self, fault: str, method: str, key: str) -> None:
        if fault == "lost reply":
            raise Unavailable(f"{method} {key}: {fault}", outcome=Outcome.UNKNOWN)
        self.hook("after", method, key)

    def _own(self, item: StoredObject) -> StoredObject:
        return replace(item, key=item.key.removeprefix(self._prefix))

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        """Put, or half of it."""
        fault = self._before("put", key)
        if fault == "torn":
            with body.open() as reader:
                data = reader.read()
            body = replace(body, open=lambda: cast("BinaryIO", _Torn(data)))
        made = self._driver.put(self._prefix + key, body, call, if_absent=if_absent)
        self._after(fault, "put", key)
        return self._own(made)

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Get, or a part of it."""
        fault = self._before("get", key)
        for chunk in self._driver.get(self._prefix + key, call, offset=offset, length=length):
            if fault == "torn":
                yield chunk[: len(chunk) // 2]
                raise Unavailable(f"get {key}: torn", outcome=Outcome.UNKNOWN)
            yield chunk
        self._after(fault, "get", key)

    def head(self, key: str, call: Call) -> StoredObject:
        """Head."""
        fault = self._before("head", key)
        found = self._driver.head(self._prefix + key, call)
        self._after(fault, "head", key)
        return self._own(found)

    def list(
        self, prefix: str, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[StoredObject]:
        """List a page."""
        fault = self._before("list", prefix)
        start = None if after is None else self._prefix + after
        page = self._driver.list(self._prefix + prefix, call, after=start, limit=limit)
        self._after(fault, "list", prefix)
        end = None if page.after is None else page.after.removeprefix(self._prefix)
        return Page(items=[self._own(item) for item in page.items], after=end)

    def delete(self, key: str, call: Call) -> None:
        """Delete."""
        fault = self._before("delete", key)
        self._driver.delete(self._prefix + key, call)
        self._after(fault, "delete", key)

    def abort_uploads(self, prefix: str, call: Call, *, older_than: float) -> int:
        """Remove what torn puts left."""
        fault = self._before("abort_uploads", prefix)
        count = self._driver.abort_uploads(self._prefix + prefix, call, older_than=older_than)
        self._after(fault, "abort_uploads", prefix)
        return count
