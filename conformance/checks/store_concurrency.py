"""Calls at the same time on a secondary store."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from threading import Event
from typing import Any

from ...core.spi import Body, ImageStoreDriver, NotFound, StorageError
from ..lab import must
from ..model import Tier
from ..modelbased.together import patiently, together
from ..registry import check
from ..store_lab import StoreLab

STORES = ("image-store",)
_MIXED = "s3-tests' atomic tests: a reader got the beginning of one object and the end of another"


def _drivers(lab: StoreLab, stack: ExitStack) -> list[ImageStoreDriver[Any]]:
    """Return two instances: core's clients would repeat and mend what is to be seen."""
    return [lab.store.driver, stack.enter_context(lab.second()).driver]


@check("conc.store_same_key_writers", rule="store.atomic", kinds=STORES, tier=Tier.STANDARD)
def check_store_same_key_writers(lab: StoreLab) -> None:
    """Of eight objects that are put under one key at once, one is there afterwards, whole.

    Two workers that archive the same thing write the same keys. Each put must succeed; whose object it is
    then is open, but its bytes and its size must be those of one of them, and no put may leave anything
    behind that `abort_uploads` finds.
    """
    key = lab.key()
    contents = [bytes([number]) * (200_000 + 10_000 * number) for number in range(8)]
    with ExitStack() as stack:
        drivers = _drivers(lab, stack)
        jobs = [
            partial(patiently, partial(drivers[n % 2].put, key, Body.of(data)))
            for n, data in enumerate(contents)
        ]
        wrong = [f"{type(a).__name__}: {a.message}" for a in together(jobs) if isinstance(a, StorageError)]
    must(not wrong, f"{len(wrong)} of 8 concurrent puts failed, e.g. {wrong[:1]}")
    found = lab.read(key)
    must(found in contents, f"the object has {len(found)} bytes that are not those of one writer")
    must(lab.store.head(key, lab.call()).size == len(found), "head and get disagree about the size")
    left = lab.store.abort_uploads(f"{lab.prefix}/", lab.call(), older_than=0)
    must(left == 0, f"the puts left {left} unfinished uploads behind")


@check(
    "conc.read_during_overwrite_is_old_or_new",
    rule="store.atomic",
    kinds=STORES,
    tier=Tier.STANDARD,
    field_bug=_MIXED,
)
def check_read_during_overwrite_is_old_or_new(lab: StoreLab) -> None:
    """Who reads an object while it is replaced gets the old one or the new one, never some of each.

    Three readers read without a pause while a writer puts two objects of different lengths in turn. An
    honest error in the middle of a stream is right, too (the reader asks again); other bytes, an end that
    comes early without an error, or a moment in which the key does not exist are not.
    """
    key, done = lab.key(), Event()
    contents = [b"old." * 500_000, b"new!" * 300_000]
    lab.store.put(key, Body.of(contents[0]), lab.call())

    def write(driver: ImageStoreDriver[Any]) -> list[str]:
        try:
            for turn in range(1, 11):
                driver.put(key, Body.of(contents[turn % 2]), lab.call())
        finally:
            done.set()
        return []

    def read(driver: ImageStoreDriver[Any]) -> list[str]:
        wrong = []
        while not done.is_set():
            try:
                found = b"".join(driver.get(key, lab.call()))
            except NotFound:
                wrong.append("the key did not exist for a moment")
            except StorageError:
                continue
            else:
                if found not in contents:
                    wrong.append(f"{len(found)} bytes that are neither the old object nor the new one")
        return wrong

    with ExitStack() as stack:
        drivers = _drivers(lab, stack)
        jobs = [partial(write, drivers[0]), *(partial(read, drivers[n % 2]) for n in range(3))]
        wrong = [sentence for some in together(jobs) for sentence in some]
    must(not wrong, f"{len(wrong)} reads during an overwrite were wrong, e.g. {wrong[:1]}")
