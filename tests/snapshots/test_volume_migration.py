"""A volume moves to another pool: all of its bytes, its limits, and nothing of it stays behind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from bollard.core import dataplane, migration
from bollard.core.migration import VolumeMigration
from bollard.core.spi import (
    Call,
    Conflict,
    DataLoss,
    DeadlineExceeded,
    HasDependents,
    Host,
    InUse,
    InvalidArgument,
    NotFound,
    Outcome,
    OutOfCapacity,
    Qos,
    StorageError,
    Unavailable,
    Unsupported,
    VolumeSpec,
)
from bollard.transfer_objects.ids import HostId, SnapshotId, VolumeId
from bollard.transfer_objects.secret import Secret
from iscsi_array import IscsiArray
from qcow2_rig import qemu_io

from .snapshot_rig import MIB, Rig, call

WEB, MONDAY = VolumeId("web-1"), SnapshotId("monday")
LIMITS = Qos(max_iops=500)
DATA = b"first" * 20000
KVM = Host(
    id=HostId("kvm-1"),
    iqn="iqn.2026-11.test:kvm-1",
    chap_user="kvm-1",
    chap_secret=Secret("0123456789abcdef"),
)
_REAL = pytest.mark.real(root=True)
_PATHS = [
    ("lun", "silver"),
    ("lun", "qcow2s"),
    ("qcow2s", "lun"),
    ("files", "qcow2s"),
    pytest.param(("iscsi", "qcow2s"), marks=_REAL),
    pytest.param(("files", "iscsi"), marks=_REAL),
    pytest.param(("iscsi", "lun"), marks=_REAL),
    pytest.param(("lun", "iscsi"), marks=_REAL),
]
_KINDS = ["lun", "files", "qcow2s", pytest.param("iscsi", marks=_REAL)]


def _between(source: Rig, target: Rig, **options: Any) -> VolumeMigration:
    return VolumeMigration(source=source.pool, target=target.pool, mover=source.mover, **options)


@pytest.fixture
def ends(request: pytest.FixtureRequest) -> tuple[Rig, Rig]:
    """Source and target."""
    source, target = request.param
    return request.getfixturevalue(source), request.getfixturevalue(target)


@pytest.fixture
def while_copying(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], object]], None]:
    """Let something happen when the copy is done, before it is compared; it is given the sink."""

    def arrange(act: Callable[[Any], object]) -> None:
        copy = dataplane.copy

        def copy_and_act(source: Any, sink: Any, **options: Any) -> Any:
            done = copy(source, sink, **options)
            act(sink)
            return done

        monkeypatch.setattr(migration, "copy", copy_and_act)

    return arrange


def _is_still_on(source: Rig, target: Rig) -> None:
    """The source is as it was and nothing of the attempt is left."""
    assert source.read(WEB).startswith(DATA)
    assert target.volumes() == []
    assert source.intents() == []
    if source.pool.managed:
        assert list(source.pool.volumes.grants(WEB)) == []


# -- what moves ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", _PATHS, indirect=True, ids=lambda ends: "-to-".join(ends))
def test_a_volume_moves_whole_and_back(ends: tuple[Rig, Rig]) -> None:
    """Bytes, size and name are those of the source, which is gone; and the same on the way back."""
    source, target = ends
    source.pool.volumes.create(VolumeSpec(id=WEB, size=32 * MIB, name="web"))
    source.write(WEB, DATA)
    source.write(WEB, b"last" * 1024, 32 * MIB - 4096)
    content = source.read(WEB)
    for old, new in ((source, target), (target, source)):
        seen: list[tuple[int, int]] = []
        watched = Call.within(60, progress=lambda *at, seen=seen: seen.append(at))
        moved = _between(old, new).migrate(WEB, watched)

        assert (moved.id, moved.size, moved.name) == (WEB, 32 * MIB, "web")
        assert new.read(WEB) == content
        assert old.volumes() == []
        assert seen[-1] == (64 * MIB, 64 * MIB)  # copied and compared
        assert new.intents() == []
        if new.pool.managed:
            assert list(new.pool.volumes.grants(WEB)) == []


@pytest.mark.parametrize("ends", _PATHS, indirect=True, ids=lambda ends: "-to-".join(ends))
def test_what_is_sparse_stays_sparse(ends: tuple[Rig, Rig]) -> None:
    """64 KiB of a volume of 256 MiB take no more than a few MiB of the target."""
    source, target = ends
    source.pool.volumes.create(VolumeSpec(id=WEB, size=256 * MIB))
    source.write(WEB, b"x" * 65536, 100 * MIB)
    _between(source, target).migrate(WEB, call())

    allocated = target.pool.volumes.get(WEB).allocated
    assert allocated is not None
    assert 65536 <= allocated < 8 * MIB


def test_the_repeated_command_finds_it_moved(lun: Rig, qcow2s: Rig) -> None:
    """A volume that is on the target alone is the answer; one that is nowhere is not found."""
    lun.make(WEB, DATA)
    moved = _between(lun, qcow2s).migrate(WEB, call())

    assert _between(lun, qcow2s).migrate(WEB, call()) == moved
    with pytest.raises(NotFound):
        _between(lun, qcow2s).migrate(VolumeId("web-2"), call())


# -- limits -------------------------------------------------------------------------------------------


def test_limits_are_lifted_for_the_copy_and_kept(lun: Rig, silver: Rig, while_copying: Any) -> None:
    """Neither end is limited while bytes move; then the target has what the source had."""
    lun.make(WEB, DATA)
    lun.pool.volumes.set_qos(WEB, LIMITS)
    seen: list[Qos | None] = []
    while_copying(lambda _: seen.extend(rig.pool.volumes.get(WEB).qos for rig in (lun, silver)))

    assert _between(lun, silver).migrate(WEB, call()).qos == LIMITS
    assert seen == [None, None]


def test_limits_that_the_target_cannot_keep_are_not_dropped_silently(lun: Rig, qcow2s: Rig) -> None:
    """A pool without QoS refuses a limited volume before anything is made, unless told to take it."""
    lun.make(WEB, DATA)
    lun.pool.volumes.set_qos(WEB, LIMITS)
    with pytest.raises(Unsupported, match="limits"):
        _between(lun, qcow2s).migrate(WEB, call())
    _is_still_on(lun, qcow2s)

    _between(lun, qcow2s, keep_limits=False).migrate(WEB, call())
    assert qcow2s.read(WEB).startswith(DATA)


def test_limits_come_back_after_a_failure(lun: Rig, silver: Rig, while_copying: Any) -> None:
    """A copy that fails leaves the source limited as it was."""
    lun.make(WEB, DATA)
    lun.pool.volumes.set_qos(WEB, LIMITS)

    def fail(_: object) -> None:
        raise Unavailable("the array has gone")

    while_copying(fail)
    with pytest.raises(Unavailable):
        _between(lun, silver).migrate(WEB, call())
    assert lun.pool.volumes.get(WEB).qos == LIMITS
    _is_still_on(lun, silver)


def test_limits_that_were_set_meanwhile_stay(lun: Rig, silver: Rig, while_copying: Any) -> None:
    """What an operator sets during a copy that fails is not replaced by what was there before it."""
    lun.make(WEB, DATA)
    lun.pool.volumes.set_qos(WEB, LIMITS)

    def change_and_fail(_: object) -> None:
        lun.pool.volumes.set_qos(WEB, Qos(max_iops=7))
        raise Unavailable("the array has gone")

    while_copying(change_and_fail)
    with pytest.raises(Unavailable):
        _between(lun, silver).migrate(WEB, call())
    assert lun.pool.volumes.get(WEB).qos == Qos(max_iops=7)


# -- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lun", pytest.param("iscsi", marks=_REAL)])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_granted_volume_stays(
    request: pytest.FixtureRequest, qcow2s: Rig, kind: str, read_only: bool
) -> None:
    """A host that has access, even to read, keeps the volume where it is; without it, it moves."""
    source: Rig = request.getfixturevalue(kind)
    source.make(WEB, DATA)
    source.pool.volumes.grant(WEB, KVM, read_only=read_only)
    with pytest.raises(InUse, match="kvm-1"):
        _between(source, qcow2s).migrate(WEB, call())

    assert [g.host for g in source.pool.volumes.grants(WEB)] == ["kvm-1"]
    source.pool.volumes.revoke(WEB, KVM.id)
    _is_still_on(source, qcow2s)
    _between(source, qcow2s).migrate(WEB, call())


@pytest.mark.parametrize("kind", ["lun", pytest.param("iscsi", marks=_REAL)])
def test_nobody_gets_to_write_while_it_is_copied(
    request: pytest.FixtureRequest, qcow2s: Rig, kind: str, while_copying: Any
) -> None:
    """A host that asks for the volume meanwhile is refused, and the migration goes on."""
    source: Rig = request.getfixturevalue(kind)
    source.make(WEB, DATA)
    refused: list[str] = []

    def ask(_: object) -> None:
        with pytest.raises(InUse) as caught:
            source.pool.volumes.grant(WEB, KVM)
        refused.append(caught.value.message)

    while_copying(ask)
    _between(source, qcow2s).migrate(WEB, call())
    assert len(refused) == 1


def test_a_reader_that_comes_meanwhile_keeps_the_source(lun: Rig, qcow2s: Rig, while_copying: Any) -> None:
    """A host that was let in to read during the copy finds its volume there afterwards."""
    lun.make(WEB, DATA)

    while_copying(lambda _: lun.pool.volumes.grant(WEB, KVM, read_only=True))
    with pytest.raises(InUse, match="kvm-1"):
        _between(lun, qcow2s).migrate(WEB, call())
    lun.pool.volumes.revoke(WEB, KVM.id)
    _is_still_on(lun, qcow2s)


@pytest.mark.parametrize("kind", ["files", "qcow2s"])
def test_no_vm_starts_on_a_file_that_is_copied(
    request: pytest.FixtureRequest, lun: Rig, kind: str, while_copying: Any
) -> None:
    """QEMU's lock is held while a file is read, whatever its format."""
    source: Rig = request.getfixturevalue(kind)
    source.make(WEB, DATA)
    place = source.pool.volumes.locate(WEB)

    def start(_: object) -> None:
        with pytest.raises(AssertionError, match='"write" lock'):
            qemu_io(place.path, place.format, "write -P 7 0 4k")  # type: ignore[union-attr]  # a file's

    while_copying(start)
    _between(source, lun).migrate(WEB, call())
    assert lun.read(WEB).startswith(DATA)


