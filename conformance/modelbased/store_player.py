"""Plays the steps of a history on a secondary store, and finds what differs from what is expected."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import closing, suppress

from ...core.spi import Body, Call, StorageError, StoredObject
from ...core.store import Store, open_store
from ...transfer_objects.ids import new_id
from ..settings import SuiteSettings
from .expecting import OK, Difference, Expected, expecting

_GOOD: Expected = (OK,)


def content(key: str, generation: int, size: int) -> bytes:
    """Return the bytes that generation `generation` of an object has."""
    return random.Random(f"{key} {generation}").randbytes(size)  # noqa: S311 - test data, not a secret


class StorePlayer:
    """Each method is one step; `expect` says how it must end.

    Args:
        store: where it plays.
        prefix: begins all keys.
    """

    def __init__(self, store: Store, prefix: str) -> None:
        self._store, self._prefix = store, f"{prefix}/{new_id()[:8]}/"
        self._touched: set[str] = set()

    def put(
        self, key: str, generation: int, size: int, *, if_absent: bool = False, expect: Expected = _GOOD
    ) -> None:
        """Put generation {generation} of {size} bytes under {key}."""
        self._touched.add(key)
        body = Body.of(content(key, generation, size))
        made = expecting(
            expect, lambda: self._store.put(self._key(key), body, self._call(), if_absent=if_absent)
        )
        if made is not None:
            self._check(key, size, made)

    def put_broken(self, key: str, size: int) -> None:
        """Put {size} bytes under {key} that are not those of the announced digest."""
        self._touched.add(key)
        good = Body.of(content(key, 0, size))
        broken = Body(size=size, sha256=Body.of(b"else").sha256, open=good.open)
        expecting(("DataLoss",), lambda: self._store.put(self._key(key), broken, self._call()))

    def get(self, key: str, of: tuple[int, int] | None, offset: int, length: int | None) -> None:
        """Get {length} bytes of {key} from {offset}."""
        expect = self._range(of, offset, length)
        stream = lambda: b"".join(  # noqa: E731 - read within the expectation: errors come with the first byte
            self._store.get(self._key(key), self._call(), offset=offset, length=length)
        )
        found = expecting(expect, stream)
        if of is not None and found is not None:
            whole = content(key, *of)
            wanted = whole[offset:] if length is None else whole[offset : offset + length]
            if found != wanted:
                raise Difference(f"{key}: {len(found)} bytes from {offset} are not what was put")

    def head(self, key: str, size: int | None) -> None:
        """Look at {key}."""
        expect: Expected = _GOOD if size is not None else ("NotFound",)
        found = expecting(expect, lambda: self._store.head(self._key(key), self._call()))
        if found is not None and size is not None:
            self._check(key, size, found)

    def delete(self, key: str) -> None:
        """Delete {key}."""
        expecting(_GOOD, lambda: self._store.delete(self._key(key), self._call()))

    def listed(self, prefix: str, sizes: Mapping[str, int], limit: int) -> None:
        """List what begins with {prefix}, {limit} keys on a page."""
        found: list[StoredObject] = []
        after: str | None = None
        for _ in range(len(sizes) + 2):
            page = self._store.list(self._key(prefix), self._call(), after=after, limit=limit)
            if len(page.items) > limit:
                raise Difference(f"a page of limit {limit} has {len(page.items)} keys")
            found += page.items
            after = page.after
            if after is None:
                break
        shown = [(o.key.removeprefix(self._prefix), o.size) for o in found]
        wanted = sorted(sizes.items(), key=lambda entry: entry[0].encode())
        if after is not None or shown != wanted:
            raise Difference(f"the list of {prefix!r} is {shown}, and should be {wanted}")

    def clean(self) -> None:
        """Remove all that was put; what cannot be removed stays for the run's own clean-up."""
        for key in self._touched:
            with suppress(StorageError):
                self._store.delete(self._key(key), self._call())

    def _key(self, key: str) -> str:
        return self._prefix + key

    def _call(self) -> Call:
        return Call.within(60.0)

    def _range(self, of: tuple[int, int] | None, offset: int, length: int | None) -> Expected:
        """Return how reading a range of an object must end; `of`: its generation and size."""
        if of is None:
            return ("NotFound",)
        end = offset if length is None else offset + length
        return _GOOD if end <= of[1] else ("InvalidArgument",)

    def _check(self, key: str, size: int, found: StoredObject) -> None:
        if (found.key, found.size) != (self._key(key), size):
            raise Difference(f"{key} is shown as {found.key} with {found.size} bytes, and should have {size}")


def play_on_store(settings: SuiteSettings, history: Callable[[StorePlayer], None]) -> None:
    """Open the store of a configuration, play a history on it, and clean up."""
    with closing(open_store("reproducer", settings.driver, settings.options)) as store:
        player = StorePlayer(store, "repro")
        try:
            history(player)
        finally:
            player.clean()
