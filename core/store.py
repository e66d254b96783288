"""The orchestrator's face of secondary storage: a store driver with core's manners around it.

A decorator with the driver's own interface, so the archive engine cannot tell the difference:
retries with jitter, deadlines, redaction, and a `get` that resumes where the connection broke.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, final

from .checks import check_name
from .events import Observer, ignore
from .invoke import MAX_ATTEMPTS, Invoker
from .plugins import load_driver
from .redact import Redactor, secrets_of
from .spi import (
    DEFAULT_TIMEOUT,
    Body,
    Call,
    DataLoss,
    ImageStoreDriver,
    InvalidArgument,
    Page,
    StorageError,
    StoredObject,
    StoreTraits,
    Unavailable,
    parse_options,
)


@final
class Store(ImageStoreDriver[Any]):
    """One secondary store. Use as a context manager through `contextlib.closing`, or `close()`."""

    def __init__(
        self,
        name: str,
        driver: ImageStoreDriver[Any],
        *,
        observe: Observer = ignore,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(driver.options)
        check_name("store.name", name)
        self.name = name
        self.driver = driver
        self._invoker = Invoker(redact=Redactor(secrets_of(driver.options)), observe=observe, sleep=sleep)

    def open(self, call: Call) -> None:
        """Connect and check the store."""
        self._invoker.run("store.open", (), call, self.driver.open)

    def traits(self) -> StoreTraits:
        """Return the store's manners."""
        return self.driver.traits()

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        """Store an object, all or nothing."""
        limit = self.traits().max_object_size
        if body.size > limit:
            raise InvalidArgument(f"object {key!r} has {body.size} bytes, the store takes at most {limit}")
        return self._invoker.run(
            "store.put", (), call, lambda c: self.driver.put(key, body, c, if_absent=if_absent)
        )

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Stream an object; a broken connection is taken up again where it broke."""
        failures = 0
        while True:
            try:
                for chunk in self._invoker.stream(self.driver.get(key, call, offset=offset, length=length)):
                    offset += len(chunk)
                    length = None if length is None else length - len(chunk)
                    failures = 0
                    yield chunk
            except Unavailable:
                failures += 1
                if failures >= MAX_ATTEMPTS:
                    raise
                call.check()
                if length == 0:
                    return
            else:
                if length:
                    raise DataLoss(f"object {key!r} ended {length} bytes early")
                return

    def head(self, key: str, call: Call) -> StoredObject:
        """Return size and etag, or raise `NotFound`."""
        return self._invoker.run("store.head", (), call, lambda c: self.driver.head(key, c))

    def list(
        self, prefix: str, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[StoredObject]:
        """List one page of keys that start with `prefix`."""
        return self._invoker.run(
            "store.list", (), call, lambda c: self.driver.list(prefix, c, after=after, limit=limit)
        )

    def delete(self, key: str, call: Call) -> None:
        """Delete an object; a missing one is fine."""
        self._invoker.run("store.delete", (), call, lambda c: self.driver.delete(key, c))

    def abort_uploads(self, prefix: str, call: Call, *, older_than: float) -> int:
        """Remove what unfinished puts left."""
        return self._invoker.run(
            "store.abort_uploads",
            (),
            call,
            lambda c: self.driver.abort_uploads(prefix, c, older_than=older_than),
        )

    def close(self) -> None:
        """Close the driver; repeatable."""
        self.driver.close()


def open_store(name: str, driver: str, options: Mapping[str, Any], *, observe: Observer = ignore) -> Store:
    """Load a secondary store driver by name, validate its options and open the store.

    Raises:
        PluginError: the driver cannot be loaded.
        StorageError: an option is bad, or the store cannot be opened.
    """
    cls = load_driver(driver)
    if not issubclass(cls, ImageStoreDriver):
        raise InvalidArgument(f"driver {driver!r} is not a secondary store driver")
    store = Store(name, cls(parse_options(cls.Options, options)), observe=observe)
    try:
        store.open(Call.within(DEFAULT_TIMEOUT))
    except StorageError:
        store.close()
        raise
    return store
