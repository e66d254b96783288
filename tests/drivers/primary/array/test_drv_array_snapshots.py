"""Copies and snapshots that the array makes for its driver, of one volume and of a VM's."""

from __future__ import annotations

import pytest

from array_rig import CHUNK, VM, host, read, spec, write
from bollard.core.dataplane.open import open_sink
from bollard.core.spi import (
    Busy,
    Call,
    Conflict,
    DeadlineExceeded,
    ExtentKind,
    HasDependents,
    InUse,
    InvalidArgument,
    NotFound,
    Outcome,
    Qos,
)
from bollard.simulators.array import Defect
from primary_rig import COPY, DB, MIB, S1, S2, WEB, call

# -- copies -------------------------------------------------------------------------------------------


def test_copies_equal_their_source_and_go_their_own_way(driver):
    """Copies of a volume and of a snapshot hold its bytes, may be larger, and are independent."""
    driver.create_volume(spec(), call())
    write(driver, WEB, 0x11)
    driver.create_snapshot(WEB, S1, call())
    write(driver, WEB, 0x22)
    clone = driver.clone_volume(WEB, spec(COPY, 2 * MIB, qos=Qos(max_iops=5)), call())
    back = driver.create_volume_from_snapshot(S1, spec(DB), call())
    assert (clone.size, clone.qos, back.size) == (2 * MIB, Qos(max_iops=5), MIB)
    write(driver, WEB, 0x33)
    assert read(driver, COPY) == b"\x22" * CHUNK
    assert read(driver, DB) == b"\x11" * CHUNK
    assert driver.create_volume_from_snapshot(S1, spec(DB), call()) == driver.get_volume(DB, call())
    driver.delete_snapshot(S1, call())
    driver.delete_volume(WEB, call())
    assert driver.clone_volume(WEB, spec(COPY, 2 * MIB), call()).id == COPY


def test_impossible_copies_are_refused(driver):
    """A smaller target, a missing source and a volume onto itself leave nothing behind."""
    driver.create_volume(spec(), call())
    driver.create_snapshot(WEB, S1, call())
    with pytest.raises(InvalidArgument):
        driver.clone_volume(WEB, spec(COPY, MIB - 512), call())
    with pytest.raises(NotFound):
        driver.clone_volume(DB, spec(COPY), call())
    with pytest.raises(NotFound):
        driver.create_volume_from_snapshot(S2, spec(COPY), call())
    with pytest.raises(InvalidArgument):
        driver.clone_volume(WEB, spec(WEB), call())
    assert [volume.id for volume in driver.list_volumes(call()).items] == [WEB]


def test_a_copy_that_never_ends_does_not_exist(driver, array):
    """A hanging job ends at the deadline, outcome unknown; what it left is not shown and can be redone."""
    driver.create_volume(spec(), call())
    write(driver, WEB, 0x44)
    array.defects.set(Defect.JOB_NEVER_FINISHES)
    try:
        with pytest.raises(DeadlineExceeded) as error:
            driver.clone_volume(WEB, spec(COPY), Call.within(0.5))
        assert error.value.outcome is Outcome.UNKNOWN
        with pytest.raises(NotFound):
            driver.get_volume(COPY, call())
        assert [volume.id for volume in driver.list_volumes(call()).items] == [WEB]
    finally:
        array.defects.clear()


def test_remains_of_a_copy_are_never_returned(driver):
    """A volume of the right name that no copy completed is deleted and made anew, filled."""
    driver.create_volume(spec(), call())
    write(driver, WEB, 0x55)
    empty = driver.create_volume(spec(COPY), call())
    _unfinish(driver, empty)
    with pytest.raises(NotFound):
        driver.get_volume(COPY, call())
    made = driver.clone_volume(WEB, spec(COPY), call())
    assert made.identity != empty.identity
    assert read(driver, COPY) == b"\x55" * CHUNK
    _unfinish(driver, made)
    driver.delete_volume(COPY, call())
    assert driver.create_volume(spec(COPY), call()).identity != made.identity


def _unfinish(driver, volume) -> None:
    """Label a volume as a driver that was killed during the copy leaves it."""
    talk = driver._client.talk(call())
    path = f"/volumes/{volume.private['array_id']}"
    labels = talk.get(path)["metadata"]
    talk.patch(path, {"metadata": {**labels, "bollard-state": "filling"}})


# -- snapshots ----------------------------------------------------------------------------------------


def test_snapshots_are_cut_listed_and_deleted(driver):
    """The same id gives the same cut; pages list all; deleting one keeps the others and the volume."""
    driver.create_volume(spec(), call())
    first = driver.create_snapshot(WEB, S1, call())
    write(driver, WEB, 1)
    assert driver.create_snapshot(WEB, S1, call()) == first == driver.get_snapshot(S1, call())
    assert first.created.tzinfo is not None
    driver.create_snapshot(WEB, S2, call())
    page = driver.list_snapshots(WEB, call(), limit=1)
    rest = driver.list_snapshots(WEB, call(), limit=1, after=page.after)
    assert [s.id for s in (*page.items, *rest.items)] == [S1, S2]
    with pytest.raises(HasDependents):
        driver.delete_volume(WEB, call())
    driver.delete_snapshot(S1, call())
    driver.delete_snapshot(S1, call())
    assert driver.get_snapshot(S2, call()).volume == WEB
    assert driver.list_snapshots(DB, call()).items == []


