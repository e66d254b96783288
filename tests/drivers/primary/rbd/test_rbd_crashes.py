"""Requests whose agent is killed at, and in, each change that it makes to the cluster, and repeated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bollard.core.dataplane import open_sink
from bollard.drivers.primary.rbd import RbdDriver
from bollard.transfer_objects.ids import VolumeId
from ceph_lab import CephLab
from primary_rig import COPY, DB, MIB, S1, S2, WEB, call
from rbd_rig import die_in_the_agent, host, read, spec, what_is_kept

pytestmark = [pytest.mark.real, pytest.mark.slow]

_MOST = 60  # changes of one request


@pytest.fixture
def filled(driver: RbdDriver) -> Iterator[RbdDriver]:
    """A pool with the volumes web, which has bytes, and db."""
    for volume in (WEB, DB):
        driver.create_volume(spec(volume), call())
    _write(driver, WEB, b"w")
    yield driver
    for volume in (WEB, DB, COPY):
        for held in _grants(driver, volume):
            driver.revoke(volume, held, call())
    for snapshot in (S1, S2):
        driver.delete_snapshot(snapshot, call())
    for volume in (WEB, DB, COPY):
        driver.delete_volume(volume, call())


def _write(driver: RbdDriver, volume: VolumeId, byte: bytes) -> None:
    with open_sink(driver.grant(volume, host("writer"), call()), timeout=20) as sink:
        sink.write(0, byte * MIB)
        sink.flush()
    driver.revoke(volume, host("writer").id, call())


def _grants(driver: RbdDriver, volume: VolumeId) -> list[Any]:
    if volume not in {found.id for found in driver.list_volumes(call()).items}:
        return []
    return [grant.host for grant in driver.list_grants(volume, call())]


def _every_kill(lab: CephLab, act: str, **arguments: Any) -> Iterator[int]:
    """Yield after each kill, in turn before and in the n-th change, until a run comes to its end."""
    for kill in range(_MOST):
        died = die_in_the_agent(lab, kill, act, arguments, inside=_inside(kill))
        if not died and not _inside(kill):  # a kill inside may come too late
            assert kill > 1, "nothing was killed"
            return
        yield kill
    raise AssertionError(f"{act} makes more than {_MOST} changes")


def _inside(kill: int) -> bool:
    return bool(kill % 2)


@contextmanager
def _nothing_left(lab: CephLab) -> Iterator[None]:
    before = what_is_kept(lab)
    yield
    assert what_is_kept(lab) == before


def _new(source: dict[str, str] | None) -> dict[str, Any]:
    origin = ":".join(next(iter(source.items()))) if source else "empty"
    return {"volume": COPY, "size": 16 * MIB, "name": "", "origin": origin, "source": source}


def test_a_create_converges(lab: CephLab, filled: RbdDriver) -> None:
    """A create that died anywhere is made by the repeat, or leaves nothing after a delete."""
    with _nothing_left(lab):
        for kill in _every_kill(lab, "create", **_new(None)):
            if kill % 4 < 2:
                assert filled.create_volume(spec(COPY), call()).size == 16 * MIB
            filled.delete_volume(COPY, call())
        filled.delete_volume(COPY, call())


def test_a_clone_converges_and_is_never_empty(lab: CephLab, filled: RbdDriver) -> None:
    """A clone that died anywhere is filled after the repeat, and its source keeps no snapshot of it."""
    with _nothing_left(lab):
        for _ in _every_kill(lab, "create", **_new({"volume": WEB})):
            filled.clone_volume(WEB, spec(COPY), call())
            assert read(filled, COPY) == b"w" * 4096
            filled.delete_volume(COPY, call())
        filled.delete_volume(COPY, call())
        image = filled.get_volume(WEB, call()).private["image"]
        assert not lab.rbd("snap", "ls", "--all", image)


def test_a_snapshot_converges(lab: CephLab, filled: RbdDriver) -> None:
    """A snapshot that died anywhere is made or deleted by the next call, and lists once."""
    with _nothing_left(lab):
        for kill in _every_kill(lab, "snapshot", volume=WEB, snapshot=S1):
            if kill % 4 < 2:
                filled.create_snapshot(WEB, S1, call())
                assert [s.id for s in filled.list_snapshots(WEB, call()).items] == [S1]
            filled.delete_snapshot(S1, call())
            assert not filled.list_snapshots(WEB, call()).items
        filled.delete_snapshot(S1, call())


def test_a_delete_converges(lab: CephLab, filled: RbdDriver) -> None:
    """A delete that died anywhere is ended by the repeat, of volumes that clones need as of snapshots."""
    heir = VolumeId("heir")
    with _nothing_left(lab):
        for kill in range(_MOST):
            filled.clone_volume(WEB, spec(COPY), call())
            filled.clone_volume(COPY, spec(heir), call())
            filled.create_snapshot(WEB, S1, call())
            died = die_in_the_agent(lab, kill, "delete", {"volume": COPY}, inside=_inside(kill))
            died |= die_in_the_agent(lab, kill, "delete-snapshot", {"snapshot": S1}, inside=_inside(kill))
            filled.delete_volume(COPY, call())
            filled.delete_snapshot(S1, call())
            assert {found.id for found in filled.list_volumes(call()).items} == {WEB, DB, heir}
            assert read(filled, heir) == b"w" * 4096
            filled.delete_volume(heir, call())
            if not died and not _inside(kill):
                break


def test_a_revert_is_whole_or_not_at_all(lab: CephLab, filled: RbdDriver) -> None:
    """Whoever looks after a revert that died finds the old bytes or the snapshot's, never a mixture."""
    filled.create_snapshot(WEB, S1, call())
    _write(filled, WEB, b"n")
    for kill in _every_kill(lab, "revert", volume=WEB, snapshot=S1):
        assert read(filled, WEB, length=MIB) in (b"w" * MIB, b"n" * MIB)
        filled.revert_volume(WEB, S1, call())
        assert read(filled, WEB, length=MIB) == b"w" * MIB, kill
        _write(filled, WEB, b"n")


def test_a_grant_and_its_revoke_converge(lab: CephLab, filled: RbdDriver) -> None:
    """A grant or revoke that died anywhere is finished by its repeat, or by the revoke."""
    with _nothing_left(lab):
        for kill in _every_kill(lab, "grant", volume=WEB, host="host-1", read_only=False):
            with open_sink(filled.grant(WEB, host(), call()), timeout=20) as sink:
                sink.write(0, b"x")
                sink.flush()
                die_in_the_agent(lab, kill, "revoke", {"volume": WEB, "host": "host-1"}, inside=_inside(kill))
                filled.revoke(WEB, host().id, call())
            assert not filled.list_grants(WEB, call())
        filled.revoke(WEB, host().id, call())