@pytest.mark.parametrize("kind", _KINDS)
def test_a_volume_with_snapshots_stays_unless_told(
    request: pytest.FixtureRequest, silver: Rig, kind: str
) -> None:
    """Snapshots are not moved: they keep the volume there, or are dropped with it on demand."""
    source: Rig = request.getfixturevalue(kind)
    source.make(WEB, DATA)
    source.pool.snapshots.create(WEB, MONDAY)
    with pytest.raises(HasDependents, match="monday"):
        _between(source, silver).migrate(WEB, call())
    _is_still_on(source, silver)
    assert source.on_pool(WEB) == [MONDAY]

    _between(source, silver, drop_snapshots=True).migrate(WEB, call())
    assert source.volumes() == []
    assert silver.read(WEB).startswith(DATA)
    assert silver.on_pool(WEB) == []


def test_a_snapshot_that_comes_meanwhile_keeps_the_source(lun: Rig, qcow2s: Rig, while_copying: Any) -> None:
    """What was cut during the copy is not lost with the source."""
    lun.make(WEB, DATA)
    while_copying(lambda _: lun.pool.snapshots.create(WEB, MONDAY))
    with pytest.raises(HasDependents):
        _between(lun, qcow2s).migrate(WEB, call())
    _is_still_on(lun, qcow2s)


