"""Secondary stores: the object contract that the archive stands on."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

from ...core.spi import Body, Conflict, DataLoss, InvalidArgument, NotFound, StorageError, StoredObject
from ..lab import ContractBroken, must, refused
from ..model import Tier
from ..registry import check
from ..store_lab import StoreLab

STORES = ("image-store",)
KIB = 1024


@check("store.put_get_delete", rule="store.get-exact", kinds=STORES)
def check_put_get_delete(lab: StoreLab) -> None:
    """What is put comes back byte for byte, with its size; deleted, it is gone, and again is fine."""
    for size in (0, 1, 4095, 70 * KIB, 1024 * KIB + 1):
        key, data = lab.key(), lab.data(size)
        lab.store.put(key, Body.of(data), lab.call())
        must(lab.store.head(key, lab.call()).size == size, f"head says another size than {size}")
        must(lab.read(key) == data, f"{size} bytes came back changed")
        for _ in range(2):
            lab.store.delete(key, lab.call())
        with refused(NotFound):
            lab.store.head(key, lab.call())


@check("store.overwrite", rule="store.atomic", kinds=STORES)
def check_overwrite(lab: StoreLab) -> None:
    """A second put replaces the first as a whole, also by something shorter."""
    key, short = lab.key(), lab.data(10 * KIB)
    lab.store.put(key, Body.of(lab.data(100 * KIB)), lab.call())
    lab.store.put(key, Body.of(short), lab.call())
    must(lab.read(key) == short, "the object is not what was put last")


@check("store.large_object", rule="store.atomic", kinds=STORES, tier=Tier.STANDARD)
def check_large_object(lab: StoreLab) -> None:
    """An object of many parts (12 MiB and a bit) comes back whole, and in ranges across its parts."""
    key, data = lab.key(), lab.data(12 * KIB * KIB + 12345)
    lab.store.put(key, Body.of(data), lab.call(120))
    must(hashlib.sha256(lab.read(key)).digest() == hashlib.sha256(data).digest(), "the bytes changed")
    for offset in (5 * KIB * KIB - 10, 8 * KIB * KIB - 10):
        must(lab.read(key, offset, 20) == data[offset : offset + 20], f"the range at {offset} is wrong")


@check("store.range_reads", rule="store.range", kinds=STORES)
def check_range_reads(lab: StoreLab) -> None:
    """First, last, middle and whole ranges are exact; one outside of the object is refused."""
    key, data = lab.key(), lab.data(100 * KIB)
    lab.store.put(key, Body.of(data), lab.call())
    for offset, length in ((0, 1), (len(data) - 1, 1), (1000, 5000), (0, len(data))):
        got = lab.read(key, offset, length)
        must(got == data[offset : offset + length], f"range {offset}+{length} is wrong")
    must(lab.read(key, 99 * KIB) == data[99 * KIB :], "a range without a length is wrong")
    with refused(InvalidArgument):
        lab.read(key, len(data) - 1, 2)


@check("store.put_wrong_digest_refused", rule="store.digest", kinds=STORES)
def check_put_wrong_digest_refused(lab: StoreLab) -> None:
    """A body whose bytes are not what it says is refused, and nothing is left."""
    good = Body.of(lab.data(200 * KIB))
    wrong = Body(size=good.size, sha256=Body.of(b"else").sha256, open=good.open)
    key = lab.key()
    try:
        lab.store.put(key, wrong, lab.call())
    except DataLoss:
        pass
    else:
        raise ContractBroken("a body with a wrong digest was accepted")
    with refused(NotFound):
        lab.store.head(key, lab.call())


@check("store.put_short_body_refused", rule="store.digest", kinds=STORES)
def check_put_short_body_refused(lab: StoreLab) -> None:
    """A body that ends early, as when the source dies, leaves nothing under the key."""
    good = Body.of(lab.data(200 * KIB))
    wrong = Body(size=good.size + 5, sha256=good.sha256, open=good.open)
    key = lab.key()
    try:
        lab.store.put(key, wrong, lab.call())
    except StorageError:
        pass
    else:
        raise ContractBroken("a body that ended early was accepted")
    with refused(NotFound):
        lab.store.head(key, lab.call())


@check("store.create_if_absent", rule="store.if-absent", kinds=STORES)
def check_create_if_absent(lab: StoreLab) -> None:
    """Of eight writers at once that create one key, one wins, and its bytes stay."""
    if not lab.store.traits().conditional_put:
        return
    key, won, start = lab.key(), [], threading.Barrier(8)

    def write(number: int) -> None:
        body = Body.of(bytes([number]) * 1000)
        start.wait()
        try:
            lab.store.put(key, body, lab.call(), if_absent=True)
        except Conflict:
            return
        won.append(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    must(len(won) == 1, f"{len(won)} of 8 writers were told that they created the key")
    must(lab.read(key) == bytes(won) * 1000, "the object is not the winner's")


@check("store.list_prefix_pages", rule="store.hidden", kinds=STORES)
def check_list_prefix_pages(lab: StoreLab) -> None:
    """Pages list each key once, sorted, only those under the prefix, with their sizes."""
    keys = [f"{lab.prefix}/list/{name}" for name in ("a.x", "a/b", "a-b", "b", "ä", "z/y/x", "z0")]
    for number, key in enumerate(keys):
        lab.store.put(key, Body.of(bytes(number)), lab.call())
    lab.store.put(f"{lab.prefix}/other", Body.of(b""), lab.call())
    seen: list[StoredObject] = []
    after = None
    for _ in range(100):
        page = lab.store.list(f"{lab.prefix}/list/", lab.call(), after=after, limit=2)
        must(len(page.items) <= 2, f"a page of limit 2 has {len(page.items)} keys")
        seen += page.items
        after = page.after
        if after is None:
            break
    found = [o.key for o in seen]
    must(found == sorted(keys, key=str.encode), f"listed are {found}")
    must({o.key: o.size for o in seen} == {k: n for n, k in enumerate(keys)}, "a listed size is wrong")


@check("store.keys_never_escape", rule="store.missing", kinds=STORES)
def check_keys_never_escape(lab: StoreLab) -> None:
    """Keys that would leave the store's root, or cannot be stored everywhere, are refused."""
    for key in (
        "../up",
        "/absolute",
        f"{lab.prefix}/../../up",
        f"{lab.prefix}//x",
        "nul\0",
        "line\nbreak",
        "",
        "x/.",
    ):
        with refused(InvalidArgument):
            lab.store.put(key, Body.of(b"x"), lab.call())


