"""Who gets in: grants, live sessions, CHAP secrets, and an array that lies about them."""

from __future__ import annotations

import threading

import pytest

from array_rig import CHUNK, host, read, spec
from bollard.core.dataplane.open import open_sink, open_source
from bollard.core.spi import (
    Busy,
    Conflict,
    Host,
    Internal,
    InUse,
    InvalidArgument,
    NotFound,
    Outcome,
    PermissionDenied,
    StorageError,
)
from bollard.drivers.primary.array.client import Conversation
from bollard.simulators.array import Defect, export_name
from bollard.transfer_objects.ids import HostId
from bollard.transfer_objects.secret import Secret
from primary_rig import DB, MIB, WEB, call


def test_only_the_granted_host_gets_in(driver):
    """With a grant a host reads and writes; another host, or a wrong secret, is refused by the array."""
    made = driver.create_volume(spec(), call())
    place = driver.grant(WEB, host(), call())
    assert place.size == MIB
    assert place.export.reveal() == export_name(made.identity, host().iqn, "correct-horse-battery")
    assert "correct" not in repr(place)
    with open_sink(place, timeout=10) as sink:
        sink.write(0, b"\x01" * CHUNK)
        sink.flush()
    driver.create_volume(spec(DB), call())
    driver.grant(DB, host("host-2"), call())
    for iqn, secret in ((host("host-2").iqn, "correct-horse-battery"), (host().iqn, "wrong-horse-battery")):
        forged = Secret(export_name(made.identity, iqn, secret))
        with pytest.raises(StorageError) as error:
            open_source(type(place)(address=place.address, export=forged), timeout=10)
        assert error.value.code in {"not_found", "permission_denied"}
    driver.revoke(DB, HostId("host-2"), call())
    driver.revoke(WEB, host().id, call())


def test_grants_are_idempotent_listed_and_single_writer(driver):
    """A repeat works, the other mode conflicts, a second writer is InUse, readers are welcome."""
    driver.create_volume(spec(), call())
    first = driver.grant(WEB, host(), call())
    assert driver.grant(WEB, host(), call()) == first
    with pytest.raises(Conflict):
        driver.grant(WEB, host(), call(), read_only=True)
    with pytest.raises(InUse) as error:
        driver.grant(WEB, host("host-2"), call())
    assert error.value.outcome is Outcome.NOT_APPLIED
    assert driver.grant(WEB, host("host-3"), call(), read_only=True).read_only
    listed = [(g.host, g.read_only) for g in driver.list_grants(WEB, call())]
    assert listed == [("host-1", False), ("host-3", True)]
    with pytest.raises(InUse):
        driver.delete_volume(WEB, call())
    for name in ("host-1", "host-3", "host-1", "nobody"):
        driver.revoke(WEB, HostId(name), call())
    assert driver.list_grants(WEB, call()) == []
    driver.revoke(DB, HostId("host-1"), call())
    with pytest.raises(NotFound):
        driver.grant(DB, host(), call())
    with pytest.raises(NotFound):
        driver.list_grants(DB, call())


