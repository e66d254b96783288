"""The REST frame and the life of volumes: sessions, errors, lists, retries, limits, jobs."""

from __future__ import annotations

import base64
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from bollard.simulators.array import ArraySimulator

CHUNK = 65536


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return self.now


def test_a_volume_is_made_found_changed_and_deleted(api: Any) -> None:
    """The answer of each call is what the next one shows."""
    made = api.volume("db-01", 4, metadata={"owner": "vm-7"}, qos={"max_iops": 500})
    assert (made["state"], made["size"], made["allocated_bytes"]) == ("online", 4 * CHUNK, 0)
    assert made["metadata"] == {"owner": "vm-7"}
    assert made["qos"] == {"min_iops": None, "max_iops": 500, "min_bandwidth": None, "max_bandwidth": None}
    path = f"/volumes/{made['id']}"
    assert api.call("GET", path) == made
    change = {"name": "db-02", "size": 5 * CHUNK, "metadata": {}, "qos": None}
    changed = api.call("PATCH", path, change)
    assert (changed["name"], changed["size"], changed["serial"]) == ("db-02", 5 * CHUNK, made["serial"])
    assert changed["qos"]["max_iops"] is None
    api.call("DELETE", path, status=204)
    assert api.error("GET", path, status=404) == "not_found"
    assert api.error("DELETE", path, status=404) == "not_found"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "../x"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "-x"}, "name"),
        ({"name": "x\n"}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"name": 7}, "name"),
        ({"size": 0}, "size"),
        ({"size": -512}, "size"),
        ({"size": 513}, "size"),
        ({"size": True}, "size"),
        ({"size": "1024"}, "size"),
        ({"size": 2**47}, "size"),
        ({"colour": "red"}, "colour"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {"a": "x" * 4096}}, "metadata"),
        ({"qos": {"max_iops": 0}}, "qos.max_iops"),
        ({"qos": {"burst": 1}}, "qos.burst"),
        ({"qos": {"min_iops": 9, "max_iops": 8}}, "qos.min_iops"),
    ],
)
def test_a_bad_field_is_named(api: Any, body: dict[str, object], field: str) -> None:
    """Wrong types, values and unknown keys are 400 and name the field; nothing is made."""
    wanted = {"name": "v1", "pool": "pool-a", "size": CHUNK, **body}
    error = api.call("POST", "/volumes", wanted, status=400)
    assert (error["code"], error["field"]) == ("invalid_argument", field)
    assert api.call("GET", "/volumes")["items"] == []


def test_errors_have_their_codes(api: Any) -> None:
    """Conflicts, missing objects, wrong methods and malformed bodies can be told apart."""
    volume = api.volume("v1")
    again = {"name": "v1", "pool": "pool-a", "size": CHUNK}
    assert api.error("POST", "/volumes", again, status=409) == "name_exists"
    assert api.error("POST", "/volumes", {**again, "pool": "none"}, status=404) == "not_found"
    assert api.error("POST", "/volumes", {"name": "x"}, status=400) == "invalid_argument"
    assert api.error("GET", "/nothing", status=404) == "not_found"
    assert api.error("PUT", "/volumes", {}, status=405) == "method_not_allowed"
    path = f"/volumes/{volume['id']}"
    assert api.error("PATCH", path, {"size": CHUNK}, status=400) == "shrink_not_allowed"
    assert api.call("PATCH", path, {"size": volume["size"]})["size"] == volume["size"]
    snapshot = api.snapshot(volume)
    assert api.error("DELETE", path, status=409) == "has_dependents"
    assert api.error("PATCH", f"/snapshots/{snapshot['id']}", {}, status=405) == "method_not_allowed"
    for text in ("{", "[1]", "[" * 100_000):
        reply = api.http.post("/api/v1/volumes", content=text)
        assert (reply.status_code, reply.json()["code"]) == (400, "invalid_argument")


