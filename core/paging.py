"""Walking a paged listing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from .spi import Internal, Page

T = TypeVar("T")


def all_pages(fetch: Callable[[str | None], Page[T]]) -> Iterator[T]:
    """Yield the items of all pages; `fetch` gets the cursor, None for the first page.

    Raises:
        Internal: a cursor came back: the backend would send us round in circles for ever.
    """
    after: str | None = None
    seen: set[str] = set()
    while True:
        page = fetch(after)
        yield from page.items
        if page.after is None:
            return
        if page.after in seen:
            raise Internal(f"the listing returned the cursor {page.after!r} twice")
        seen.add(page.after)
        after = page.after