def test_a_volume_of_the_same_id_on_the_target_is_a_conflict(lun: Rig, qcow2s: Rig) -> None:
    """Neither of two volumes of one id is touched."""
    lun.make(WEB, DATA)
    qcow2s.make(WEB, b"other")
    with pytest.raises(Conflict):
        _between(lun, qcow2s).migrate(WEB, call())

    assert lun.read(WEB).startswith(DATA)
    assert qcow2s.read(WEB).startswith(b"other")
    assert lun.intents() == []


def test_a_pool_is_no_target_for_itself(lun: Rig) -> None:
    """The same pool, even under another name, is an invalid argument."""
    lun.make(WEB, DATA)
    with pytest.raises(InvalidArgument, match="the same"):
        _between(lun, lun).migrate(WEB, call())


def test_two_migrations_of_one_volume_at_once(lun: Rig, qcow2s: Rig, silver: Rig, while_copying: Any) -> None:
    """The second one of this machine is refused, and so is who wants to write; the first goes on."""
    lun.make(WEB, DATA)
    refused: list[StorageError] = []

    def again(_: object) -> None:
        for act in (lambda: _between(lun, silver).migrate(WEB, call()), lambda: lun.write(WEB, b"late")):
            with pytest.raises(InUse) as caught:
                act()
            refused.append(caught.value)

    while_copying(again)
    _between(lun, qcow2s).migrate(WEB, call())
    assert len(refused) == 2
    assert silver.volumes() == []
    assert qcow2s.read(WEB).startswith(DATA)
    assert lun.intents() == []


