"""Snapshots, clones, reverts, resizes and changed blocks, read and written over NBD."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bollard.simulators.array import ArraySimulator

CHUNK = 65536


def changes(api: Any, snapshot: Any, **query: Any) -> list[tuple[int, int, bool]]:
    """All extents, page by page."""
    found: list[tuple[int, int, bool]] = []
    start = query.pop("start", 0)
    while start is not None:
        page = api.call("GET", f"/snapshots/{snapshot['id']}/changes", params={**query, "start": start})
        found += [(one["offset"], one["length"], one["zero"]) for one in page["extents"]]
        start = page["next_start"]
    return found


def test_a_snapshot_keeps_its_instant(api: Any) -> None:
    """What is written later is in the volume and not in the snapshot's clone."""
    volume = api.volume("v1", 4)
    api.put(volume, 0, b"old" + bytes(509))
    snapshot = api.snapshot(volume)
    api.put(volume, 0, b"new" + bytes(509))
    clone = api.clone(f"/snapshots/{snapshot['id']}", "c1")
    assert clone["source"] == {"type": "snapshot", "id": snapshot["id"]}
    assert api.get(clone, 0, 512)[:3] == b"old"
    assert api.get(volume, 0, 512)[:3] == b"new"
    assert (snapshot["volume"], snapshot["size"]) == (volume["id"], volume["size"])


def test_unflushed_writes_are_in_a_snapshot(api: Any) -> None:
    """A write that was acknowledged before the snapshot is part of it, flushed or not."""
    volume = api.volume("v1", 4)
    api.grant(volume)
    with api.attach(volume) as host:
        host.write(CHUNK, b"x" * 512)
        snapshot = api.snapshot(volume)
        host.write(CHUNK, b"y" * 512)
        host.close()
    clone = api.clone(f"/snapshots/{snapshot['id']}", "c1")
    assert api.get(clone, CHUNK, 512) == b"x" * 512


def test_clones_are_independent_and_may_be_larger(api: Any) -> None:
    """Writes on either side stay there, and neither deletion hurts the other side."""
    volume = api.volume("v1", 4)
    api.put(volume, 0, b"s" * 2 * CHUNK)
    clone = api.clone(f"/volumes/{volume['id']}", "c1", size=6 * CHUNK)
    api.put(clone, 0, b"c" * 512)
    api.put(volume, 512, b"v" * 512)
    assert api.get(clone) == b"c" * 512 + b"s" * (2 * CHUNK - 512) + bytes(4 * CHUNK)
    assert api.get(volume, 0, 1536) == b"s" * 512 + b"v" * 512 + b"s" * 512
    snapshot = api.snapshot(clone, "of-clone")
    second = api.clone(f"/snapshots/{snapshot['id']}", "c2")
    api.call("DELETE", f"/volumes/{volume['id']}", status=204)
    api.call("DELETE", f"/snapshots/{snapshot['id']}", status=204)
    api.call("DELETE", f"/volumes/{clone['id']}", status=204)
    assert api.get(second, 0, 1024) == b"c" * 512 + b"s" * 512
    smaller = {"name": "c3", "size": CHUNK}
    assert api.error("POST", f"/volumes/{second['id']}/clone", smaller, status=400) == "invalid_argument"
    assert api.error("POST", f"/volumes/{second['id']}/clone", {"name": "c2"}, status=409) == "name_exists"


