"""Who may attach what: grants, CHAP proofs, groups, revokes, sessions, QoS."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from bollard.simulators.array import ArraySimulator, export_name
from bollard.simulators.array.limiter import Limiter

CHUNK = 65536
OTHER = "iqn.2024-01.org.example:host-2"
SECRET = "correct-horse-battery"


def test_the_proof_is_an_hmac_of_serial_and_name() -> None:
    """As computed by: printf %s 60b0:iqn.2024-01.org.example:h | openssl dgst -sha256 -hmac secret-secret."""
    proof = "19c283142585fe50f0f48513b68193b7527d3a7ad8f55397109e676b871bbb54"
    name = export_name("60b0", "iqn.2024-01.org.example:h", "secret-secret")
    assert name == f"60b0:iqn.2024-01.org.example:h:{proof}"


def test_only_the_granted_host_gets_in(api: Any, nbd_error: Any) -> None:
    """No grant, another host, a wrong secret and a wrong serial all look the same: unknown."""
    volume = api.volume("v1")
    api.host(), api.host(OTHER)
    with pytest.raises(nbd_error, match=str(0x80000006)):
        api.attach(volume)
    api.grant(volume)
    with api.attach(volume) as host:
        assert host.size == volume["size"]
    for attempt in (
        {"iqn": OTHER},
        {"secret": "wrong-wrong-wrong"},
        {"iqn": OTHER, "secret": "wrong-wrong-wrong"},
    ):
        with pytest.raises(nbd_error, match=str(0x80000006)):
            api.attach(volume, **attempt)
    with pytest.raises(nbd_error, match=str(0x80000006)):
        api.attach({"serial": "60b0"})


def test_grants_are_idempotent_listed_and_guard_deletion(api: Any) -> None:
    """The same grant again is the same object; with the other mode it is a conflict."""
    volume, host = api.volume("v1"), api.host()
    path = f"/volumes/{volume['id']}/grants"
    grant = api.grant(volume)
    assert grant["connection"] == {
        "protocol": "nbd",
        "host": "127.0.0.1",
        "port": api.sim.nbd_port,
        "serial": volume["serial"],
        "tls": False,
    }
    again = api.call("POST", path, {"initiator": host["id"]}, status=200)
    assert again == grant
    other = {"initiator": host["id"], "read_only": True}
    assert api.error("POST", path, other, status=409) == "grant_exists"
    assert api.call("GET", path)["items"] == [grant]
    assert api.call("GET", path, params={"initiator": "ini-none"})["items"] == []
    assert api.error("DELETE", f"/volumes/{volume['id']}", status=409) == "in_use"
    assert api.error("DELETE", f"/initiators/{host['id']}", status=409) == "in_use"
    for body in ({}, {"initiator": host["id"], "group": "g"}, {"initiator": "ini-none"}):
        api.error("POST", path, body, status=404 if body.get("initiator") == "ini-none" else 400)
    api.revoke(grant)
    api.error("DELETE", f"{path}/{grant['id']}", status=404)
    api.call("DELETE", f"/initiators/{host['id']}", status=204)


def test_a_read_only_grant_cannot_write(api: Any, nbd_error: Any) -> None:
    """The export says so and refuses; a clone's data is readable all the same."""
    volume = api.volume("v1")
    api.grant(volume, read_only=True)
    with api.attach(volume) as host:
        with pytest.raises(nbd_error, match=r"^1$"):
            host.write(0, b"x" * 512)
        assert host.read(0, 512) == bytes(512)


def test_a_revoke_stops_a_busy_writer(api: Any) -> None:
    """After the revoke has answered nothing more of the old host lands; it cannot come back."""
    volume = api.volume("v1", 4)
    grant = api.grant(volume)
    started = threading.Event()
    acknowledged = 0

    def write() -> None:
        nonlocal acknowledged
        number = 0
        with api.attach(volume) as host:
            while True:
                number += 1
                host.write(0, number.to_bytes(512, "big"))
                acknowledged = number
                started.set()

    def write_until_kicked() -> None:
        with pytest.raises(OSError):  # noqa: PT011 - closed or reset, by timing
            write()

    writer = threading.Thread(target=write_until_kicked)
    writer.start()
    assert started.wait(20)
    (session,) = api.call("GET", f"/volumes/{volume['id']}/sessions")["items"]
    assert (session["iqn"], session["volume"]) == (api.host()["iqn"], volume["id"])
    api.revoke(grant)
    landed = int.from_bytes(bytes_of(api, volume), "big")
    writer.join(20)
    assert acknowledged <= landed <= acknowledged + 1
    assert bytes_of(api, volume) == landed.to_bytes(512, "big")
    assert api.call("GET", "/data-sessions")["items"] == []


def bytes_of(api: Any, volume: Any) -> bytes:
    """The first sector, read by another host."""
    grant = api.grant(volume, iqn=OTHER)
    with api.attach(volume, iqn=OTHER) as host:
        data = host.read(0, 512)
        host.close()
    api.revoke(grant)
    return bytes(data)