# -- what goes wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize("verify", [True, False])
def test_a_copy_with_wrong_bytes_is_found(lun: Rig, qcow2s: Rig, while_copying: Any, verify: bool) -> None:
    """A target that does not hold what was read loses, and the source stays; unless nobody looks."""
    lun.make(WEB, DATA)
    while_copying(lambda sink: sink.write(4096, b"rotten!!" * 512))
    moves = _between(lun, qcow2s, verify=verify)
    if verify:
        with pytest.raises(DataLoss, match="byte 4096"):
            moves.migrate(WEB, call())
        _is_still_on(lun, qcow2s)
    else:
        moves.migrate(WEB, call())
        assert lun.volumes() == []


def test_a_cancelled_migration_leaves_the_source(lun: Rig, qcow2s: Rig) -> None:
    """Who cancels in the middle of the copy has the volume where it was."""
    lun.make(WEB, DATA)
    asked = call()
    watched = replace(asked, progress=lambda *_: asked.cancel.set())
    with pytest.raises(DeadlineExceeded):
        _between(lun, qcow2s).migrate(WEB, watched)
    _is_still_on(lun, qcow2s)


def test_a_source_that_cannot_be_deleted_goes_with_the_sweep(
    lun: Rig, qcow2s: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The volume is moved although the old array fails then; the journal remembers what is to go there."""
    lun.make(WEB, DATA)

    def fail(*_: object) -> None:
        raise Unavailable("the array has gone", outcome=Outcome.NOT_APPLIED)

    with monkeypatch.context() as patch:
        patch.setattr(lun.pool.volumes, "delete", fail)
        assert _between(lun, qcow2s).migrate(WEB, call()).id == WEB
    assert lun.volumes() == [WEB]
    assert lun.mover.sweep_pool(qcow2s.pool) == []
    assert qcow2s.read(WEB).startswith(DATA)
    assert lun.mover.sweep_pool(lun.pool) == [f"retire {WEB}"]
    assert lun.volumes() == []
    assert lun.intents() == []


def test_a_volume_made_anew_is_not_the_one_that_is_to_go(
    lun: Rig, qcow2s: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep that comes late tells the old volume from a new one of the same id."""
    lun.make(WEB, DATA)

    def fail(*_: object) -> None:
        raise Unavailable("the array has gone", outcome=Outcome.NOT_APPLIED)

    with monkeypatch.context() as patch:
        patch.setattr(lun.pool.volumes, "delete", fail)
        _between(lun, qcow2s).migrate(WEB, call())
    lun.pool.volumes.delete(WEB)
    lun.make(WEB, b"new")
    lun.mover.sweep_pool(lun.pool)

    assert lun.read(WEB).startswith(b"new")
    assert lun.intents() == []


def test_a_journal_that_fails_at_the_last_step_costs_nothing(
    lun: Rig, qcow2s: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is unknown which volume is the live one both stay, until the repeated command finds out."""
    lun.make(WEB, DATA)

    def fail(*_: object, **__: object) -> None:
        raise Unavailable("the disk has gone")

    with monkeypatch.context() as patch:
        patch.setattr(type(lun.mover.journal), "replace", fail)
        with pytest.raises(Unavailable):
            _between(lun, qcow2s).migrate(WEB, call())
    assert (lun.volumes(), qcow2s.volumes()) == ([WEB], [WEB])
    _between(lun, qcow2s).migrate(WEB, call())

    assert (lun.volumes(), qcow2s.volumes()) == ([], [WEB])
    assert qcow2s.read(WEB).startswith(DATA)
    assert lun.intents() == []


# -- full pools ---------------------------------------------------------------------------------------


@contextmanager
def _filled(array: IscsiArray, rig: Rig, but_for: int) -> Iterator[None]:
    """Let the real array have so many bytes free."""
    capacity, filler = rig.pool.capacity(), array.pool / "filler"
    with filler.open("xb") as file:
        os.posix_fallocate(file.fileno(), 0, capacity.total - capacity.used - but_for)
    try:
        yield
    finally:
        filler.unlink()


@pytest.mark.real(root=True)
def test_a_full_pool_can_be_left(iscsi: Rig, qcow2s: Rig, iscsi_array: IscsiArray) -> None:
    """Where nothing new fits, a snapshot can be archived, and a volume moved away."""
    iscsi.make(WEB, DATA * 200)
    iscsi.pool.snapshots.create(WEB, MONDAY)
    with _filled(iscsi_array, iscsi, 8 * MIB):
        with pytest.raises(OutOfCapacity):
            iscsi.make(VolumeId("new"), DATA * 200)
        iscsi.service.archive_snapshot(WEB, MONDAY, call())
        iscsi.service.release(WEB, MONDAY, call())
        _between(iscsi, qcow2s).migrate(WEB, call())

    assert iscsi.volumes() == []
    assert qcow2s.read(WEB).startswith(DATA * 200)
    assert iscsi.archived(WEB, MONDAY).startswith(DATA * 200)
    assert iscsi.intents() == []


@pytest.mark.real(root=True)
@pytest.mark.parametrize("when", ["before", "while copying"])
def test_a_full_target_costs_nothing(
    lun: Rig, iscsi: Rig, iscsi_array: IscsiArray, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target that is full, or becomes so, is a typed error; the source stays, the target is as it was."""
    lun.pool.volumes.create(VolumeSpec(id=WEB, size=32 * MIB))
    lun.write(WEB, DATA * 200)
    if when == "before":
        with _filled(iscsi_array, iscsi, 8 * MIB), pytest.raises(OutOfCapacity):
            _between(lun, iscsi).migrate(WEB, call())
    else:
        copy = dataplane.copy

        def fill_and_copy(*args: Any, **options: Any) -> Any:
            with _filled(iscsi_array, iscsi, 4 * MIB):
                return copy(*args, **options)

        monkeypatch.setattr(migration, "copy", fill_and_copy)
        with pytest.raises(StorageError):  # tgtd tells a medium error, of which EIO is made
            _between(lun, iscsi).migrate(WEB, call())
    _is_still_on(lun, iscsi)
    monkeypatch.undo()
    _between(lun, iscsi).migrate(WEB, call())
    assert iscsi.read(WEB).startswith(DATA * 200)
