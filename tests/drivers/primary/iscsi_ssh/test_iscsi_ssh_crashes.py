"""Requests whose agent is killed on the array, at each of their acts, and repeated."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bollard.core.dataplane import open_sink
from bollard.core.spi import VmRef
from bollard.drivers.primary.iscsi_ssh import IscsiSshDriver
from bollard.drivers.primary.iscsi_ssh.names import member_id
from bollard.transfer_objects.ids import VmId, VmSnapshotId
from iscsi_array import IscsiArray
from iscsi_rig import SECRET, die_in_the_agent, host, read, spec, what_is_kept
from kvm_lab.polling import until
from primary_rig import COPY, DB, MIB, S1, WEB, call

pytestmark = [pytest.mark.real(root=True), pytest.mark.slow]

VM = VmRef(vm=VmId("vm-1"), snapshot=VmSnapshotId("before"))
_MOST = 60  # acts of one request


@pytest.fixture
def filled(driver: IscsiSshDriver) -> Iterator[IscsiSshDriver]:
    """A pool with the volumes web, which has bytes, and db."""
    for volume in (WEB, DB):
        driver.create_volume(spec(volume), call())
    with open_sink(driver.grant(WEB, host("writer"), call()), timeout=10) as sink:
        sink.write(0, b"w" * MIB)
        sink.flush()
    driver.revoke(WEB, host("writer").id, call())
    yield driver
    for volume in (WEB, DB, COPY):
        for held in _grants(driver, volume):
            driver.revoke(volume, held, call())
    driver.delete_vm_snapshot([WEB, DB], VM, call())
    driver.delete_snapshot(S1, call())
    for volume in (WEB, DB, COPY):
        driver.delete_volume(volume, call())


def _grants(driver: IscsiSshDriver, volume: Any) -> list[Any]:
    page = driver.list_volumes(call())
    if volume not in {found.id for found in page.items}:
        return []
    return [grant.host for grant in driver.list_grants(volume, call())]


def _every_act(array: IscsiArray, act: str, **arguments: Any) -> Iterator[int]:
    """Yield after each kill, then stop with the first run that came to its end."""
    for point in range(_MOST):
        if not die_in_the_agent(array, point, act, arguments):
            assert point > 1, "nothing was killed"
            return
        yield point
    raise AssertionError(f"{act} has more than {_MOST} acts")


@contextmanager
def _nothing_left(array: IscsiArray) -> Iterator[None]:
    before = what_is_kept(array)
    yield
    assert what_is_kept(array) == before


def test_a_create_converges(array: IscsiArray, filled: IscsiSshDriver) -> None:
    """A create that died anywhere is made by the repeat, or leaves nothing after a delete."""
    new = {"volume": COPY, "size": MIB, "name": "", "origin": "empty", "kind": "volume", "source": None}
    with _nothing_left(array):
        for point in _every_act(array, "create", **new):
            if point % 2:
                assert filled.create_volume(spec(COPY, MIB), call()).size == MIB
            filled.delete_volume(COPY, call())
        filled.delete_volume(COPY, call())


def test_a_clone_converges_and_is_never_empty(array: IscsiArray, filled: IscsiSshDriver) -> None:
    """A clone that died anywhere is filled after the repeat."""
    source = f"volume:{WEB}"
    new = {"volume": COPY, "size": 16 * MIB, "name": "", "origin": source, "kind": "volume", "source": source}
    with _nothing_left(array):
        for _ in _every_act(array, "create", **new):
            made = filled.clone_volume(WEB, spec(COPY), call())
            assert Path(made.private["path"]).read_bytes()[: MIB + 1] == b"w" * MIB + b"\0"
            filled.delete_volume(COPY, call())
        filled.delete_volume(COPY, call())


def test_a_snapshot_converges(array: IscsiArray, filled: IscsiSshDriver) -> None:
    """A snapshot that died anywhere is made or deleted by the next call, and lists once."""
    with _nothing_left(array):
        for point in _every_act(array, "snapshot", volume=WEB, snapshot=S1):
            if point % 2:
                filled.create_snapshot(WEB, S1, call())
                assert [s.id for s in filled.list_snapshots(WEB, call()).items] == [S1]
            filled.delete_snapshot(S1, call())
            assert not filled.list_snapshots(WEB, call()).items
        filled.delete_snapshot(S1, call())


def test_a_delete_converges(array: IscsiArray, filled: IscsiSshDriver) -> None:
    """A delete that died anywhere is ended by the repeat, of volumes as of snapshots."""
    with _nothing_left(array):
        for point in range(_MOST):
            filled.clone_volume(WEB, spec(COPY), call())
            filled.create_snapshot(WEB, S1, call())
            died = die_in_the_agent(array, point, "delete", {"volume": COPY})
            died |= die_in_the_agent(array, point, "delete-snapshot", {"snapshot": S1})
            filled.delete_volume(COPY, call())
            filled.delete_snapshot(S1, call())
            assert COPY not in {found.id for found in filled.list_volumes(call()).items}
            if not died:
                break


def test_a_grant_and_its_revoke_converge(array: IscsiArray, filled: IscsiSshDriver) -> None:
    """A grant or revoke that died anywhere is finished by its repeat, or by the revoke."""
    who = host()
    arguments = {
        "volume": WEB,
        "host": who.id,
        "iqn": who.iqn,
        "user": who.chap_user,
        "secret": SECRET,
        "read_only": False,
    }
    with _nothing_left(array):
        for point in _every_act(array, "grant", **arguments):
            if point % 4 == 1:
                with open_sink(filled.grant(WEB, who, call()), timeout=10) as sink:
                    sink.write(0, b"w")
            die_in_the_agent(array, point, "revoke", {"volume": WEB, "host": who.id})
            filled.revoke(WEB, who.id, call())
            assert not filled.list_grants(WEB, call())
        filled.revoke(WEB, who.id, call())
    assert read(filled, WEB)[:2] == b"ww"


def test_a_group_snapshot_that_dies_lets_tgtd_go_on(array: IscsiArray, filled: IscsiSshDriver) -> None:
    """Killed anywhere, also while tgtd stands still: tgtd goes on, and all members exist or none."""
    members = {volume: member_id(VM.snapshot, volume) for volume in (WEB, DB)}
    with _nothing_left(array):
        for point in _every_act(array, "take-group", members=members):
            until(lambda: _state(array.tgtd_pid) != "T", 60, "tgtd to go on")
            seen = [filled.list_snapshots(volume, call()).items for volume in (WEB, DB)]
            assert len({len(found) for found in seen}) == 1
            if point % 2:
                filled.take_vm_snapshot([WEB, DB], VM, call())
            filled.delete_vm_snapshot([WEB, DB], VM, call())
        filled.delete_vm_snapshot([WEB, DB], VM, call())
    os.kill(array.tgtd_pid, signal.SIGCONT)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
