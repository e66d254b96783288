"""Pages of keys from a store whose own pages also hold what is not ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice, pairwise
from typing import NamedTuple

from ...core.spi import InvalidArgument, Page, StoredObject, Unsupported
from ._keys import is_key

STORE_PAGE = 1000
"""Names asked for at once: S3 gives no more."""


class RawPage(NamedTuple):
    """A page as the store gave it: keys relative to the store's prefix, sorted; `more` if it has others."""

    items: Sequence[StoredObject]
    more: bool


Fetch = Callable[[str, int], RawPage]
"""`fetch(after, limit)`: the names that come after `after`."""


def page_of(fetch: Fetch, after: str | None, limit: int) -> Page[StoredObject]:
    """Return a page of `limit` valid keys, asking the store as often as that takes.

    Raises:
        InvalidArgument: `limit` is less than 1.
        Unsupported: the store lists in another order (S3 Express does), so that "after" would skip keys.
    """
    if limit < 1:
        raise InvalidArgument(f"limit must be at least 1, got {limit}")
    found: list[StoredObject] = []
    last, more = after or "", True
    while more and len(found) <= limit:
        raw = fetch(last, min(STORE_PAGE, limit + 1 - len(found)))
        if any(one.key >= next_.key for one, next_ in pairwise(raw.items)):
            raise Unsupported("the store does not list in the order of UTF-8, so pages of it would skip keys")
        found += (item for item in raw.items if is_key(item.key))
        more = raw.more and bool(raw.items)
        last = raw.items[-1].key if raw.items else last
    items = list(islice(found, limit))
    return Page(items=items, after=items[-1].key if len(found) > limit else None)
