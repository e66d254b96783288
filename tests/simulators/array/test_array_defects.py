"""Each defect can be seen from outside, and what sees it sees nothing in a healthy array."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bollard.simulators.array import ArraySimulator, Defect, Defects

CHUNK = 65536
OTHER = "iqn.2024-01.org.example:host-2"
Seen = Callable[[Any], bool]
CHECKS: dict[Defect, Seen] = {}


def sees(*defects: Defect) -> Callable[[Seen], Seen]:
    """Registers a check: it answers whether the array shows one of the defects."""

    def register(check: Seen) -> Seen:
        CHECKS.update(dict.fromkeys(defects, check))
        return check

    return register


def written(api: Any, name: str = "v1", chunks: int = 4) -> Any:
    """A volume full of its name's first letter."""
    volume = api.volume(name, chunks)
    api.put(volume, 0, name[0].encode() * chunks * CHUNK)
    return volume


def revert(api: Any, volume: Any, snapshot: Any) -> None:
    """Back to a snapshot."""
    body = {"snapshot": snapshot["id"]}
    api.finished(api.call("POST", f"/volumes/{volume['id']}/revert", body, status=202))


def exists(api: Any, path: str) -> bool:
    """Whether an object is there."""
    return bool(api.http.get(f"/api/v1{path}").status_code == 200)


def attaches(api: Any, volume: Any, **who: Any) -> bool:
    """Whether a host gets in."""
    try:
        api.attach(volume, **who).close()
    except Exception as error:  # noqa: BLE001 - NbdError lives in the conftest
        assert type(error).__name__ == "NbdError"  # noqa: PT017 - idem
        return False
    return True


@sees(Defect.CLONE_EMPTY)
def clone_differs(api: Any) -> bool:
    """A fresh clone against its source."""
    volume = written(api)
    return bool(api.get(api.clone(f"/volumes/{volume['id']}", "c1")) != api.get(volume))


@sees(Defect.CLONE_EMPTY_ON_RETRY)
def retried_clone_differs(api: Any) -> bool:
    """Ask for the same clone twice."""
    volume = written(api)
    clone = api.clone(f"/volumes/{volume['id']}", "c1")
    api.http.post(f"/api/v1/volumes/{volume['id']}/clone", json={"name": "c1"})
    return bool(api.get(clone) != api.get(volume))


@sees(Defect.CLONE_SHARES_BLOCKS_WITH_SOURCE)
def clone_writes_reach_source(api: Any) -> bool:
    """Write to a clone, read its source."""
    volume = written(api)
    api.put(api.clone(f"/volumes/{volume['id']}", "c1"), 0, b"!" * 512)
    return api.get(volume, 0, 512)[:1] == b"!"


@sees(Defect.CLONE_LOSES_AFTER_SOURCE_DELETE)
def clone_dies_with_source(api: Any) -> bool:
    """Delete the source, read the clone."""
    volume = written(api)
    clone = api.clone(f"/volumes/{volume['id']}", "c1")
    api.call("DELETE", f"/volumes/{volume['id']}", status=204)
    return not any(api.get(clone))


@sees(Defect.SNAPSHOT_NOT_POINT_IN_TIME, Defect.SNAPSHOT_MUTABLE)
def snapshot_follows_volume(api: Any) -> bool:
    """Snapshot, write, look at the snapshot through a clone."""
    volume = written(api)
    snapshot = api.snapshot(volume)
    api.put(volume, 0, b"!" * 512)
    clone = api.clone(f"/snapshots/{snapshot['id']}", "c1")
    return api.get(clone, 0, 512)[:1] == b"!"


@sees(Defect.SNAPSHOT_DELETE_DELETES_ALL)
def sibling_snapshot_dies(api: Any) -> bool:
    """Delete one of two."""
    volume = written(api)
    first, second = api.snapshot(volume, "s1"), api.snapshot(volume, "s2")
    api.call("DELETE", f"/snapshots/{second['id']}", status=204)
    return not exists(api, f"/snapshots/{first['id']}")


@sees(Defect.REVERT_DOES_NOTHING)
def revert_keeps_new_data(api: Any) -> bool:
    """Snapshot, write, revert, read."""
    volume = written(api)
    snapshot = api.snapshot(volume)
    api.put(volume, 0, b"!" * 512)
    revert(api, volume, snapshot)
    return api.get(volume, 0, 512)[:1] == b"!"


