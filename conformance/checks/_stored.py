"""What the checks of secondary stores share: put, list all pages, and be sure that there is nothing."""

from __future__ import annotations

from ...core.spi import Body, NotFound, StoredObject
from ..lab import ContractBroken, must
from ..store_lab import StoreLab

STORES = ("image-store",)
KIB = 1024


def put(lab: StoreLab, data: bytes, key: str = "") -> str:
    """Put an object, under a fresh key if none is given; returns the key."""
    key = key or lab.key()
    lab.store.put(key, Body.of(data), lab.call())
    return key


def listed(lab: StoreLab, prefix: str, limit: int = 1000) -> list[StoredObject]:
    """Return all pages of a listing."""
    found: list[StoredObject] = []
    after = None
    while True:
        page = lab.store.list(prefix, lab.call(), after=after, limit=limit)
        must(len(page.items) <= limit, f"a page of limit {limit} has {len(page.items)} keys")
        found += page.items
        after = page.after
        if after is None:
            return found


def absent(lab: StoreLab, key: str, why: str) -> None:
    """Fail if anything is under a key, by head or in the list."""
    try:
        found = lab.store.head(key, lab.call())
    except NotFound:
        shown = [o.key for o in listed(lab, key) if o.key == key]
        must(not shown, f"the key is listed, though there is no object: {why}")
        return
    raise ContractBroken(f"there is an object of {found.size} bytes under the key: {why}")