def test_a_snapshot_id_belongs_to_one_volume(driver):
    """The id of another volume's snapshot is a conflict, and no place to revert to."""
    driver.create_volume(spec(), call())
    driver.create_volume(spec(DB), call())
    driver.create_snapshot(WEB, S1, call())
    with pytest.raises(Conflict):
        driver.create_snapshot(DB, S1, call())
    with pytest.raises(InvalidArgument):
        driver.revert_volume(DB, S1, call())
    with pytest.raises(NotFound):
        driver.create_snapshot(COPY, S2, call())
    with pytest.raises(NotFound):
        driver.revert_volume(DB, S2, call())


def test_revert_brings_back_bytes_and_size(driver):
    """After a revert bytes and size are the snapshot's, newer snapshots stay; while granted it is InUse."""
    driver.create_volume(spec(), call())
    write(driver, WEB, 0x11)
    driver.create_snapshot(WEB, S1, call())
    write(driver, WEB, 0x22)
    driver.resize_volume(WEB, 2 * MIB, call())
    driver.create_snapshot(WEB, S2, call())
    driver.grant(WEB, host(), call())
    with pytest.raises(InUse):
        driver.revert_volume(WEB, S1, call())
    driver.revoke(WEB, host().id, call())
    assert driver.revert_volume(WEB, S1, call()).size == MIB
    assert read(driver, WEB) == b"\x11" * CHUNK
    assert driver.revert_volume(WEB, S2, call()).size == 2 * MIB
    assert read(driver, WEB) == b"\x22" * CHUNK


def test_changed_blocks_cover_what_was_written(driver):
    """Between two snapshots exactly the written and the trimmed chunks are listed, and one can resume."""
    driver.create_volume(spec(size=8 * MIB), call())
    write(driver, WEB, 1, 0, 4 * CHUNK)
    driver.create_snapshot(WEB, S1, call())
    write(driver, WEB, 2, 10 * CHUNK, CHUNK)
    trimmer = host("writer")
    with open_sink(driver.grant(WEB, trimmer, call()), timeout=10) as sink:
        sink.zero(CHUNK, CHUNK)
        sink.flush()
    driver.revoke(WEB, trimmer.id, call())
    driver.create_snapshot(WEB, S2, call())
    extents = list(driver.changed(S1, S2, call()))
    assert [(e.offset, e.length, e.kind) for e in extents] == [
        (CHUNK, CHUNK, ExtentKind.HOLE),
        (10 * CHUNK, CHUNK, ExtentKind.DATA),
    ]
    assert list(driver.changed(S1, S2, call(), start=2 * CHUNK)) == extents[1:]
    assert list(driver.changed(S1, S2, call(), start=8 * MIB)) == []
    assert sum(e.length for e in driver.changed(None, S2, call())) == 4 * CHUNK
    driver.delete_snapshot(S1, call())
    with pytest.raises(NotFound):
        driver.changed(S1, S2, call())


# -- VM snapshots -------------------------------------------------------------------------------------


def test_a_vm_snapshot_is_taken_reverted_and_deleted(driver):
    """All members are cut at once under ids that work like any snapshot's; repeats change nothing."""
    for volume in (WEB, DB):
        driver.create_volume(spec(volume), call())
        write(driver, volume, 0x11)
    taken = driver.take_vm_snapshot([WEB, DB], VM, call())
    assert taken.need_unquiesce
    assert driver.take_vm_snapshot([WEB, DB], VM, call()) == taken
    with pytest.raises(Conflict):
        driver.take_vm_snapshot([WEB], VM, call())
    for volume, member in taken.members.items():
        assert driver.get_snapshot(member, call()).volume == volume
        assert [s.id for s in driver.list_snapshots(volume, call()).items] == [member]
        write(driver, volume, 0x22)
    back = driver.create_volume_from_snapshot(taken.members[DB], spec(COPY), call())
    assert read(driver, back.id) == b"\x11" * CHUNK
    driver.grant(DB, host(), call())
    with pytest.raises(InUse) as error:
        driver.revert_vm_snapshot([WEB, DB], VM, call())
    assert error.value.outcome is Outcome.NOT_APPLIED
    assert read(driver, WEB) == b"\x22" * CHUNK
    driver.revoke(DB, host().id, call())
    driver.revert_vm_snapshot([WEB, DB], VM, call())
    driver.revert_vm_snapshot([WEB, DB], VM, call())
    assert read(driver, WEB) == read(driver, DB) == b"\x11" * CHUNK
    driver.delete_snapshot(taken.members[WEB], call())
    driver.delete_vm_snapshot([WEB, DB], VM, call())
    driver.delete_vm_snapshot([WEB, DB], VM, call())
    for volume in (WEB, DB):
        driver.delete_volume(volume, call())


def test_a_vm_snapshot_is_all_or_none(driver):
    """If one volume is missing no member is made; a member id cannot be made by hand."""
    driver.create_volume(spec(), call())
    with pytest.raises(NotFound):
        driver.take_vm_snapshot([WEB, DB], VM, call())
    assert driver.list_snapshots(WEB, call()).items == []
    with pytest.raises(NotFound):
        driver.revert_vm_snapshot([WEB], VM, call())
    member = driver.take_vm_snapshot([WEB], VM, call()).members[WEB]
    driver.delete_vm_snapshot([WEB], VM, call())
    with pytest.raises(InvalidArgument):
        driver.create_snapshot(WEB, member, call())


def test_a_snapshot_made_anew_by_another_is_worth_a_repeat(driver, monkeypatch):
    """Between two looks of a create another caller deleted and made the snapshot: `Busy`, no `Conflict`."""
    driver.create_volume(spec(WEB), call())
    driver.create_snapshot(WEB, S1, call())
    monkeypatch.setattr(type(driver), "_find_snapshot", lambda *_: None)  # it was gone at each of our looks
    with pytest.raises(Busy, match="just deleted"):
        driver.create_snapshot(WEB, S1, call())