@sees(Defect.REVERT_DROPS_NEWER_SNAPSHOTS)
def newer_snapshot_dies(api: Any) -> bool:
    """Revert to the older of two."""
    volume = written(api)
    first, second = api.snapshot(volume, "s1"), api.snapshot(volume, "s2")
    revert(api, volume, first)
    return not exists(api, f"/snapshots/{second['id']}")


@sees(Defect.RESIZE_REPORTS_BUT_DOES_NOT_GROW)
def export_stays_small(api: Any) -> bool:
    """Grow, attach, compare the sizes."""
    volume = api.volume()
    grown = api.call("PATCH", f"/volumes/{volume['id']}", {"size": 32 * CHUNK})
    return len(api.get(volume)) != grown["size"]


@sees(Defect.RESIZE_LOSES_TAIL)
def tail_is_lost(api: Any) -> bool:
    """Grow, read what was there."""
    volume = written(api)
    api.call("PATCH", f"/volumes/{volume['id']}", {"size": 8 * CHUNK})
    return bool(api.get(volume, 0, 4 * CHUNK) != b"v" * 4 * CHUNK)


@sees(Defect.RESIZE_SHRINK_ACCEPTED)
def shrinks(api: Any) -> bool:
    """Ask for less."""
    reply = api.http.patch(f"/api/v1/volumes/{written(api)['id']}", json={"size": CHUNK})
    return bool(reply.status_code == 200)


@sees(Defect.DELETE_LEAKS_SPACE)
def space_is_gone(api: Any) -> bool:
    """Delete, look at the pool."""
    api.call("DELETE", f"/volumes/{written(api)['id']}", status=204)
    return bool(api.call("GET", "/pools/pool-a")["used_bytes"])


@sees(Defect.DELETE_MISSING_IS_ERROR)
def missing_is_an_error(api: Any) -> bool:
    """Delete what is not there."""
    return bool(api.http.delete("/api/v1/volumes/vol-x").status_code == 500)


@sees(Defect.DELETE_GRANTED_ALLOWED)
def granted_can_be_deleted(api: Any) -> bool:
    """Delete a volume that a host uses."""
    volume = api.volume()
    api.grant(volume)
    with api.attach(volume):
        return bool(api.http.delete(f"/api/v1/volumes/{volume['id']}").status_code == 204)


@sees(Defect.DELETE_SAYS_OK_BUT_KEEPS)
def deleted_stays(api: Any) -> bool:
    """Delete, look again."""
    volume = api.volume()
    api.call("DELETE", f"/volumes/{volume['id']}", status=204)
    return exists(api, f"/volumes/{volume['id']}")


@sees(Defect.GRANT_EVERYONE)
def stranger_gets_in(api: Any) -> bool:
    """A registered host without a grant."""
    volume = api.volume()
    api.grant(volume)
    api.host(OTHER)
    return attaches(api, volume, iqn=OTHER)


@sees(Defect.REVOKE_KEEPS_SESSIONS)
def session_outlives_revoke(api: Any) -> bool:
    """Revoke under an open session."""
    volume = api.volume()
    grant = api.grant(volume)
    with api.attach(volume) as host:
        api.revoke(grant)
        try:
            host.write(0, b"x" * 512)
        except OSError:
            return False
        return True


@sees(Defect.REVOKE_SAYS_OK_DOES_NOTHING)
def revoked_gets_in(api: Any) -> bool:
    """Revoke, attach again."""
    volume = api.volume()
    api.revoke(api.grant(volume))
    return attaches(api, volume)


@sees(Defect.CHAP_NOT_CHECKED)
def wrong_secret_gets_in(api: Any) -> bool:
    """A granted name with somebody's secret."""
    volume = api.volume()
    api.grant(volume)
    return attaches(api, volume, secret="wrong-wrong-wrong")


@sees(Defect.READ_ONLY_IGNORED)
def read_only_writes(api: Any) -> bool:
    """Write through a read-only grant."""
    volume = api.volume()
    api.grant(volume, read_only=True)
    with api.attach(volume) as host:
        host.send(1, 0, 512, b"x" * 512)
        return host.receive(16)[4:8] == bytes(4)


