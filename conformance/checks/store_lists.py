"""Secondary stores: lists that are complete, in pages, and true."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ..lab import must, not_applicable
from ..model import Tier
from ..registry import check
from ..store_lab import StoreLab
from ._stored import STORES, listed, put


@check(
    "store.list_thousand_keys",
    rule="store.listed",
    kinds=STORES,
    tier=Tier.STANDARD,
    field_bug="rclone/rclone#1653, home-assistant/core#162559: only the first 1,000 keys were seen",
)
def check_list_thousand_keys(lab: StoreLab) -> None:
    """Of 1,001 keys none is missing and none is twice, in pages of 1,000, of 999 and of 400.

    Servers give 1,000 (S3) or 10,000 (Swift) names at most. If it fails at one size of page only: the
    cursor of the server's page was taken for the cursor of ours.
    """
    folder = lab.key()
    keys = [f"{folder}/{n:04}" for n in range(1001)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: put(lab, b"x", key), keys))
    for limit in (1000, 999, 400):
        found = [o.key for o in listed(lab, f"{folder}/", limit)]
        missing = sorted(set(keys) - set(found))
        must(
            not missing, f"in pages of {limit}, {len(missing)} of 1,001 keys are missing, {missing[:1]} first"
        )
        must(found == keys, f"in pages of {limit}, {len(found)} keys are listed, or in another order")


@check("store.list_prefix_is_text", rule="store.listed", kinds=STORES)
def check_list_prefix_is_text(lab: StoreLab) -> None:
    """A prefix is text and no directory or pattern: "a/b" lists "a/bc" and "a/b.d/c", and nothing else.

    If it fails: the prefix was cut at its last slash, or `%`, `_`, `*` or `[` mean something to the backend.
    """
    folder = lab.key()
    names = ("bc", "b-c", "b.d/c", "c", "B", "%", "%25", "x_y", "xzy", "[a]", "a", "*", "zz")
    for name in names:
        put(lab, b"", f"{folder}/{name}")
    for prefix in ("b", "%", "x_", "[a]", "*", "zz", "zzz", ""):
        found = [o.key.removeprefix(f"{folder}/") for o in listed(lab, f"{folder}/{prefix}")]
        want = sorted((n for n in names if n.startswith(prefix)), key=str.encode)
        must(found == want, f"the prefix {prefix!r} lists {found} instead of {want}")


@check("store.list_survives_changes", rule="store.listed", kinds=STORES)
def check_list_survives_changes(lab: StoreLab) -> None:
    """A listing goes on where it was, though keys before, at and after its cursor come and go meanwhile.

    What exists throughout is listed once. If it fails: the cursor is a number of keys, or its key must
    still exist.
    """
    folder = lab.key()
    keys = [f"{folder}/{n:02}" for n in range(12)]
    for key in keys:
        put(lab, b"x", key)
    first = lab.store.list(f"{folder}/", lab.call(), limit=4)
    seen = [o.key for o in first.items]
    must(seen == keys[:4], f"the first page of four has {seen}")
    for deleted in (keys[0], keys[3], keys[5]):
        lab.store.delete(deleted, lab.call())
    put(lab, b"x", f"{folder}/000")
    for _ in range(2):  # the same cursor again gives the same page
        rest = lab.store.list(f"{folder}/", lab.call(), after=first.after, limit=100)
        found = {o.key for o in rest.items}
        missing = sorted({keys[4], *keys[6:]} - found)
        must(not missing, f"missing from the second page: {missing}")
        gone = {keys[5]} if lab.store.traits().listing_consistent else set()
        again = sorted(found & {*keys[:4], *gone})
        must(not again, f"the second page shows keys of the first, or deleted ones: {again}")


@check("store.listing_trait_is_true", rule="store.listed", kinds=STORES)
def check_listing_trait_is_true(lab: StoreLab) -> None:
    """Where the traits say that listings are consistent, each put and delete shows in the next one.

    Collecting garbage believes that trait: with a list that lags, it would remove parts of a snapshot
    that was committed a moment ago. If it fails: set `listing_consistent` to False.
    """
    if not lab.store.traits().listing_consistent:
        not_applicable("StoreTraits.listing_consistent is False")
    folder = lab.key()
    want: list[str] = []
    for number in range(10):
        want.append(put(lab, b"x", f"{folder}/{number}"))
        found = [o.key for o in listed(lab, f"{folder}/")]
        must(found == want, f"after put number {number + 1} the list shows {len(found)} keys")
    for key in list(want):
        lab.store.delete(key, lab.call())
        want.remove(key)
        must([o.key for o in listed(lab, f"{folder}/")] == want, "a deleted key is still listed")
