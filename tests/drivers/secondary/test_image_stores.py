"""What every image store promises, on all three: the ids in brackets are those of the SPI's contract."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bollard.core.spi import (
    Body,
    Call,
    Conflict,
    DataLoss,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    StorageError,
    Unavailable,
    Unfinished,
    Unsupported,
)

if TYPE_CHECKING:
    from .conftest import Store

MIB = 1024 * 1024
PART = 5 * MIB // 4  # as in conftest.py
LARGE = os.urandom(2 * PART + 12345 + MIB)
SIZES = {"empty": b"", "small": b"two words", "chunks": os.urandom(2 * MIB + 7), "large": LARGE}

# All examples of a test use one store, and leave it empty.
many = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])

parts = st.text(
    st.sampled_from("abcXYZ019-_.~!@#$%&*()+=,;'[]{} éß漢😀\\\"<>?|^`"), min_size=1, max_size=12
).filter(lambda part: part not in (".", ".."))
keys = st.lists(parts, min_size=1, max_size=4).map("/".join)


def bodies(data: bytes) -> Callable[[], BinaryIO]:
    """Return what `Body.open` wants."""
    return lambda: io.BytesIO(data)


def without_nesting(found: list[str]) -> list[str]:
    """Leave out keys that are a directory of others: file systems cannot have both."""
    chosen: list[str] = []
    for key in found:
        if not any(
            other == key or f"{other}/".startswith(f"{key}/") or f"{key}/".startswith(f"{other}/")
            for other in chosen
        ):
            chosen.append(key)
    return chosen


@pytest.mark.parametrize("data", SIZES.values(), ids=SIZES.keys())
def test_what_was_put_is_what_comes_back(store: Store, call: Call, data: bytes) -> None:
    """Any size round-trips, and put, head and list agree on it."""
    put = store.driver.put("v1/vol/part.zip", Body.of(data), call)
    assert put.size == len(data)
    assert b"".join(store.driver.get("v1/vol/part.zip", call)) == data
    assert store.driver.head("v1/vol/part.zip", call).size == len(data)
    assert [(o.key, o.size) for o in store.driver.list("v1/", call).items] == [("v1/vol/part.zip", len(data))]


def check_key(store: Store, key: str, data: bytes) -> None:
    """Put, list, read and delete under a key."""
    call = Call.within(30)
    store.driver.put(key, Body.of(data), call)
    assert b"".join(store.driver.get(key, call)) == data
    assert [o.key for o in store.driver.list(key, call).items if o.key == key] == [key]
    store.driver.delete(key, call)


NASTY_KEYS = [
    "x" * 255 + "/" + "é" * 127 + "/" + "y" * 200,
    "%2F,_~/%20+",
    "a b/c?d=e&f#g",
    "😀/漢;ß",
    "-x/'\"\\/...",
]


def test_nasty_keys_are_kept_as_they_are(store: Store) -> None:
    """Quotes, percent signs, spaces, emoji and great length come back unchanged from every store."""
    for key in NASTY_KEYS:
        check_key(store, key, key.encode())
    assert not store.names()


@many
@given(key=keys, data=st.binary(max_size=64))
def test_any_valid_key_is_a_path(nfs_store: Store, key: str, data: bytes) -> None:
    """No valid key is mistaken for another, or for something of the file system's own."""
    check_key(nfs_store, key, data)
    assert not nfs_store.names()


BAD_KEYS = ["/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", ".bollard-tmp/x", "a/.nfs0001", "lost+found/x"]
BAD_KEYS += ["", ".snapshot", "a\nb", "a\x00b", "a\x7fb", "\udcff", "\uffff", "k" * 801, "p" * 256, "é" * 128]