def delta(api: Any) -> tuple[Any, list[Any]]:
    """The target snapshot and its changes: chunks 1, 3 and 5 of 6."""
    volume = api.volume("v1", 6)
    base = api.snapshot(volume, "s1")
    for chunk in (1, 3, 5):
        api.put(volume, chunk * CHUNK, b"x" * 512)
    target = api.snapshot(volume, "s2")
    query = {"base": base["id"]}
    return target, api.call("GET", f"/snapshots/{target['id']}/changes", params=query)["extents"]


@sees(Defect.CHANGED_MISSES_BLOCKS)
def change_is_missed(api: Any) -> bool:
    """Compare with what was written."""
    covered = {extent["offset"] // CHUNK for extent in delta(api)[1]}
    return not covered >= {1, 3, 5}


@sees(Defect.CHANGED_PAST_END)
def change_is_outside(api: Any) -> bool:
    """No extent may leave the volume."""
    target, extents = delta(api)
    return any(extent["offset"] + extent["length"] > target["size"] for extent in extents)


@sees(Defect.CHANGED_UNSORTED)
def changes_are_unsorted(api: Any) -> bool:
    """Offsets must ascend."""
    offsets = [extent["offset"] for extent in delta(api)[1]]
    return offsets != sorted(offsets)


@sees(Defect.CREATE_DUPLICATE_NAME_ALLOWED)
def name_is_taken_twice(api: Any) -> bool:
    """The same name again."""
    api.volume("v1")
    body = {"name": "v1", "pool": "pool-a", "size": CHUNK}
    return bool(api.http.post("/api/v1/volumes", json=body).status_code == 201)


@sees(Defect.CREATE_WRONG_SIZE)
def size_differs(api: Any) -> bool:
    """Ask for 16 chunks."""
    return len(api.get(api.volume("v1", 16))) != 16 * CHUNK


@sees(Defect.NEW_VOLUME_SHOWS_OLD_BYTES)
def old_bytes_show(api: Any) -> bool:
    """Delete a written volume, make a new one, read it."""
    api.call("DELETE", f"/volumes/{written(api)['id']}", status=204)
    return any(api.get(api.volume("v2", 2)))


def walk(api: Any) -> list[str]:
    """The names of five volumes, two per page."""
    for number in range(5):
        api.volume(f"v{number}", 1)
    names: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = api.call("GET", "/volumes", params=query)
        names += [volume["name"] for volume in page["items"]]
        if page["next"] is None:
            return names
        query["cursor"] = page["next"]


@sees(Defect.LIST_SKIPS_PAGE_BOUNDARY, Defect.LIST_MISSES_NEWEST)
def list_is_short(api: Any) -> bool:
    """Walk and count."""
    return len(walk(api)) < 5


@sees(Defect.CAPACITY_NEGATIVE)
def free_is_negative(api: Any) -> bool:
    """Used and free are between 0 and total."""
    pool = api.call("GET", "/pools/pool-a")
    return not 0 <= pool["used_bytes"] <= pool["total_bytes"] or pool["free_bytes"] < 0


@sees(Defect.CAPACITY_IN_MIB)
def unit_is_wrong(api: Any) -> bool:
    """A volume must fit into its pool's numbers."""
    api.volume("v1", 16)
    return bool(api.call("GET", "/pools/pool-a")["provisioned_bytes"] < 16 * CHUNK)


@sees(Defect.QOS_IGNORED)
def limits_vanish(api: Any) -> bool:
    """Set, read back."""
    path = f"/volumes/{api.volume()['id']}"
    api.call("PATCH", path, {"qos": {"max_iops": 7}})
    return bool(api.call("GET", path)["qos"]["max_iops"] != 7)


@sees(Defect.QOS_NOT_ENFORCED)
def limits_do_not_hold(api: Any) -> bool:
    """The second read of a volume with one read per 50 ms has to wait."""
    volume = api.volume(qos={"max_iops": 20})
    api.grant(volume)
    with api.attach(volume) as host:
        host.read(0, 512)
        begin = time.monotonic()
        host.read(0, 512)
        host.read(0, 512)
        return time.monotonic() - begin < 0.09


@sees(Defect.PASSWORD_ECHOED_IN_ERROR)
def secrets_are_repeated(api: Any) -> bool:
    """A wrong password and a malformed CHAP secret."""
    body = {"username": "admin", "password": "canary-password"}
    login = api.http.post("/api/v1/sessions", json=body)
    host = {"iqn": OTHER, "chap_user": "u", "chap_secret": "canary secret"}
    added = api.http.post("/api/v1/initiators", json=host)
    return "canary-password" in login.text and "canary secret" in added.text


@sees(Defect.WRITES_LOST_AFTER_FLUSH)
def flushed_is_lost(api: Any) -> bool:
    """Write, flush, disconnect, read."""
    volume = api.volume()
    api.grant(volume)
    with api.attach(volume) as host:
        host.write(0, b"x" * 512)
        host.flush()
        host.close()
    with api.attach(volume) as host:
        return not any(host.read(0, 512))


@sees(Defect.MISDIRECTED_WRITE)
def write_lands_elsewhere(api: Any) -> bool:
    """Each chunk gets its number."""
    volume = api.volume("v1", 8)
    api.grant(volume)
    with api.attach(volume) as host:
        for chunk in range(8):
            host.write(chunk * CHUNK, bytes([chunk + 1]) * 512)
        return any(host.read(chunk * CHUNK, 512)[0] != chunk + 1 for chunk in range(8))


@sees(Defect.SERIAL_REUSED)
def serial_comes_back(api: Any) -> bool:
    """Delete, make another."""
    volume = api.volume()
    api.call("DELETE", f"/volumes/{volume['id']}", status=204)
    return bool(api.volume("v2")["serial"] == volume["serial"])


@sees(Defect.JOB_NEVER_FINISHES)
def job_runs_on(api: Any) -> bool:
    """Jobs of this array take no time."""
    path = f"/volumes/{api.volume()['id']}/clone"
    return bool(api.call("POST", path, {"name": "c1"}, status=202)["state"] == "running")


@sees(Defect.PRIVATE_METADATA_LOST)
def metadata_is_lost(api: Any) -> bool:
    """Store, read back."""
    return bool(api.volume(metadata={"owner": "me"})["metadata"] != {"owner": "me"})


@sees(Defect.CLONE_KEEPS_SOURCE_SIZE)
def larger_clone_stays_small(api: Any) -> bool:
    """Ask for twice the size."""
    clone = api.clone(f"/volumes/{written(api)['id']}", "c1", size=8 * CHUNK)
    return len(api.get(clone)) != 8 * CHUNK


@sees(Defect.CLONE_SMALLER_ACCEPTED)
def smaller_clone_is_made(api: Any) -> bool:
    """Ask for half of the size."""
    body = {"name": "c1", "size": 2 * CHUNK}
    reply = api.http.post(f"/api/v1/volumes/{written(api)['id']}/clone", json=body)
    return bool(reply.status_code == 202)


@sees(Defect.SNAPSHOT_CLONE_IS_CURRENT)
def clone_of_snapshot_follows_volume(api: Any) -> bool:
    """Snapshot, write, make a volume from the snapshot; the snapshot itself is right."""
    volume = written(api)
    snapshot = api.snapshot(volume)
    api.put(volume, 0, b"!" * 512)
    return api.get(api.clone(f"/snapshots/{snapshot['id']}", "c1"), 0, 512)[:1] == b"!"


@sees(Defect.SNAPSHOT_SIZE_ZERO)
def snapshot_has_no_size(api: Any) -> bool:
    """Compare with its volume."""
    volume = api.volume()
    return bool(api.snapshot(volume)["size"] != volume["size"])


@sees(Defect.SNAPSHOT_TIME_MOVES)
def snapshot_becomes_younger(api: Any) -> bool:
    """Look twice."""
    snapshot = api.snapshot(api.volume())
    return bool(api.call("GET", f"/snapshots/{snapshot['id']}")["created_at"] != snapshot["created_at"])


@sees(Defect.CHAP_ROTATION_IGNORED)
def old_secret_gets_in(api: Any) -> bool:
    """Change the secret, attach with the old one."""
    volume = api.volume()
    api.grant(volume)
    body = {"chap_user": "user", "chap_secret": "another-secret-word"}
    api.call("PATCH", f"/initiators/{api.host()['id']}", body)
    return attaches(api, volume)


@sees(Defect.GRANT_DUPLICATED)
def second_grant_is_made(api: Any) -> bool:
    """Grant twice, count."""
    volume = api.volume()
    for _ in range(2):
        api.http.post(f"/api/v1/volumes/{volume['id']}/grants", json={"initiator": api.host()["id"]})
    return len(api.call("GET", f"/volumes/{volume['id']}/grants")["items"]) == 2


@sees(Defect.EXPORT_SHOWS_OTHER_VOLUME)
def another_volume_shows(api: Any) -> bool:
    """Read the older of two volumes."""
    first = written(api, "v1")
    api.volume("w1", 4)
    return api.get(first, 0, 512)[:1] != b"v"


@sees(Defect.CHANGED_REPORTS_ALL)
def unchanged_is_reported(api: Any) -> bool:
    """Three of six chunks were written."""
    return sum(extent["length"] for extent in delta(api)[1]) > 3 * CHUNK


@sees(Defect.ZERO_DOES_NOTHING)
def zeroed_bytes_stay(api: Any) -> bool:
    """Zero the first block, read it."""
    volume = written(api)
    api.grant(volume)
    with api.attach(volume) as host:
        host.zero(0, 512)
        return any(host.read(0, 512))


@sees(Defect.QOS_LOST_ON_RESIZE)
def limits_vanish_with_growth(api: Any) -> bool:
    """Limit, grow, read back."""
    path = f"/volumes/{api.volume(qos={'max_iops': 7})['id']}"
    return bool(api.call("PATCH", path, {"size": 32 * CHUNK})["qos"]["max_iops"] != 7)


ELSEWHERE = {Defect.GROUP_SNAPSHOT_TORN}  # needs a writer: test_array_snapshots.py


def test_every_defect_has_a_check() -> None:
    """A defect that nothing can see proves nothing."""
    assert set(CHECKS) | ELSEWHERE == set(Defect)


@pytest.mark.parametrize("defect", CHECKS, ids=lambda defect: defect.label)
def test_a_defect_shows(api: Any, sim: ArraySimulator, defect: Defect) -> None:
    """With the defect the check sees it."""
    sim.defects.set(defect)
    assert CHECKS[defect](api)


@pytest.mark.parametrize("check", dict.fromkeys(CHECKS.values()), ids=lambda check: check.__name__)
def test_a_healthy_array_shows_none(api: Any, check: Seen) -> None:
    """Without a defect the same check sees nothing."""
    assert not check(api)


def test_the_catalogue_is_complete() -> None:
    """Names are unique, lower-case and told; each defect says what it does and where it was seen."""
    labels = [defect.label for defect in Defect]
    assert len(set(labels)) == len(labels) >= 24
    for defect in Defect:
        assert re.fullmatch("[a-z_]+", defect.label)
        assert defect.label.upper() == defect.name
        assert defect.description
        assert defect.field_bug


def test_the_documentation_tells_of_every_defect() -> None:
    """What a defect is called and does stands in the reference, word for word."""
    page = (Path(__file__).parents[3] / "docs" / "simulators-array.md").read_text()
    for defect in Defect:
        assert f"| `{defect.label}` | {defect.description} | {defect.field_bug} |" in page


def test_switches_refuse_unknown_names_and_change_all_or_nothing() -> None:
    """A misspelt defect never passes silently."""
    defects = Defects()
    defects.set("clone_empty", Defect.SNAPSHOT_MUTABLE)
    with pytest.raises(ValueError, match="clone_emty"):
        defects.replace(["snapshot_mutable", "clone_emty"])
    assert defects.active() == {Defect.CLONE_EMPTY, Defect.SNAPSHOT_MUTABLE}
    defects.clear("clone_empty")
    assert Defect.CLONE_EMPTY not in defects
    assert Defect.SNAPSHOT_MUTABLE in defects
    defects.set_latency("*", 0.5)
    defects.set_latency("GET /pools", 0.0)
    assert (defects.latency("GET /pools"), defects.latency("GET /jobs")) == (0.0, 0.5)
