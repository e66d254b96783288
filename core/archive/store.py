"""Small reads that several modules need of the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..spi.call import Call
from ..spi.errors import NotFound
from ..spi.image_store import ImageStoreDriver, StoredObject
from .manifest import Manifest
from .names import manifest_key

Store = ImageStoreDriver[Any]


def read_all(store: Store, key: str, call: Call) -> bytes:
    """Return a whole (small) object."""
    return b"".join(store.get(key, call))


def head_size(store: Store, key: str, call: Call) -> int | None:
    """Return the size of an object in bytes, None if it is not there."""
    try:
        return store.head(key, call).size
    except NotFound:
        return None


def keys_under(store: Store, prefix: str, call: Call) -> Iterator[StoredObject]:
    """Yield every object whose key starts with `prefix`, page by page."""
    after: str | None = None
    while True:
        call.check()
        page = store.list(prefix, call, after=after)
        yield from page.items
        after = page.after
        if after is None:
            return


def load_manifest(store: Store, volume: str, snapshot: str, call: Call) -> Manifest:
    """Read a manifest.

    Raises:
        NotFound: no such snapshot in the archive.
        DataLoss: it is damaged.
    """
    try:
        data = read_all(store, manifest_key(volume, snapshot), call)
    except NotFound as error:
        raise NotFound(f"the archive has no snapshot {snapshot} of volume {volume}") from error
    return Manifest.from_bytes(data, volume, snapshot)