def test_bad_keys_are_refused_before_anything_happens(store: Store, call: Call) -> None:
    """A key that breaks the rule gives InvalidArgument from every operation."""
    acts: list[Callable[[str], object]] = [
        lambda key: store.driver.put(key, Body.of(b"x"), call),
        lambda key: list(store.driver.get(key, call)),
        lambda key: store.driver.head(key, call),
        lambda key: store.driver.delete(key, call),
    ]
    for key in BAD_KEYS:
        for act in acts:
            with pytest.raises(InvalidArgument):
                act(key)
    assert not store.names()


class _Pipe(io.BytesIO):
    """Gives at most a thousand bytes at a time."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(1000 if size is None or size < 0 else min(size, 1000))


@pytest.mark.parametrize("size", [1001, 20_000, 300_000])
def test_a_body_may_come_in_pieces(store: Store, call: Call, size: int) -> None:
    """A reader that gives less than it is asked for, as a pipe does, is read to its end."""
    data = bytes(size)
    body = Body(size=size, sha256=hashlib.sha256(data).hexdigest(), open=lambda: _Pipe(data))
    store.driver.put("pipe", body, call)
    assert b"".join(store.driver.get("pipe", call)) == data


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("lie", ["digest", "shorter", "longer"])
def test_a_body_that_lies_leaves_nothing(store: Store, call: Call, size: str, lie: str) -> None:
    """[store.digest] Wrong digest, too few or too many bytes give DataLoss, and not a trace."""
    data = SIZES[size]
    said = {"digest": len(data), "shorter": len(data) + 1, "longer": len(data) - 1}[lie]
    sha256 = "0" * 64 if lie == "digest" else hashlib.sha256(data[:said]).hexdigest()
    with pytest.raises(DataLoss):
        store.driver.put("a/b", Body(size=said, sha256=sha256, open=bodies(data)), call)
    assert not store.names()


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("changed", [True, False])
def test_a_body_with_a_crc_is_compared_with_that(store: Store, call: Call, size: str, changed: bool) -> None:
    """[store.digest] A byte that changed in memory since it was hashed is found by the CRC-32, too."""
    data = SIZES[size]
    sent = bytes([data[0] ^ 1]) + data[1:] if changed else data
    sha256 = hashlib.sha256(data).hexdigest()
    body = Body(size=len(data), sha256=sha256, open=bodies(sent), crc32=zlib.crc32(data))
    if changed:
        with pytest.raises(DataLoss):
            store.driver.put("a/b", body, call)
        assert not store.names()
    else:
        store.driver.put("a/b", body, call)
        assert b"".join(store.driver.get("a/b", call)) == data


@pytest.mark.parametrize("size", ["small", "large"])
def test_conditional_put_keeps_what_is_there(atomic: Store, call: Call, size: str) -> None:
    """[store.if-absent] An existing key gives Conflict, stays as it was, and nothing else is left."""
    assert atomic.driver.traits().conditional_put
    atomic.driver.put("k", Body.of(b"first"), call, if_absent=True)
    with pytest.raises(Conflict):
        atomic.driver.put("k", Body.of(SIZES[size]), call, if_absent=True)
    assert b"".join(atomic.driver.get("k", call)) == b"first"
    assert atomic.names() == ["k"]


def test_a_condition_that_is_looked_at_too_early_is_none(racy: Store, call: Call) -> None:
    """Real Swift would let several racing puts win: the trait says so, and no put claims a condition."""
    assert not racy.driver.traits().conditional_put
    with pytest.raises(Unsupported, match="If-None-Match"):
        racy.driver.put("k", Body.of(b"first"), call, if_absent=True)
    assert racy.names() == []


def test_of_many_conditional_puts_one_wins(atomic: Store, call: Call) -> None:
    """Eight racing writers: one succeeds, seven get Conflict, and the object is the winner's, whole."""
    data = [bytes([n]) * 70_000 for n in range(8)]
    start = threading.Barrier(8)

    def put(n: int) -> int | None:
        start.wait()
        try:
            atomic.driver.put("race/key", Body.of(data[n]), call, if_absent=True)
        except Conflict:
            return None
        return n

    with ThreadPoolExecutor(8) as pool:
        winners = [n for n in pool.map(put, range(8)) if n is not None]
    assert len(winners) == 1
    assert b"".join(atomic.driver.get("race/key", call)) == data[winners[0]]