def test_one_of_many_writers_wins(driver, connect):
    """Hosts that are granted at the same time end with one writer; the others get InUse or Busy."""
    driver.create_volume(spec(), call())
    same = [connect(owner=driver.options.owner) for _ in range(4)]
    results: list[object] = []

    def grant(number: int) -> None:
        try:
            results.append(same[number].grant(WEB, host(f"racer-{number}"), call()))
        except (InUse, Busy) as error:
            results.append(error)

    threads = [threading.Thread(target=grant, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [result for result in results if not isinstance(result, StorageError)]
    writers = [g for g in driver.list_grants(WEB, call()) if not g.read_only]
    assert len(results) == 4
    assert len(writers) == len(winners) <= 1
    for number in range(4):
        driver.revoke(WEB, HostId(f"racer-{number}"), call())


@pytest.mark.parametrize("deed", ["grant", "rotate_chap"])
def test_a_host_whose_last_volume_is_revoked_meanwhile(driver, connect, monkeypatch, deed):
    """Forgotten between our look and our word: a grant is Busy and works repeated, a rotation is done."""
    for one in (WEB, DB):
        driver.create_volume(spec(one), call())
    driver.grant(WEB, host(), call())
    other = connect(owner=driver.options.owner)
    patch = Conversation.patch

    def too_late(talk, *told):
        other.revoke(WEB, host().id, call())
        return patch(talk, *told)

    with monkeypatch.context() as between:
        between.setattr(Conversation, "patch", too_late)
        if deed == "grant":
            with pytest.raises(Busy) as error:
                driver.grant(DB, host(), call())
            assert error.value.outcome is Outcome.NOT_APPLIED
        else:
            driver.rotate_chap(host(), call())
    driver.grant(DB, host(), call())
    driver.revoke(DB, host().id, call())


def test_read_only_grants_cannot_write(driver):
    """Through a read-only grant nothing can be written, not even by a host that ignores the flag."""
    driver.create_volume(spec(), call())
    place = driver.grant(WEB, host(), call(), read_only=True)
    with pytest.raises(PermissionDenied):
        open_sink(place, timeout=10)
    with pytest.raises(StorageError):
        open_sink(type(place)(address=place.address, export=place.export), timeout=10)
    driver.revoke(WEB, host().id, call())


def test_revoke_forgets_a_host_whose_grant_was_killed(driver):
    """Registered and never granted: who revokes what the grant was about leaves no initiator behind."""
    driver.create_volume(spec(), call())
    talk = driver._client.talk(call())
    for name in ("killed", "other"):
        body = {"iqn": host(name).iqn, "name": name, "chap_user": name, "chap_secret": "0123456789abcdef"}
        talk.post("/initiators", body)
    driver.revoke(WEB, HostId("killed"), call())
    assert list(talk.items("/initiators", name="killed")) == []
    assert len(list(talk.items("/initiators", name="other"))) == 1


def test_revoke_cuts_a_live_session(driver):
    """After revoke returned, the open connection is dead, no new one opens, and the host is forgotten."""
    driver.create_volume(spec(), call())
    place = driver.grant(WEB, host("cut"), call())
    sink = open_sink(place, timeout=10)
    sink.write(0, b"\x01" * CHUNK)
    driver.revoke(WEB, HostId("cut"), call())
    with pytest.raises(StorageError):
        sink.write(CHUNK, b"\x02" * CHUNK)
    sink.close()
    with pytest.raises(StorageError):
        open_sink(place, timeout=10)
    assert read(driver, WEB, CHUNK) == bytes(CHUNK)
    talk = driver._client.talk(call())
    assert list(talk.items("/initiators", iqn=host("cut").iqn)) == []


@pytest.mark.parametrize("defect", [Defect.REVOKE_KEEPS_SESSIONS, Defect.REVOKE_SAYS_OK_DOES_NOTHING])
def test_a_revoke_that_is_not_true_is_not_believed(driver, array, defect, monkeypatch):
    """An array that says "revoked" while the host is still in gets an error with outcome unknown."""
    monkeypatch.setattr("bollard.drivers.primary.array.access._PROOF_PATIENCE", 0.5)
    driver.create_volume(spec(), call())
    sink = open_sink(driver.grant(WEB, host("liar"), call()), timeout=10)
    array.defects.set(defect)
    try:
        with pytest.raises(Internal) as error:
            driver.revoke(WEB, HostId("liar"), call())
        assert error.value.outcome is Outcome.UNKNOWN
    finally:
        array.defects.clear()
        sink.close()
        driver.revoke(WEB, HostId("liar"), call())


def test_chap_secrets_rotate(driver):
    """After a rotation the old secret opens no new session and the new one does, on every volume."""
    driver.create_volume(spec(), call())
    old = driver.grant(WEB, host("rot"), call())
    renewed = host("rot", "another-long-secret")
    driver.rotate_chap(renewed, call())
    with pytest.raises(StorageError):
        open_source(old, timeout=10)
    with open_source(driver.grant(WEB, renewed, call()), timeout=10) as source:
        assert source.size == MIB
    driver.revoke(WEB, HostId("rot"), call())
    driver.rotate_chap(host("never-seen"), call())


def test_a_host_is_known_by_one_name(driver):
    """An initiator that the array knows under another name is not taken over; CHAP is required."""
    driver.create_volume(spec(), call())
    driver.grant(WEB, host("first"), call())
    imposter = Host(id=HostId("second"), iqn=host("first").iqn, chap_user="u", chap_secret=Secret("x" * 20))
    with pytest.raises(Conflict):
        driver.grant(WEB, imposter, call(), read_only=True)
    with pytest.raises(InvalidArgument):
        driver.grant(WEB, Host(id=HostId("third"), iqn="iqn.2024-01.org.example:third"), call())
    driver.revoke(WEB, HostId("first"), call())


def test_a_group_of_the_administrator_is_seen(driver, monkeypatch):
    """Access through an initiator group is listed, and a revoke that cannot end it does not claim to."""
    volume = driver.create_volume(spec(), call())
    driver.create_volume(spec(DB), call())
    driver.grant(DB, host("grouped"), call())
    talk = driver._client.talk(call())
    (initiator,) = talk.items("/initiators", iqn=host("grouped").iqn)
    group = talk.post("/initiator-groups", {"name": "cluster-1", "initiators": [initiator["id"]]})
    path = f"/volumes/{volume.private['array_id']}/grants"
    grant = talk.post(path, {"group": group["id"]})
    assert [g.host for g in driver.list_grants(WEB, call())] == ["grouped"]
    monkeypatch.setattr("bollard.drivers.primary.array.access._PROOF_PATIENCE", 0.2)
    with pytest.raises(Internal):
        driver.revoke(WEB, HostId("grouped"), call())
    talk.delete(f"{path}/{grant['id']}")
    driver.revoke(WEB, HostId("grouped"), call())
    driver.revoke(DB, HostId("grouped"), call())
    talk.delete(f"/initiator-groups/{group['id']}")
