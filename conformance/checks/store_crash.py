"""Crash at every external call of a store driver: an object is there as a whole, or it is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ...core.spi import Body, Conflict, NotFound, StorageError
from ...core.store import Store
from ..lab import ContractBroken, must, not_applicable
from ..model import Tier
from ..registry import check
from ..store_lab import StoreLab

STORES = ("image-store",)
SIZE = 300 * 1024


@contextmanager
def hosted(lab: StoreLab) -> Iterator[tuple[Store, Any]]:
    """Open the store once more, in a process that may be killed."""
    with lab.second() as store:
        host = getattr(store.driver, "host", None)
        if host is None:
            not_applicable("the driver runs in the suite's own process (--in-process)")
        yield store, host


def _points(lab: StoreLab) -> list[str]:
    with hosted(lab) as (store, host):
        host.count()
        store.driver.put(lab.key(), Body.of(lab.data(SIZE)), lab.call())
        points: list[str] = host.counted()
    must(points, "put called nothing outside of its process, and yet it was done")
    return points


def _die_at(lab: StoreLab, key: str, body: Body, point: int, *, if_absent: bool = False) -> None:
    with suppress(StorageError), hosted(lab) as (store, host):
        host.arm(point)
        store.driver.put(key, body, lab.call(), if_absent=if_absent)


def _size(lab: StoreLab, key: str) -> int | None:
    try:
        return lab.store.head(key, lab.call()).size
    except NotFound:
        return None


@check("crash.put", rule="store.atomic", kinds=STORES, tier=Tier.STANDARD)
def check_put(lab: StoreLab) -> None:
    """After a put that was killed at any external call the key holds the whole object or nothing.

    What a crash leaves under the final name is taken for the object: nobody checks it until the restore.
    """
    data = lab.data(SIZE)
    for number, point in enumerate(_points(lab)):
        key, body = lab.key(), Body.of(data)
        _die_at(lab, key, body, number)
        where = f"put killed before external call {number} ({point})"
        must(_size(lab, key) in (None, SIZE), f"{where}: the key holds {_size(lab, key)} of {SIZE} bytes")
        lab.store.put(key, body, lab.call())
        must(lab.read(key) == data, f"{where}: after the repeat the object has other bytes")


@check("crash.overwrite", rule="store.atomic", kinds=STORES, tier=Tier.STANDARD)
def check_overwrite(lab: StoreLab) -> None:
    """After an overwrite that was killed at any external call the key holds the old object or the new one."""
    old, new = lab.data(1000), lab.data(SIZE)
    for number, point in enumerate(_points(lab)):
        key = lab.key()
        lab.store.put(key, Body.of(old), lab.call())
        _die_at(lab, key, Body.of(new), number)
        must(
            lab.read(key) in (old, new),
            f"overwrite killed before external call {number} ({point}): the key holds neither of the two",
        )


@check("crash.put_if_absent", rule="store.if-absent", kinds=STORES, tier=Tier.STANDARD)
def check_put_if_absent(lab: StoreLab) -> None:
    """A create-if-absent that was killed is repeated: it creates, or says Conflict if the first one did.

    Either way the bytes are the caller's own: a commit object that is torn makes an archive unreadable.
    """
    if not lab.store.traits().conditional_put:
        not_applicable("the store has no conditional put")
    data = lab.data(SIZE)
    for number, point in enumerate(_points(lab)):
        key, body = lab.key(), Body.of(data)
        _die_at(lab, key, body, number, if_absent=True)
        with suppress(Conflict):
            lab.store.put(key, body, lab.call(), if_absent=True)
        must(lab.read(key) == data, f"killed before external call {number} ({point}): the object is torn")


@check("crash.abort_after_kill", rule="store.atomic", kinds=STORES, tier=Tier.STANDARD)
def check_abort_after_kill(lab: StoreLab) -> None:
    """After a put that was killed at any external call, abort_uploads leaves nothing for a second look.

    Parts of uploads that nobody finished are paid for every month, and no listing shows them.
    """
    for number, point in enumerate(_points(lab)):
        _die_at(lab, lab.key(), Body.of(lab.data(SIZE)), number)
        lab.store.abort_uploads(f"{lab.prefix}/", lab.call(), older_than=0)
        left = lab.store.abort_uploads(f"{lab.prefix}/", lab.call(), older_than=0)
        if left:
            raise ContractBroken(f"killed before external call {number} ({point}): {left} leftovers stay")