@pytest.mark.parametrize("size", ["small", "large"])
def test_put_replaces_whole(store: Store, call: Call, size: str) -> None:
    """Without the condition the last put counts, whatever was there before."""
    store.driver.put("k", Body.of(LARGE), call)
    store.driver.put("k", Body.of(SIZES[size]), call)
    assert b"".join(store.driver.get("k", call)) == SIZES[size]


def test_ranges_are_slices_or_refused(store: Store, call: Call) -> None:
    """[store.range] A range inside gives exactly its bytes, one outside InvalidArgument."""
    data = bytes(range(60))
    store.driver.put("k", Body.of(data), call)
    for offset in (-1, 0, 1, 59, 60, 61):
        for length in (None, -1, 0, 1, 2, 59, 60, 61):
            end = len(data) if length is None else offset + length
            if 0 <= offset <= end <= len(data):
                got = b"".join(store.driver.get("k", call, offset=offset, length=length))
                assert got == data[offset:end], (offset, length)
            else:
                with pytest.raises(InvalidArgument):
                    list(store.driver.get("k", call, offset=offset, length=length))


def test_ranges_cross_parts(store: Store, call: Call) -> None:
    """A range over the border of two parts of a large object is seamless."""
    store.driver.put("k", Body.of(LARGE), call)
    offset, length = PART - 100, PART + 300
    assert (
        b"".join(store.driver.get("k", call, offset=offset, length=length)) == LARGE[offset : offset + length]
    )


def test_missing_objects(store: Store, call: Call) -> None:
    """[store.missing] get fails at the first next, head at once; deleting what is not there succeeds."""
    store.driver.put("a/b", Body.of(b"x"), call)
    for key in ("c", "a", "a/b/c"):
        stream = store.driver.get(key, call)
        with pytest.raises(NotFound):
            next(stream)
        with pytest.raises(NotFound):
            list(store.driver.get(key, call, offset=0, length=1))
        with pytest.raises(NotFound):
            store.driver.head(key, call)
        store.driver.delete(key, call)
    assert store.names() == ["a/b"]
    store.driver.delete("a/b", call)
    store.driver.delete("a/b", call)
    assert not store.names()


def test_deleting_a_large_object_leaves_nothing(store: Store, call: Call) -> None:
    """Parts, segments and manifest go together."""
    store.driver.put("a/large", Body.of(LARGE), call)
    assert store.names()
    store.driver.delete("a/large", call)
    assert not store.names()


def all_pages(store: Store, prefix: str, limit: int) -> list[str]:
    """Follow the cursor to the end."""
    listed: list[str] = []
    after = None
    while True:
        page = store.driver.list(prefix, Call.within(30), after=after, limit=limit)
        assert len(page.items) <= limit
        listed += [item.key for item in page.items]
        after = page.after
        if after is None:
            return listed


def test_pages_make_up_the_sorted_whole(store: Store, call: Call) -> None:
    """Pages of any size, put together, are all keys with the prefix in the order of their UTF-8 bytes."""
    found = ["a/b", "a/c/d", "a.zip", "a-", "a0", "ab", "漢/1", "😀", "z", "￭", "~"]
    for key in found:
        store.driver.put(key, Body.of(b"x"), call)
    for prefix in ("", "a", "a/", "a/c/d", "漢", "none/"):
        for limit in (1, 3, 11, 1000):
            expected = sorted((key for key in found if key.startswith(prefix)), key=str.encode)
            assert all_pages(store, prefix, limit) == expected


