"""A part of a store as a store of its own: an archive has fixed keys, and the suite owns only a prefix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..core.spi import Body, Call, ImageStoreDriver, Page, StoredObject, StoreTraits


class Subtree(ImageStoreDriver[Any]):
    """What lies under `root` ("run-1/golden/"), under keys without it; the store stays its owner's."""

    def __init__(self, store: ImageStoreDriver[Any], root: str) -> None:
        super().__init__(store.options)
        self._store = store
        self._root = root

    def open(self, call: Call) -> None:
        """Do nothing: the store is open."""

    def close(self) -> None:
        """Do nothing: the store's owner closes it."""

    def traits(self) -> StoreTraits:
        """Return the store's."""
        return self._store.traits()

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        """Store an object."""
        return self._bare(self._store.put(self._root + key, body, call, if_absent=if_absent))

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Stream an object."""
        return self._store.get(self._root + key, call, offset=offset, length=length)

    def head(self, key: str, call: Call) -> StoredObject:
        """Return size and etag."""
        return self._bare(self._store.head(self._root + key, call))

    def list(
        self, prefix: str, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[StoredObject]:
        """List keys."""
        start = None if after is None else self._root + after
        page = self._store.list(self._root + prefix, call, after=start, limit=limit)
        following = None if page.after is None else page.after.removeprefix(self._root)
        return Page(items=[self._bare(item) for item in page.items], after=following)

    def delete(self, key: str, call: Call) -> None:
        """Delete an object."""
        self._store.delete(self._root + key, call)

    def abort_uploads(self, prefix: str, call: Call, *, older_than: float) -> int:
        """Remove what unfinished puts left."""
        return self._store.abort_uploads(self._root + prefix, call, older_than=older_than)

    def _bare(self, stored: StoredObject) -> StoredObject:
        return replace(stored, key=stored.key.removeprefix(self._root))