def test_revert_is_exact_and_keeps_other_snapshots(api: Any) -> None:
    """Contents and size go back, later snapshots stay and can be reverted to, grants forbid it."""
    volume = api.volume("v1", 2)
    path = f"/volumes/{volume['id']}"
    api.put(volume, 0, b"1" * 512)
    first = api.snapshot(volume, "s1")
    api.call("PATCH", path, {"size": 4 * CHUNK})
    api.put(volume, 3 * CHUNK, b"2" * 512)
    second = api.snapshot(volume, "s2")
    grant = api.grant(volume)
    assert api.error("POST", f"{path}/revert", {"snapshot": first["id"]}, status=409) == "in_use"
    api.revoke(grant)
    back = api.finished(api.call("POST", f"{path}/revert", {"snapshot": first["id"]}, status=202))
    assert (back["size"], back["snapshots"]) == (2 * CHUNK, 2)
    assert api.get(volume) == (b"1" * 512).ljust(2 * CHUNK, b"\0")
    api.finished(api.call("POST", f"{path}/revert", {"snapshot": second["id"]}, status=202))
    assert api.get(volume, 3 * CHUNK, 512) == b"2" * 512
    other = api.snapshot(api.volume("v2"))
    assert api.error("POST", f"{path}/revert", {"snapshot": other["id"]}, status=400) == "invalid_argument"


def test_growing_keeps_data_and_adds_zeroes(api: Any) -> None:
    """Also from a size within a chunk, and while a host is attached: the next session sees the size."""
    volume = api.call("POST", "/volumes", {"name": "v1", "pool": "pool-a", "size": 1536}, status=201)
    api.grant(volume)
    with api.attach(volume) as host:
        host.write(0, b"x" * 1536)
        api.call("PATCH", f"/volumes/{volume['id']}", {"size": 3 * CHUNK})
        with api.attach(volume) as later:
            assert later.size == 3 * CHUNK
            assert later.read(0, later.size) == (b"x" * 1536).ljust(3 * CHUNK, b"\0")
            later.close()
        host.close()


def test_changed_blocks_are_exact(api: Any) -> None:
    """Data and unmapped chunks are told apart, sorted, cut at start and end, in pages."""
    volume = api.call(
        "POST", "/volumes", {"name": "v1", "pool": "pool-a", "size": 10 * CHUNK + 512}, status=201
    )
    api.put(volume, 0, b"a" * 4 * CHUNK)
    base = api.snapshot(volume, "s1")
    assert changes(api, base) == [(0, 4 * CHUNK, False)]
    grant = api.grant(volume)
    with api.attach(volume) as host:
        host.write(CHUNK + 512, b"b" * 512)
        host.zero(2 * CHUNK, CHUNK)
        host.write(3 * CHUNK, bytes(CHUNK))
        host.write(5 * CHUNK, bytes(CHUNK))  # zeroes onto a hole change nothing
        host.write(10 * CHUNK, b"c" * 512)
        host.close()
    api.revoke(grant)
    target = api.snapshot(volume, "s2")
    expected = [(CHUNK, CHUNK, False), (2 * CHUNK, 2 * CHUNK, True), (10 * CHUNK, 512, False)]
    assert changes(api, target, base=base["id"]) == expected
    assert changes(api, target, base=base["id"], limit=1) == expected
    cut = changes(api, target, base=base["id"], start=2 * CHUNK + 1000)
    assert cut == [(2 * CHUNK + 1000, 2 * CHUNK - 1000, True), expected[2]]
    assert changes(api, target, base=target["id"]) == []
    assert changes(api, target, start=target["size"]) == []
    backwards = [(CHUNK, 3 * CHUNK, False), (10 * CHUNK, 512, True)]
    assert changes(api, base, base=target["id"]) == backwards
    stranger = api.snapshot(api.volume("v2"))
    query = {"base": stranger["id"]}
    assert (
        api.error("GET", f"/snapshots/{target['id']}/changes", params=query, status=400) == "invalid_argument"
    )
    query = {"base": "snap-none"}
    assert api.error("GET", f"/snapshots/{target['id']}/changes", params=query, status=404) == "not_found"


operations = st.lists(
    st.tuples(
        st.sampled_from(["write", "zero"]), st.integers(0, 127), st.integers(1, 200), st.integers(0, 255)
    ),
    max_size=6,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=operations, after=operations, grow=st.integers(0, 3))
