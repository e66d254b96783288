"""Secondary stores: several instances of one store, repeated calls, and what they cost."""

from __future__ import annotations

from ...core.spi import (
    Body,
)
from .. import bodies
from ..lab import MIB, must
from ..model import Tier
from ..registry import check
from ..store_lab import StoreLab
from ..vitals import Vitals, forget_peak
from ._stored import KIB, STORES, absent, listed, put


@check("store.two_instances_see_the_same", rule="any.elsewhere", kinds=STORES)
def check_two_instances_see_the_same(lab: StoreLab) -> None:
    """What one instance puts or deletes, another one sees at once, by head, get and delete.

    Hosts back up and restore beside each other. If it fails: something is remembered in the process.
    """
    key, data = lab.key(), lab.data(50 * KIB)
    with lab.second() as other:
        must(other.traits() == lab.store.traits(), "two instances of one store have different traits")
        put(lab, data, key)
        must(b"".join(other.get(key, lab.call())) == data, "the other instance reads something else")
        other.put(key, Body.of(b"changed"), lab.call())
        must(lab.read(key) == b"changed", "an overwrite by the other instance is not seen")
        other.delete(key, lab.call())
        absent(lab, key, "another instance deleted it")


@check("idem.store_repeat", rule="any.idempotent", kinds=STORES)
def check_store_repeat(lab: StoreLab) -> None:
    """Repeating put, delete or abort_uploads, also from another instance, gives what the first gave.

    A lost reply forces everybody to repeat. If it fails: the repeat of a put leaves the first's parts, or
    a delete of what is gone is an error.
    """
    key, data = lab.key(), lab.data(300 * KIB)
    with lab.second() as other:
        for store in (lab.store, lab.store, other):
            told = store.put(key, Body.of(data), lab.call())
            must((told.key, told.size) == (key, len(data)), f"a repeated put answers {told}")
        must(lab.read(key) == data, "a repeated put changed the bytes")
        must(len(listed(lab, key)) == 1, "a repeated put made a second object")
        for store in (lab.store, lab.store, other):
            store.delete(key, lab.call())
            must(store.abort_uploads(key, lab.call(), older_than=0) == 0, "a repeated put left an upload")
    absent(lab, key, "it was deleted three times")


@check("store.get_closed_early", rule="drv.close-all", kinds=STORES)
def check_get_closed_early(lab: StoreLab) -> None:
    """Forty reads that end after their first piece leave no open file or connection behind.

    A restore of a range, or one that fails, reads a part no further. If it fails: the answer's body is
    not closed when the iterator is.
    """
    key = put(lab, lab.data(3 * MIB))
    lab.read(key, 0, 10)
    before = Vitals.of(lab.store.driver)
    for _ in range(40):
        stream = lab.store.get(key, lab.call())
        must(next(iter(stream)), "the first piece of an object is empty")
        stream.close()  # type: ignore[attr-defined]  # core's is a generator, whatever the driver's is
    after = Vitals.of(lab.store.driver)
    must(after.fds <= before.fds + 8, f"{after.fds - before.fds} files or sockets are open after 40 reads")
    must(after.threads <= before.threads + 8, f"{after.threads - before.threads} threads are left")
    must(len(lab.read(key)) == 3 * MIB, "after reads that ended early the object cannot be read")


@check(
    "store.upload_is_streaming",
    rule="store.bounded",
    kinds=STORES,
    tier=Tier.STANDARD,
    field_bug="glance_store _drivers/s3.py:902: parts queue without bound",
)
def check_upload_is_streaming(lab: StoreLab) -> None:
    """Putting an object of 192 MiB takes less than 176 MiB more memory in the driver's process.

    Parts in flight are fine, the whole body is not: parts of an archive have 64 MiB and more, and many
    travel at once. If it fails: the body is read whole, or parts queue up faster than they are sent.
    """
    body, key = bodies.large(lab.data(MIB), 192 * MIB), lab.key()
    before = Vitals.of(lab.store.driver)
    forget_peak(lab.store.driver)
    lab.store.put(key, body, lab.call(120))
    grown = Vitals.of(lab.store.driver).peak - before.rss
    lab.notes.measure("memory_of_a_192_mib_put", grown, "bytes")
    must(lab.store.head(key, lab.call()).size == body.size, "the object has another size")
    lab.store.delete(key, lab.call())
    must(grown < 176 * MIB, f"a put of 192 MiB took {grown // MIB} MiB of memory")