@many
@given(found=st.lists(keys, max_size=9).map(without_nesting), limit=st.integers(1, 4), cut=st.integers(0, 6))
def test_a_tree_lists_as_keys(nfs_store: Store, found: list[str], limit: int, cut: int) -> None:
    """Whatever the tree, the walk gives the order of the keys, not that of the directories."""
    call = Call.within(30)
    for key in found:
        nfs_store.driver.put(key, Body.of(b"x"), call)
    prefix = found[0][:cut].removesuffix("/") if found else ""
    listed = all_pages(nfs_store, prefix, limit)
    for key in found:
        nfs_store.driver.delete(key, call)
    assert listed == sorted((key for key in found if key.startswith(prefix)), key=str.encode)


def test_a_cursor_need_not_exist(store: Store, call: Call) -> None:
    """`after` may name a key that was deleted since, or never was."""
    for key in ("a/1", "a/2", "b"):
        store.driver.put(key, Body.of(b"x"), call)
    assert [o.key for o in store.driver.list("", call, after="a/1x").items] == ["a/2", "b"]
    assert [o.key for o in store.driver.list("a/", call, after="a/2").items] == []
    with pytest.raises(InvalidArgument):
        store.driver.list("", call, limit=0)
    with pytest.raises(InvalidArgument):
        store.driver.list("../", call)


class Watched(io.BytesIO):
    """A body that does something after so many bytes: the middle of an upload."""

    def __init__(self, data: bytes, at: int, act: Callable[[], object]) -> None:
        super().__init__(data)
        self._at, self._act = at, act

    def read(self, size: int | None = -1) -> bytes:
        """Read, and act once when so many bytes have been."""
        data = super().read(size)
        if self.tell() >= self._at:
            self._at = sys.maxsize
            self._act()
        return data


@pytest.mark.parametrize("size", ["chunks", "large"])
def test_nothing_is_visible_before_it_is_complete(store: Store, call: Call, size: str) -> None:
    """[store.atomic] [store.hidden] In the middle of a put the key is not there, not even in a listing."""
    data, seen = SIZES[size], []

    def look() -> None:
        seen.append([o.key for o in store.driver.list("", call).items])
        with pytest.raises(NotFound):
            store.driver.head("k", call)

    body = Body(
        size=len(data), sha256=hashlib.sha256(data).hexdigest(), open=lambda: Watched(data, len(data), look)
    )
    store.driver.put("k", body, call)
    assert seen
    assert all(not listed for listed in seen)