def test_a_delta_applied_to_its_base_is_the_target(api: Any, before: Any, after: Any, grow: int) -> None:
    """Whatever was written: base plus changed extents equals target, and no extent leaves the volume."""
    volume = api.volume("delta", 1)
    path = f"/volumes/{volume['id']}"

    def apply(todo: Any) -> bytes:
        grant = api.grant(volume)
        with api.attach(volume) as host:
            for kind, sector, length, fill in todo:
                offset = sector * 512 % host.size
                size = min(length * 512, host.size - offset)
                host.write(offset, bytes([fill]) * size) if kind == "write" else host.zero(offset, size)
            content = host.read(0, host.size)
            host.close()
        api.revoke(grant)
        return bytes(content)

    old = apply(before)
    base = api.snapshot(volume, "s1")
    api.call("PATCH", path, {"size": CHUNK + grow * CHUNK // 2})
    new = apply(after)
    target = api.snapshot(volume, "s2")
    patched = bytearray(old.ljust(len(new), b"\0"))
    for offset, length, zero in changes(api, target, base=base["id"]):
        assert 0 < length <= len(new) - offset
        patched[offset : offset + length] = bytes(length) if zero else new[offset : offset + length]
    assert patched == new
    for snapshot in (base, target):
        api.call("DELETE", f"/snapshots/{snapshot['id']}", status=204)
    api.call("DELETE", path, status=204)
    assert api.call("GET", "/pools/pool-a")["used_bytes"] == 0


def torn(api: Any, volumes: list[Any], name: str) -> bool:
    """Whether the second volume of a group snapshot is ahead of the first one."""
    body = {"name": name, "volumes": [volume["id"] for volume in volumes]}
    group = api.call("POST", "/group-snapshots", body, status=201)
    assert [one["group"] for one in group["snapshots"]] == [group["id"]] * 2
    found = api.call("GET", "/snapshots", params={"group": group["id"]})["items"]
    assert [one["volume"] for one in found] == body["volumes"]
    clones = [api.clone(f"/snapshots/{one['id']}", f"{name}-{i}") for i, one in enumerate(group["snapshots"])]
    first, second = (int.from_bytes(api.get(clone, 0, 512), "big") for clone in clones)
    assert first > 0
    return second > first


@pytest.mark.parametrize("defects", [[], ["group_snapshot_torn"]])
def test_a_group_snapshot_is_one_instant(api: Any, sim: ArraySimulator, defects: list[str]) -> None:
    """A writer that counts on the first volume, then on the second, is never seen ahead on the second."""
    volumes = [api.volume("first", 1), api.volume("second", 1)]
    for volume in volumes:
        api.grant(volume)
    sim.defects.set(*defects)
    stop, running = threading.Event(), threading.Event()

    def count() -> None:
        with api.attach(volumes[0]) as first, api.attach(volumes[1]) as second:
            number = 0
            while not stop.is_set():
                number += 1
                for host in (first, second):
                    host.write(0, number.to_bytes(512, "big"))
                running.set()

    writer = threading.Thread(target=count)
    writer.start()
    try:
        assert running.wait(20)
        outcome = [torn(api, volumes, f"g{number}") for number in range(3)]
    finally:
        stop.set()
        writer.join(20)
    assert any(outcome) == bool(defects)


def test_snapshots_are_many_and_limited(api: Any) -> None:
    """A volume takes 256 snapshots, each cheap, and says so when it is full; the middle can go."""
    volume = api.volume("v1", 4)
    api.put(volume, 0, b"x" * 512)
    made = [api.snapshot(volume, f"s{number}") for number in range(256)]
    body = {"name": "one-more"}
    assert api.error("POST", f"/volumes/{volume['id']}/snapshots", body, status=409) == "limit_exceeded"
    api.call("DELETE", f"/snapshots/{made[100]['id']}", status=204)
    path = f"/volumes/{volume['id']}/snapshots"
    assert len(api.call("GET", path, params={"limit": 1000})["items"]) == 255
    (found,) = api.call("GET", path, params={"name": "s7"})["items"]
    assert found["id"] == made[7]["id"]
    assert api.call("GET", "/pools/pool-a")["used_bytes"] == CHUNK
