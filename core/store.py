"""The orchestrator's face of secondary storage: a store driver with core's manners around it.

A decorator with the driver's own interface, so the archive engine cannot tell the difference:
retries with jitter, deadlines, redaction, and a `get` that resumes where the connection broke.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, final

from .checks import check_key, check_name
from .events import Observer, ignore
from .invoke import Invoker
from .limits import Limits, Throttle
from .plugins import load_driver
from .redact import Redactor, secrets_of
from .spi import (
    DEFAULT_TIMEOUT,
    Body,
    Call,
    DataLoss,
    FoundTrait,
    ImageStoreDriver,
    InvalidArgument,
    Page,
    StorageError,
    StoredObject,
    StoreTraits,
    Unfinished,
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
        throttle: Throttle | None = None,
    ) -> None:
        super().__init__(driver.options)
        check_name("store.name", name)
        self.name = name
        self.driver = driver
        self._throttle = throttle or Throttle()
        self._invoker = Invoker(
            redact=Redactor(secrets_of(driver.options)), observe=observe, sleep=sleep, throttle=self._throttle
        )

    def open(self, call: Call) -> None:
        """Connect and check the store."""
        self._invoker.run("store.open", (), call, self.driver.open)

    def traits(self) -> StoreTraits:
        """Return the store's manners."""
        return self._invoker.run(
            "store.traits", (), Call.within(DEFAULT_TIMEOUT), lambda _: self.driver.traits(), local=True
        )

    def probe(self, call: Call) -> Sequence[FoundTrait]:
        """Try out the store, and tell each trait with how it is known."""
        return self._invoker.run("store.probe", (), call, self.driver.probe)

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        """Store an object, all or nothing."""
        check_key(key)
        limit = self.traits().max_object_size
        if body.size > limit:
            raise InvalidArgument(f"object {key!r} has {body.size} bytes, the store takes at most {limit}")

        def act(attempt: Call) -> StoredObject:
            self._throttle.spend(body.size, attempt)
            return self.driver.put(key, body, attempt, if_absent=if_absent)

        return self._invoker.run("store.put", (), call, act, sends=body.size)

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Stream an object; a broken connection is taken up again where it broke."""
        check_key(key)
        failures = 0
        while True:
            try:
                for chunk in self._invoker.receive(
                    "store.get", self._opened(key, call, offset, length), call
                ):
                    self._throttle.spend(len(chunk), call)
                    offset, length = offset + len(chunk), _less(length, len(chunk), key)
                    failures = 0
                    yield chunk
                break
            except StorageError as error:
                failures += 1
                self._invoker.pause(failures, error, call)
                # Only now is the size worth a request: past the last byte a store answers "bad range".
                length = self.head(key, call).size - offset if length is None else length
                if length == 0:
                    return
        if length:
            raise DataLoss(f"object {key!r} ended {length} bytes early")

    def _opened(self, key: str, call: Call, offset: int, length: int | None) -> Iterator[bytes]:
        """Defer the driver's call to the first `next`: so its errors pass through the invoker's stream."""
        yield from self.driver.get(key, call, offset=offset, length=length)

    def head(self, key: str, call: Call) -> StoredObject:
        """Return size and etag, or raise `NotFound`."""
        check_key(key)
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
        check_key(key)
        self._invoker.run("store.delete", (), call, lambda c: self.driver.delete(key, c))

    def abort_uploads(self, prefix: str, call: Call, *, older_than: float) -> int:
        """Remove what unfinished puts left."""
        return self._invoker.run(
            "store.abort_uploads",
            (),
            call,
            lambda c: self.driver.abort_uploads(prefix, c, older_than=older_than),
        )

    def unfinished(self, prefix: str, call: Call, *, older_than: float) -> Iterator[Unfinished]:
        """Yield what `abort_uploads` would remove."""

        def listed() -> Iterator[Unfinished]:
            yield from self.driver.unfinished(prefix, call, older_than=older_than)

        return self._invoker.stream(listed(), call)

    def close(self) -> None:
        """Close the driver; repeatable."""
        self._invoker.run("store.close", (), Call.within(DEFAULT_TIMEOUT), lambda _: self.driver.close())


def _less(length: int | None, taken: int, key: str) -> int | None:
    """Return what is still to come after `taken` bytes."""
    if length is not None and taken > length:
        raise DataLoss(f"object {key!r} gave {taken - length} bytes more than asked for")
    return None if length is None else length - taken


def open_store(
    name: str,
    driver: str,
    options: Mapping[str, Any],
    *,
    observe: Observer = ignore,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Store:
    """Load a secondary store driver by name, validate its options and open the store.

    Raises:
        PluginError: the driver cannot be loaded.
        StorageError: an option is bad, or the store cannot be opened.
    """
    cls = load_driver(driver)
    if not issubclass(cls, ImageStoreDriver):
        raise InvalidArgument(f"driver {driver!r} is not a secondary store driver")
    instance = cls(parse_options(cls.Options, options))
    store = Store(name, instance, observe=observe, throttle=Throttle(limits))
    try:
        store.open(Call.within(DEFAULT_TIMEOUT))
    except BaseException:
        with suppress(StorageError):  # why it did not open matters more
            store.close()
        raise
    return store