@pytest.mark.parametrize("size", ["chunks", "large"])
def test_a_cancelled_put_leaves_nothing(store: Store, size: str) -> None:
    """[store.atomic] The cancel flag, raised in the middle, ends the put and takes everything back."""
    call, data = Call.within(30), SIZES[size]
    body = Body(
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        open=lambda: Watched(data, len(data) // 2, call.cancel.set),
    )
    with pytest.raises(DeadlineExceeded):
        store.driver.put("k", body, call)
    assert not store.names()


def test_expired_calls_do_nothing(store: Store) -> None:
    """[store.open-typed] A call whose deadline has passed gives DeadlineExceeded from everything."""
    late = Call(deadline=0.0)
    acts: list[Callable[[], object]] = [
        lambda: store.driver.open(late),
        lambda: store.driver.put("k", Body.of(b"x"), late),
        lambda: list(store.driver.get("k", late)),
        lambda: store.driver.head("k", late),
        lambda: store.driver.list("", late),
        lambda: store.driver.delete("k", late),
        lambda: store.driver.abort_uploads("", late, older_than=0),
    ]
    for act in acts:
        with pytest.raises(DeadlineExceeded):
            act()
    assert not store.names()


def test_abort_uploads_of_nothing(store: Store, call: Call) -> None:
    """Finished objects are no leftovers."""
    store.driver.put("a/small", Body.of(b"x"), call)
    store.driver.put("a/large", Body.of(LARGE), call)
    assert store.driver.abort_uploads("", call, older_than=0) == 0
    assert b"".join(store.driver.get("a/large", call)) == LARGE


def test_abort_uploads_spares_the_living(store: Store, call: Call) -> None:
    """[store.abort-live] A put that moved in the last hour survives being swept in its middle."""
    swept: list[int] = []

    def sweep() -> None:
        swept.append(store.driver.abort_uploads("", call, older_than=3600))

    data = LARGE
    sha256 = hashlib.sha256(data).hexdigest()
    # The second part has been read, so the first is on the store when the sweep comes.
    store.driver.put(
        "k", Body(size=len(data), sha256=sha256, open=lambda: Watched(data, len(data), sweep)), call
    )
    assert swept == [0]
    assert b"".join(store.driver.get("k", call)) == data


def test_unfinished_puts_can_be_listed(store: Store, call: Call) -> None:
    """What `abort_uploads` would remove is told before, with its key; a finished object is not."""
    moving: list[Unfinished] = []
    idle: list[Unfinished] = []

    def look() -> None:
        while not moving:  # the first part may be on its way still
            call.check()
            moving.extend(store.driver.unfinished("a/", call, older_than=0))
        idle.extend(store.driver.unfinished("a/", call, older_than=3600))

    data = LARGE
    sha256 = hashlib.sha256(data).hexdigest()
    body = Body(size=len(data), sha256=sha256, open=lambda: Watched(data, len(data), look))
    store.driver.put("a/k", body, call)

    assert [one.key for one in moving] == ["a/k"]
    assert all(one.idle >= 0 and (one.size is None or one.size > 0) for one in moving)
    assert idle == []
    assert list(store.driver.unfinished("", call, older_than=0)) == []


def test_an_abandoned_stream_is_closed(store: Store, call: Call) -> None:
    """Who stops reading in the middle leaks nothing and may go on using the driver."""
    store.driver.put("k", Body.of(LARGE), call)
    for _ in range(3):
        stream = store.driver.get("k", call)
        assert next(stream)
        stream.close()  # type: ignore[attr-defined] # it is a generator
    assert store.driver.head("k", call).size == len(LARGE)


def test_closing(store: Store, call: Call) -> None:
    """[drv.close-twice] Close repeats, ends all threads, and a closed driver says so."""
    before = set(threading.enumerate())
    driver = store.again()
    driver.put("k", Body.of(LARGE), call)
    driver.close()
    driver.close()
    # The simulators' threads serve connections that are now closed; ours must be gone at once.
    assert not [t for t in set(threading.enumerate()) - before if t.name.startswith("bollard-upload")]
    with pytest.raises(Unavailable):
        driver.head("k", call)
    driver.open(call)
    assert driver.head("k", call).size == len(LARGE)


def test_opening_leaves_nothing(store: Store) -> None:
    """Probing what a store can do is tidied up."""
    store.again().close()
    assert not store.names()


@pytest.mark.parametrize("module", ["nfs", "s3", "swift"])
def test_importing_a_driver_is_cheap(module: str) -> None:
    """[drv.cheap] boto3, swiftclient and requests are not loaded before a store is opened."""
    code = (
        f"import sys, bollard.drivers.secondary.{module};"
        "print([m for m in ('boto3', 'botocore', 'swiftclient', 'requests', 'urllib3') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_missing_places_are_typed(remote: Store, call: Call) -> None:
    """[store.open-typed] A bucket or container that does not exist gives NotFound."""
    place = "bucket" if remote.kind == "s3" else "container"
    with pytest.raises(NotFound):
        remote.again(**{place: "nowhere"})


def test_unreachable_servers_are_typed(remote: Store) -> None:
    """[store.open-typed] Nobody listening gives Unavailable within the deadline."""
    url = "endpoint_url" if remote.kind == "s3" else "url"
    with pytest.raises((Unavailable, DeadlineExceeded)) as caught:
        remote.again(**{url: "http://127.0.0.1:9/", "attempts": 2})
    assert isinstance(caught.value, StorageError)
