"""Secondary stores: bodies of every size, in one request and in parts, whole and in ranges."""

from __future__ import annotations

from contextlib import suppress

from ...core.spi import (
    Body,
    InvalidArgument,
    NotFound,
    StoredObject,
)
from .. import bodies
from ..lab import must, refused
from ..model import Tier
from ..registry import check
from ..store_lab import StoreLab
from ..tampering import smallest_parts
from ._stored import KIB, STORES, listed, put


@check(
    "store.empty_object",
    rule="store.get-exact",
    kinds=STORES,
    field_bug="rclone/rclone#3788: empty files could not be put (MissingContentLength)",
)
def check_empty_object(lab: StoreLab) -> None:
    """An object of no bytes is an object: head and list show it, and it reads as nothing without an error.

    A manifest of a volume without data is small, never empty; but markers are, and a store that drops
    them drops what they say. If it fails: look for `if size:` or `if data:` where `is None` is meant.
    """
    key = put(lab, b"")
    must(lab.store.head(key, lab.call()).size == 0, "head says that the empty object has bytes")
    must([(o.key, o.size) for o in listed(lab, key)] == [(key, 0)], "the list does not show the object")
    must(lab.read(key) == b"", "the empty object reads as something")
    must(lab.read(key, 0, 0) == b"", "its empty range reads as something")
    put(lab, b"now it has some", key)
    put(lab, b"", key)
    must(lab.read(key) == b"", "putting nothing on top did not replace the bytes")


@check("store.put_head_list_agree", rule="store.get-exact", kinds=STORES)
def check_put_head_list_agree(lab: StoreLab) -> None:
    """The answer of put, head and list say the same key and the same size.

    Sizes decide what an interrupted backup sends again: a size that only one of the three knows right
    makes it keep half a part. If it fails: one of them returns what was asked for, not what is there.
    """
    for size in (0, 1, 4096, 300 * KIB + 1):
        key = lab.key()
        told = lab.store.put(key, Body.of(lab.data(size)), lab.call())
        headed = lab.store.head(key, lab.call())
        [shown] = listed(lab, key) or [StoredObject(key="", size=-1)]
        said = {(o.key, o.size) for o in (told, headed, shown)}
        must(said == {(key, size)}, f"of {size} bytes, put, head and list say {sorted(said)}")


@check(
    "store.part_boundaries",
    rule="store.atomic",
    kinds=STORES,
    tier=Tier.STANDARD,
    field_bug="rclone fstests.go:2552 tests chunked uploads at each boundary of a part",
)
def check_part_boundaries(lab: StoreLab) -> None:
    """Bodies of one byte less than a part, just a part, one more, and two parts and one come back whole.

    The parts are as small as the driver's options allow, 5 MiB if it has none. If it fails: an empty last
    part is sent, or the last byte is not, or a body of one part takes another way than its test did.
    """
    small = smallest_parts(lab.store.driver)
    part = small["part"]
    data = lab.data(2 * part + 1)
    with lab.second(small["options"]) as store:
        for size in (part - 1, part, part + 1, 2 * part, 2 * part + 1):
            key = lab.key()
            store.put(key, Body.of(memoryview(data)[:size]), lab.call(120))
            must(lab.read(key) == data[:size], f"{size} bytes (a part has {part}) came back changed")
            tail = lab.read(key, size - 2, 2)
            must(tail == data[size - 2 : size], f"the last two of {size} bytes are wrong as a range")


@check("store.overwrite_large_by_small", rule="store.atomic", kinds=STORES, tier=Tier.STANDARD)
def check_overwrite_large_by_small(lab: StoreLab) -> None:
    """An object of several parts that is replaced by a small one is the small one, and the reverse.

    If it fails: parts of the old object are still joined to the new one, or its size is remembered.
    """
    small = smallest_parts(lab.store.driver)
    large, key = lab.data(small["part"] + 12345), lab.key()
    with lab.second(small["options"]) as store:
        for data in (large, b"small", large):
            store.put(key, Body.of(data), lab.call(120))
            must(lab.store.head(key, lab.call()).size == len(data), "head tells the size of what was before")
            must(lab.read(key) == data, f"after an overwrite by {len(data)} bytes others come back")
    must(lab.store.abort_uploads(key, lab.call(), older_than=0) >= 0, "leftovers have a negative count")
    must(lab.read(key) == large, "abort_uploads took parts of a finished object")


@check("store.body_in_pieces", rule="store.digest", kinds=STORES)
def check_body_in_pieces(lab: StoreLab) -> None:
    """A body whose reader gives less than it is asked for, as a pipe does, is stored whole.

    Below and above what goes in one piece. If it fails, or hangs: the answer of one `read` was taken for
    all of the body; the server then waits for the rest.
    """
    for size in (10 * KIB, 100 * KIB, 2000 * KIB):
        key, data = lab.key(), lab.data(size)
        lab.store.put(key, bodies.trickling(data), lab.call(20))
        must(lab.read(key) == data, f"a body of {size} bytes that came in pieces was not stored whole")


@check("store.range_edges", rule="store.range", kinds=STORES)
def check_range_edges(lab: StoreLab) -> None:
    """The empty range at the very end reads as nothing; each range that leaves the object is refused.

    HTTP has no empty range and cuts one that is too long without a word: a driver that passes ranges on
    as they are gives too few bytes, or the whole object. If it fails: compare offset, length and size
    before the request, or the Content-Range after it.
    """
    data = lab.data(10 * KIB)
    key, size = put(lab, data), len(data)
    for offset, length in ((0, 0), (size, 0), (size, None), (5, 0)):
        must(lab.read(key, offset, length) == b"", f"the empty range {offset}+{length} reads as something")
    for offset, length in ((size + 1, None), (size, 1), (0, size + 1), (-1, 1), (5, -1), (size + 1, 0)):
        with refused(InvalidArgument):
            lab.read(key, offset, length)


@check("store.missing_is_not_found", rule="store.missing", kinds=STORES)
def check_missing_is_not_found(lab: StoreLab) -> None:
    """A key without an object is `NotFound`, also one above or below an object, whole or as a range.

    Above ("a" where "a/b" is) and below ("a/b/c"): a store on a file system meets a directory, or a file
    where a directory should be. If it fails with another error: that is what the kernel said.
    """
    key = put(lab, b"here")
    for missing in (lab.key(), key.rpartition("/")[0], f"{key}/below", f"{key}x", key[:-1]):
        with refused(NotFound):
            lab.store.head(missing, lab.call())
        for offset, length in ((0, None), (1, 2), (0, 0)):
            with refused(NotFound):
                lab.read(missing, offset, length)


@check("store.delete_missing_ok", rule="any.missing-ok", kinds=STORES)
def check_delete_missing_ok(lab: StoreLab) -> None:
    """Deleting a key without an object succeeds and touches no other, above, below or beside it.

    If it fails: a directory was removed with what is in it, or a prefix was taken for a key.
    """
    key, below = put(lab, b"one"), lab.key()
    put(lab, b"two", f"{below}/two")
    for missing in (lab.key(), f"{key}/below", below, f"{below}/", key[:-1]):
        with suppress(InvalidArgument):  # a key that ends in "/" is none
            lab.store.delete(missing, lab.call())
    must(lab.read(key) == b"one", "deleting another key took the object")
    must(lab.read(f"{below}/two") == b"two", "deleting the key above took the object below")