def test_the_pool_counts_slots_once_and_refuses_overprovisioning(api: Any) -> None:
    """Shared slots count once, freed ones come back, and promises have a limit."""
    volume = api.volume("v1", 8)
    api.put(volume, 0, b"x" * 3 * CHUNK)
    assert api.call("GET", "/pools/pool-a")["used_bytes"] == 3 * CHUNK
    clone = api.clone(f"/volumes/{volume['id']}", "c1")
    pool = api.call("GET", "/pools")["items"][0]
    assert (pool["used_bytes"], pool["provisioned_bytes"], pool["volumes"]) == (3 * CHUNK, 16 * CHUNK, 2)
    assert pool["used_bytes"] + pool["free_bytes"] == pool["total_bytes"] == 2**26
    too_big = {"name": "big", "pool": "pool-a", "size": pool["provisioning_limit_bytes"]}
    assert api.error("POST", "/volumes", too_big, status=507) == "out_of_space"
    api.call("DELETE", f"/volumes/{volume['id']}", status=204)
    assert api.call("GET", "/pools/pool-a")["used_bytes"] == 3 * CHUNK
    api.call("DELETE", f"/volumes/{clone['id']}", status=204)
    assert api.call("GET", "/pools/pool-a")["used_bytes"] == 0


def test_a_full_pool_is_enospc_and_recovers(api: Any, nbd_error: Any) -> None:
    """Writes beyond the pool's capacity fail, old data is unharmed, trimmed space can be used again."""
    volume = api.volume("v1", 2**26 // CHUNK + 4)
    api.grant(volume)
    with api.attach(volume) as host:
        for offset in range(0, 2**26, 2**24):
            host.write(offset, b"x" * 2**24)
        with pytest.raises(nbd_error, match=r"^28$"):
            host.write(2**26, b"y" * CHUNK)
        assert host.read(2**26, 512) == bytes(512)
        host.trim(0, CHUNK)
        host.flush()
        host.write(2**26, b"y" * CHUNK)
        assert host.read(2**26 - 512, 1024) == b"x" * 512 + b"y" * 512
        host.close()


def test_lists_are_paged_filtered_and_stable(api: Any) -> None:
    """A walk sees everything once even when earlier objects vanish meanwhile."""
    made = [api.volume(f"{kind}-{number}", 1) for number in range(4) for kind in ("a", "b")]
    first = api.call("GET", "/volumes", params={"limit": 3})
    for volume in made[:2]:
        api.call("DELETE", f"/volumes/{volume['id']}", status=204)
    seen, cursor = first["items"], first["next"]
    while cursor:
        page = api.call("GET", "/volumes", params={"limit": 3, "cursor": cursor})
        seen, cursor = seen + page["items"], page["next"]
    assert [volume["name"] for volume in seen] == [volume["name"] for volume in made]
    found = api.call("GET", "/volumes", params={"name_prefix": "b-"})["items"]
    assert [volume["name"] for volume in found] == ["b-1", "b-2", "b-3"]
    assert api.call("GET", "/volumes", params={"name": "b-"})["items"] == []
    forged = base64.urlsafe_b64encode(b"before:1").decode()
    for query in ({"cursor": "%%%"}, {"cursor": forged}, {"limit": "0"}, {"limit": "x"}, {"sort": "name"}):
        assert api.error("GET", "/volumes", params=query, status=400) == "invalid_argument"


def test_an_idempotency_key_answers_the_same_again(api: Any) -> None:
    """A retry gets the first answer, another request under the key is refused, failures are not kept."""
    body, key = {"name": "v1", "pool": "pool-a", "size": CHUNK}, {"Idempotency-Key": "op-1"}
    first = api.http.post("/api/v1/volumes", json=body, headers=key)
    second = api.http.post("/api/v1/volumes", json=body, headers=key)
    assert (first.json(), first.status_code) == (second.json(), second.status_code)
    assert "Idempotent-Replay" not in first.headers
    assert second.headers["Idempotent-Replay"] == "true"
    other = {**body, "name": "v2"}
    assert api.error("POST", "/volumes", other, headers=key, status=422) == "idempotency_key_reused"
    retry = {"Idempotency-Key": "op-2"}
    api.error("POST", "/volumes", {**other, "pool": "none"}, headers=retry, status=404)
    assert api.call("POST", "/volumes", other, headers=retry, status=201)["name"] == "v2"
    assert len(api.call("GET", "/volumes")["items"]) == 2


def test_a_failed_request_under_a_key_leaves_nothing(api: Any) -> None:
    """Effect and record are one transaction: what is refused half way is undone."""
    volumes = [api.volume("v1"), api.volume("v2")]
    api.snapshot(volumes[1], "taken")
    body = {"name": "taken", "volumes": [volume["id"] for volume in volumes]}
    for headers in ({}, {"Idempotency-Key": "op-1"}):
        assert api.error("POST", "/group-snapshots", body, headers=headers, status=409) == "name_exists"
    assert len(api.call("GET", "/snapshots")["items"]) == 1


def test_sessions_expire_are_limited_and_end(tmp_path: Path, connect: Any) -> None:
    """A token lives its seconds, only so many live at once, and logging out makes room."""
    clock = Clock()
    options: dict[str, Any] = {"session_limit": 2, "session_seconds": 60.0, "clock": clock}
    with ArraySimulator(tmp_path / "a", tls=False, **options) as sim:
        api, second = connect(sim), connect(sim)
        login = {"username": sim.admin_user, "password": sim.admin_password}
        reply = api.http.post("/api/v1/sessions", json=login)
        assert (reply.status_code, reply.json()["code"], reply.headers["Retry-After"]) == (
            503,
            "session_limit",
            "60",
        )
        second.call("DELETE", "/sessions/current", status=204)
        assert second.error("GET", "/pools", status=401) == "token_expired"
        api.call("POST", "/sessions", login, status=201)
        clock.now += 61
        assert api.error("GET", "/pools", status=401) == "token_expired"
        wrong = {**login, "password": "wrong"}
        assert api.error("POST", "/sessions", wrong, status=401) == "bad_credentials"
        del api.http.headers["Authorization"]
        assert api.error("GET", "/pools", status=401) == "unauthenticated"


def test_calls_beyond_the_rate_wait(tmp_path: Path, connect: Any) -> None:
    """Too many calls are 429 with the seconds to wait, and waiting helps."""
    clock = Clock()
    with ArraySimulator(tmp_path / "a", tls=False, rate_limit=2.0, clock=clock) as sim:
        api = connect(sim)  # the first call
        api.call("GET", "/pools")
        reply = api.http.get("/api/v1/pools")
        assert (reply.status_code, reply.json()["code"]) == (429, "rate_limited")
        clock.now += int(reply.headers["Retry-After"])
        api.call("GET", "/pools")


def test_jobs_run_for_their_time_and_survive_a_restart(tmp_path: Path, connect: Any) -> None:
    """A clone is busy until its job is due, also when the array restarts meanwhile."""
    clock = Clock()
    options: dict[str, Any] = {"tls": False, "job_seconds": 10.0, "clock": clock}
    with ArraySimulator(tmp_path / "a", **options) as sim:
        api = connect(sim)
        volume = api.volume("v1")
        job = api.call("POST", f"/volumes/{volume['id']}/clone", {"name": "c1"}, status=202)
        path = f"/volumes/{job['target']['id']}"
        assert (job["state"], job["progress"], job["finished_at"]) == ("running", 0, None)
        assert api.call("GET", path)["state"] == "creating"
        assert api.error("DELETE", path, status=409) == "busy"
        host = {"initiator": api.host()["id"]}
        for what, body in (("clone", {"name": "c2"}), ("snapshots", {"name": "s1"}), ("grants", host)):
            assert api.error("POST", f"{path}/{what}", body, status=409) == "busy"
        assert api.error("PATCH", path, {"metadata": {}}, status=409) == "busy"
        clock.now += 5
    with ArraySimulator(tmp_path / "a", **options) as sim:
        api = connect(sim)
        assert api.call("GET", f"/jobs/{job['id']}")["progress"] == 50
        clock.now += 5
        done = api.call("GET", f"/jobs/{job['id']}")
        assert (done["state"], done["progress"], done["error"]) == ("done", 100, None)
        assert api.call("GET", path)["state"] == "online"
        assert [one["id"] for one in api.call("GET", "/jobs")["items"]] == [job["id"]]


def test_request_ids_come_back_and_calls_are_counted(api: Any, sim: ArraySimulator) -> None:
    """A caller's id is echoed; endpoints are counted by their pattern."""
    sim.reset_stats()
    reply = api.http.get("/api/v1/volumes/vol-x", headers={"X-Request-Id": "abc-1"})
    assert reply.headers["X-Request-Id"] == "abc-1"
    api.call("GET", "/pools")
    assert sim.stats() == {"GET /volumes/{id}": 1, "GET /pools": 1}


def test_the_control_needs_the_password_and_switches(api: Any, sim: ArraySimulator) -> None:
    """Defects and latencies are switched over HTTP Basic; unknown ones are refused; nothing is counted."""
    auth = (sim.admin_user, sim.admin_password)
    assert httpx.get(f"{sim.url}/sim/defects").status_code == 401
    assert httpx.put(f"{sim.url}/sim/defects", auth=(sim.admin_user, "x"), json={}).status_code == 401
    shown = httpx.put(f"{sim.url}/sim/defects", auth=auth, json={"active": ["clone_empty"]}).json()
    assert shown["active"] == ["clone_empty"]
    assert len(shown["known"]) >= 24
    bad = httpx.put(f"{sim.url}/sim/defects", auth=auth, json={"active": ["no_such"]})
    assert (bad.status_code, bad.json()["field"]) == (400, "active")
    assert sim.defects.active()
    sim.defects.clear()
    latencies = {"GET /pools": 0.05}
    assert httpx.put(f"{sim.url}/sim/latencies", auth=auth, json=latencies).json() == latencies
    reply = api.http.get("/api/v1/pools")
    assert reply.elapsed.total_seconds() >= 0.05
    assert httpx.delete(f"{sim.url}/sim/stats", auth=auth).json() == {}
    assert sim.stats() == {}


def test_a_latency_does_not_delay_the_stop(sim: ArraySimulator, api: Any) -> None:
    """Stopping wakes a call that waits for its simulated latency."""
    sim.defects.set_latency("GET /system", 3600)
    outcome: list[object] = []

    def ask() -> None:
        try:
            outcome.append(api.http.get("/api/v1/system").status_code)
        except httpx.HTTPError as error:
            outcome.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    while "GET /system" not in sim.stats():
        pass
    sim.stop()
    asking.join(20)
    assert len(outcome) == 1


def test_a_simulator_stops_and_starts_again_and_keeps_its_directory(tmp_path: Path, connect: Any) -> None:
    """Objects, pools and password outlive a stop; a second simulator on the directory is refused."""
    sim = ArraySimulator(tmp_path / "a", tls=False, pools={"gold": 2**26, "silver": 2**26})
    with sim:
        volume = connect(sim).volume("v1", pool="gold")
        with pytest.raises(RuntimeError, match="another simulator"):
            ArraySimulator(tmp_path / "a", tls=False).start()
    again = ArraySimulator(tmp_path / "a", tls=False)
    with again:
        assert again.admin_password == sim.admin_password
        assert again.pools == ["gold", "silver"]
        assert connect(again).call("GET", f"/volumes/{volume['id']}")["name"] == "v1"
    with pytest.raises(RuntimeError, match="not running"):
        _ = again.url
