"""Many clients at once: no lost names, no leaked slots, no unexpected error."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

CHUNK = 65536


def test_one_of_many_equal_creates_wins(api: Any) -> None:
    """Sixteen creates of one name make one volume; with one key all of them get it."""

    def create(headers: dict[str, str]) -> tuple[int, str]:
        body = {"name": "v1", "pool": "pool-a", "size": CHUNK}
        reply = api.http.post("/api/v1/volumes", json=body, headers=headers)
        return reply.status_code, reply.json().get("id", "")

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(create, [{}] * 16))
    assert Counter(status for status, _ in answers) == {201: 1, 409: 15}
    (volume,) = api.call("GET", "/volumes")["items"]
    api.call("DELETE", f"/volumes/{volume['id']}", status=204)
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(create, [{"Idempotency-Key": "one"}] * 16))
    assert len(set(answers)) == 1


def test_a_storm_leaves_nothing_behind(api: Any) -> None:
    """Snapshots, clones, reverts, deletions and writes race; answers are expected ones; all space returns."""
    volumes = [api.volume(f"v{number}", 8) for number in range(2)]
    api.host()

    def act(seed: int) -> list[int]:
        chance = random.Random(seed)  # noqa: S311 - a repeatable storm, no secret
        codes = []
        for step in range(12):
            name, volume = f"n{seed}-{step}", chance.choice(volumes)
            snapshots = api.http.get("/api/v1/snapshots").json()["items"]
            snapshot = chance.choice(snapshots)["id"] if snapshots else "none"
            method, path, body = chance.choice(
                [
                    ("POST", f"/volumes/{volume['id']}/snapshots", {"name": name}),
                    ("POST", f"/snapshots/{snapshot}/clone", {"name": name}),
                    ("POST", f"/volumes/{volume['id']}/clone", {"name": name}),
                    ("POST", f"/volumes/{volume['id']}/revert", {"snapshot": snapshot}),
                    ("DELETE", f"/snapshots/{snapshot}", None),
                    ("GET", f"/snapshots/{snapshot}/changes", None),
                    ("GET", "/volumes", None),
                ]
            )
            codes.append(api.http.request(method, f"/api/v1{path}", json=body).status_code)
        return codes

    def write(volume: Any) -> None:
        grant = api.grant(volume)
        with api.attach(volume) as host:
            for number in range(60):
                host.write(number % 8 * CHUNK, bytes([number]) * 2 * 512, fua=number % 5 == 0)
            host.close()
        api.revoke(grant)

    with ThreadPoolExecutor(6) as threads:
        writers = [threads.submit(write, volume) for volume in volumes]
        codes = [code for codes in threads.map(act, range(4)) for code in codes]
        for writer in writers:
            writer.result(60)
    assert set(codes) <= {200, 201, 202, 204, 400, 404, 409}
    for kind in ("snapshots", "volumes"):
        for one in api.call("GET", f"/{kind}", params={"limit": 1000})["items"]:
            api.call("DELETE", f"/{kind}/{one['id']}", status=204)
    pool = api.call("GET", "/pools/pool-a")
    assert (pool["used_bytes"], pool["provisioned_bytes"]) == (0, 0)