@check("store.weird_keys", rule="store.get-exact", kinds=STORES)
def check_weird_keys(lab: StoreLab) -> None:
    """Percent signs, spaces, plus, quotes and unicode in keys are kept as they are."""
    for name in ("%2F", "a b", "a+b", "ä", "a\u0308", "100%", "quote'\"<&>", "dot.", "~"):
        key = f"{lab.prefix}/weird/{name}"
        lab.store.put(key, Body.of(name.encode()), lab.call())
        must(lab.read(key) == name.encode(), f"the key {name!r} does not come back")
    listed = [o.key for o in lab.store.list(f"{lab.prefix}/weird/", lab.call()).items]
    must(len(listed) == 9, f"of nine weird keys these are listed: {listed}")


@check("store.no_leftovers", rule="store.abort-live", kinds=STORES, tier=Tier.STANDARD)
def check_no_leftovers(lab: StoreLab) -> None:
    """Finished puts leave nothing that abort_uploads would find, and it does not touch objects."""
    key = lab.key()
    lab.store.put(key, Body.of(lab.data(100 * KIB)), lab.call())
    removed = lab.store.abort_uploads(f"{lab.prefix}/", lab.call(), older_than=0)
    must(removed == 0, f"{removed} leftovers after a put that succeeded")
    must(lab.store.head(key, lab.call()).size == 100 * KIB, "abort_uploads removed an object")