def test_groups_open_volumes_to_their_members(api: Any, nbd_error: Any) -> None:
    """Members get in, those who leave are kicked at once, the strongest grant counts."""
    volume, one, two = api.volume("v1"), api.host(), api.host(OTHER)
    group = api.call("POST", "/initiator-groups", {"name": "cluster", "initiators": [one["id"]]}, status=201)
    path = f"/initiator-groups/{group['id']}"
    granted = {"group": group["id"]}
    grant = api.call("POST", f"/volumes/{volume['id']}/grants", granted, status=201)
    assert (grant["initiator"], grant["group"]) == (None, group["id"])
    assert api.call("GET", f"/initiators/{one['id']}")["groups"] == [group["id"]]
    api.grant(volume, read_only=True)
    with api.attach(volume) as host:
        host.write(0, b"x" * 512)
        with pytest.raises(nbd_error):
            api.attach(volume, iqn=OTHER)
        changed = api.call("PATCH", path, {"initiators": [two["id"]]})
        assert changed["initiators"] == [two["id"]]
        with pytest.raises(OSError):  # noqa: PT011 - closed or reset, by timing
            host.read(0, 512)
    with api.attach(volume, iqn=OTHER) as host:
        assert host.read(0, 1024)[:512] == b"x" * 512
    assert api.error("DELETE", path, status=409) == "in_use"
    assert api.error("DELETE", f"/initiators/{two['id']}", status=409) == "in_use"
    api.revoke(grant)
    with pytest.raises(nbd_error):
        api.attach(volume, iqn=OTHER)
    api.call("DELETE", path, status=204)
    assert api.call("GET", "/initiator-groups")["items"] == []


def test_a_rotated_secret_is_needed_by_new_sessions_only(api: Any, nbd_error: Any) -> None:
    """Open sessions go on, the old secret no longer opens one, and no answer ever shows a secret."""
    volume, host = api.volume("v1"), api.host()
    api.grant(volume)
    with api.attach(volume) as session:
        shown = api.call("PATCH", f"/initiators/{host['id']}", {"chap_secret": "another-secret-42"})
        assert "secret" not in str(shown)
        assert session.read(0, 512) == bytes(512)
        with pytest.raises(nbd_error):
            api.attach(volume)
        with api.attach(volume, secret="another-secret-42") as second:
            assert second.size == volume["size"]


@pytest.mark.parametrize("secret", ["short", "with a space in it", "x" * 65, "ünïcode-secret", 12])
def test_a_bad_secret_is_refused_without_repeating_it(api: Any, secret: object) -> None:
    """The refusal names the field, not the value."""
    body = {"iqn": "iqn.2024-01.org.example:h", "chap_user": "u", "chap_secret": secret}
    error = api.call("POST", "/initiators", body, status=400)
    assert error["field"] == "chap_secret"
    assert str(secret) not in str(error)


@pytest.mark.parametrize(
    "iqn", ["host", "iqn.2024-1.org:x", "IQN.2024-01.org:x", "iqn.2024-01.org:x y", "iqn." + "x" * 300]
)
def test_a_bad_iqn_is_refused(api: Any, iqn: str) -> None:
    """Initiator names have the form that iSCSI wants."""
    body = {"iqn": iqn, "chap_user": "u", "chap_secret": "long-enough-secret"}
    assert api.call("POST", "/initiators", body, status=400)["field"] == "iqn"


def test_a_limiter_spaces_requests_out() -> None:
    """Waits add up to the configured pace, over bytes and requests; without limits nobody waits."""
    now = 0.0
    limiter = Limiter(lambda: now)
    assert [limiter.wait(512) for _ in range(3)] == [0.0, 0.0, 0.0]
    limiter.set({"max_iops": 100, "max_bandwidth": 1_000_000})
    assert [limiter.wait(0) for _ in range(3)] == pytest.approx([0.0, 0.01, 0.02])
    limiter.wait(1_000_000)
    assert limiter.wait(0) == pytest.approx(1.03)
    now = 10.0
    assert limiter.wait(0) == 0.0


@pytest.mark.parametrize("defect", [None, "qos_not_enforced", "qos_ignored"])
def test_limits_hold_on_the_data_path(api: Any, sim: ArraySimulator, defect: str | None) -> None:
    """Twenty reads at 10 per second take at least 1.9 s, unless a defect looks away."""
    if defect:
        sim.defects.set(defect)
    volume = api.volume("v1", qos={"max_iops": 10})
    assert volume["qos"]["max_iops"] == (None if defect == "qos_ignored" else 10)
    api.grant(volume)
    with api.attach(volume) as host:
        begin = time.monotonic()
        for _ in range(20):
            host.read(0, 512)
        took = time.monotonic() - begin
    if defect is None:
        assert took >= 1.9
    else:
        assert took < 1.9
