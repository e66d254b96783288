"""The array driver against the simulated array: control over TLS, data over real NBD."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.core.dataplane.open import open_sink, open_source
from bollard.core.spi import (
    TIB,
    Busy,
    Call,
    Conflict,
    DeadlineExceeded,
    ExtentKind,
    HasDependents,
    Host,
    Internal,
    InUse,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Outcome,
    OutOfCapacity,
    PermissionDenied,
    Qos,
    StorageError,
    TemplateSpec,
    VmRef,
    VolumeSpec,
)
from bollard.drivers.primary.array.names import MAX_NAME, Kind, array_name
from bollard.simulators.array import Defect, export_name
from bollard.transfer_objects.ids import HostId, SnapshotId, TemplateId, VmId, VmSnapshotId, VolumeId
from bollard.transfer_objects.secret import Secret

MIB = 1024 * 1024
CHUNK = 65536
WEB, DB, COPY = VolumeId("web-1"), VolumeId("db-1"), VolumeId("copy-1")
S1, S2 = SnapshotId("s1"), SnapshotId("s2")
DEBIAN = TemplateId("debian-12")
VM = VmRef(vm=VmId("vm-1"), snapshot=VmSnapshotId("before-upgrade"))


SECRET = "correct-horse-battery"


def call() -> Call:
    """A call with a minute to go."""
    return Call.within(60)


def host(name: str = "host-1", secret: str = SECRET) -> Host:
    """A host with an initiator of its own."""
    iqn = f"iqn.2024-01.org.example:{name}"
    return Host(id=HostId(name), iqn=iqn, chap_user=f"user-{name}"[:64], chap_secret=Secret(secret))


def spec(volume: VolumeId = WEB, size: int = MIB, **more) -> VolumeSpec:
    """A specification."""
    return VolumeSpec(id=volume, size=size, **more)


def write(driver, volume: VolumeId, byte: int, offset: int = 0, length: int = CHUNK) -> None:
    """Write as a host, then let go."""
    writer = host("writer")
    with open_sink(driver.grant(volume, writer, call()), timeout=10) as sink:
        sink.write(offset, bytes([byte]) * length)
        sink.flush()
    driver.revoke(volume, writer.id, call())


def read(driver, volume: VolumeId, offset: int = 0, length: int = CHUNK) -> bytes:
    """Read as a host, then let go."""
    reader, data = host("reader"), bytearray(length)
    with open_source(driver.grant(volume, reader, call(), read_only=True), timeout=10) as source:
        source.read_into(offset, memoryview(data))
    driver.revoke(volume, reader.id, call())
    return bytes(data)


# -- volumes ------------------------------------------------------------------------------------------


def test_a_volume_is_made_found_and_deleted(driver):
    """A volume has size, name, limits and the array's serial; delete is idempotent and complete."""
    qos = Qos(max_iops=500, max_bytes_per_second=10 * MIB)
    made = driver.create_volume(spec(name="Datenbank „eins“\t/", qos=qos), call())
    assert (made.id, made.size, made.name, made.qos) == (WEB, MIB, "Datenbank „eins“\t/", qos)
    assert len(made.identity) == 32
    assert driver.get_volume(WEB, call()) == made
    assert driver.create_volume(spec(name="other words"), call()) == made
    assert read(driver, WEB) == bytes(CHUNK)
    driver.delete_volume(WEB, call())
    driver.delete_volume(WEB, call())
    with pytest.raises(NotFound):
        driver.get_volume(WEB, call())


def test_another_spec_under_the_same_id_conflicts(driver):
    """Another size, or another origin, is a conflict; the volume stays as it was."""
    driver.create_volume(spec(), call())
    driver.create_volume(spec(DB), call())
    with pytest.raises(Conflict):
        driver.create_volume(spec(size=2 * MIB), call())
    with pytest.raises(Conflict):
        driver.clone_volume(DB, spec(), call())
    assert driver.get_volume(WEB, call()).size == MIB


@pytest.mark.parametrize(
    ("size", "error"), [(0, InvalidArgument), (-512, InvalidArgument), (64 * TIB + 512, LimitExceeded)]
)
def test_sizes_out_of_bounds_are_refused(driver, size, error):
    """A size outside of what the array told is refused, and one in between rounded up."""
    with pytest.raises(error):
        driver.create_volume(spec(size=size), call())
    assert driver.create_volume(spec(size=MIB + 1), call()).size == MIB + 512


def test_a_pool_without_room_says_so(driver, connect):
    """Beyond the array's provisioning limit a create is OutOfCapacity, not applied."""
    small = connect(pool="pool-b")
    with pytest.raises(OutOfCapacity) as error:
        small.create_volume(spec(size=60 * TIB), call())
    assert error.value.outcome is Outcome.NOT_APPLIED
    assert list(small.list_volumes(call()).items) == []


def test_listing_shows_all_of_ours_and_nothing_else(driver, connect):
    """Pages hold each volume of this owner and pool once; other owners, pools and seeds are not shown."""
    other = connect()
    for number in range(7):
        driver.create_volume(spec(VolumeId(f"v{number}")), call())
        other.create_volume(spec(VolumeId(f"w{number}")), call())
    driver.prepare_template(TemplateSpec(id=DEBIAN, size=MIB), call())
    seen, after = [], None
    while True:
        page = driver.list_volumes(call(), after=after, limit=3)
        seen += [volume.id for volume in page.items]
        after = page.after
        if after is None:
            break
    assert seen == [f"v{number}" for number in range(7)]
    with pytest.raises(NotFound):
        driver.get_volume(VolumeId("w0"), call())


def test_owners_with_equal_ids_do_not_meet(driver, connect):
    """Two owners, and two pools of one owner, have volumes and snapshots of the same ids."""
    others = [connect(), connect(owner=driver.options.owner, pool="pool-b")]
    for one in (driver, *others):
        one.create_volume(spec(), call())
        one.create_snapshot(WEB, S1, call())
    driver.delete_snapshot(S1, call())
    driver.delete_volume(WEB, call())
    for one in others:
        assert one.get_snapshot(S1, call()).volume == WEB


def test_a_foreign_volume_of_our_name_is_not_taken(driver, connect):
    """A volume without our labels is neither found, returned, deleted nor overwritten."""
    driver.create_volume(spec(), call())
    driver.release_volume(WEB, call())
    driver.delete_volume(WEB, call())
    with pytest.raises(NotFound):
        driver.get_volume(WEB, call())
    with pytest.raises(Conflict):
        driver.create_volume(spec(), call())
    with pytest.raises(Conflict):
        driver.clone_volume(driver.create_volume(spec(DB), call()).id, spec(), call())


def test_resize_grows_only(driver):
    """Growing keeps the data and adds zeros; the same size is fine; a smaller one is refused."""
    driver.create_volume(spec(), call())
    write(driver, WEB, 0x5A, MIB - CHUNK)
    assert driver.resize_volume(WEB, 2 * MIB, call()).size == 2 * MIB
    assert driver.resize_volume(WEB, 2 * MIB, call()).size == 2 * MIB
    with pytest.raises(InvalidArgument):
        driver.resize_volume(WEB, MIB, call())
    assert read(driver, WEB, MIB - CHUNK, 2 * CHUNK) == b"\x5a" * CHUNK + bytes(CHUNK)


def test_qos_is_set_changed_and_removed(driver):
    """Limits read back as they were set, and bad ones are refused."""
    driver.create_volume(spec(), call())
    for qos in (Qos(min_iops=10, max_iops=100), Qos(max_bytes_per_second=MIB), None):
        assert driver.set_qos(WEB, qos, call()).qos == qos
        assert driver.get_volume(WEB, call()).qos == qos
    for bad in (Qos(min_iops=100, max_iops=10), Qos(max_iops=-1)):
        with pytest.raises(InvalidArgument):
            driver.set_qos(WEB, bad, call())


def test_capacity_moves_with_use(driver):
    """Used and provisioned bytes grow with volumes, and total stays above used."""
    before = driver.capacity(call())
    driver.create_volume(spec(size=10 * MIB), call())
    write(driver, WEB, 1, 0, MIB)
    after = driver.capacity(call())
    assert after.provisioned - before.provisioned == 10 * MIB
    assert after.used - before.used == MIB
    assert 0 <= after.used <= after.total == before.total


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


# -- templates and adoption ---------------------------------------------------------------------------


def test_templates_are_sealed_and_never_change(driver):
    """A seed is filled through a grant, sealed once nobody has it, and read-only from then on."""
    template = TemplateSpec(id=DEBIAN, size=MIB)
    seed = driver.prepare_template(template, call())
    assert driver.prepare_template(template, call()) == seed
    with pytest.raises(Conflict):
        driver.prepare_template(TemplateSpec(id=DEBIAN, size=2 * MIB), call())
    with pytest.raises(NotFound):
        driver.create_volume_from_template(DEBIAN, spec(), call())
    driver.grant(seed.id, host(), call())
    with pytest.raises(InUse):
        driver.seal_template(DEBIAN, call())
    driver.revoke(seed.id, host().id, call())
    write(driver, seed.id, 0x66)
    driver.seal_template(DEBIAN, call())
    driver.seal_template(DEBIAN, call())
    with pytest.raises(PermissionDenied):
        driver.grant(seed.id, host(), call())
    for volume in (WEB, DB):
        driver.create_volume_from_template(DEBIAN, spec(volume, 2 * MIB), call())
        assert read(driver, volume) == b"\x66" * CHUNK
    for act in (driver.delete_volume, driver.release_volume):
        with pytest.raises(InvalidArgument):
            act(seed.id, call())
    driver.evict_template(DEBIAN, call())
    driver.evict_template(DEBIAN, call())
    with pytest.raises(NotFound):
        driver.seal_template(DEBIAN, call())


def test_foreign_volumes_are_adopted_and_released(driver, connect):
    """Adoption keeps data and foreign labels and works once; release gives a name that works again."""
    other = connect()
    other.create_volume(spec(DB), call())
    write(other, DB, 0x77)
    native = other.release_volume(DB, call())
    assert other.release_volume(DB, call()) == native
    with pytest.raises(Conflict):
        driver.adopt_volume(native, spec(WEB, 2 * MIB), call())
    adopted = driver.adopt_volume(native, spec(WEB), call())
    assert driver.adopt_volume(native, spec(WEB), call()) == adopted
    with pytest.raises(InUse):
        driver.adopt_volume(native, spec(COPY), call())
    with pytest.raises(InUse):
        driver.adopt_volume(adopted.private["array_name"], spec(COPY), call())
    with pytest.raises(NotFound):
        driver.adopt_volume("never-was", spec(COPY), call())
    assert read(driver, WEB) == b"\x77" * CHUNK
    driver.create_snapshot(WEB, S1, call())
    with pytest.raises(HasDependents):
        driver.release_volume(WEB, call())
    driver.delete_snapshot(S1, call())
    assert other.adopt_volume(driver.release_volume(WEB, call()), spec(DB), call()).id == DB
    with pytest.raises(NotFound):
        driver.release_volume(COPY, call())


# -- access -------------------------------------------------------------------------------------------


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


def test_read_only_grants_cannot_write(driver):
    """Through a read-only grant nothing can be written, not even by a host that ignores the flag."""
    driver.create_volume(spec(), call())
    place = driver.grant(WEB, host(), call(), read_only=True)
    with pytest.raises(PermissionDenied):
        open_sink(place, timeout=10)
    with pytest.raises(StorageError):
        open_sink(type(place)(address=place.address, export=place.export), timeout=10)
    driver.revoke(WEB, host().id, call())


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


# -- names --------------------------------------------------------------------------------------------

IDS = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?", fullmatch=True)
OWNERS = st.from_regex(r"[a-z0-9]{1,16}", fullmatch=True)


@given(OWNERS, OWNERS, IDS, IDS, st.sampled_from(Kind), st.sampled_from(Kind))
def test_names_are_injective_and_fit(owner_a, owner_b, id_a, id_b, kind_a, kind_b):
    """Different owners, kinds or ids have different names; each is within the array's rules."""
    a, b = array_name(owner_a, kind_a, id_a), array_name(owner_b, kind_b, id_b)
    assert (a == b) == ((owner_a, kind_a, id_a) == (owner_b, kind_b, id_b))
    assert 0 < len(a) <= MAX_NAME


def test_the_longest_ids_work(driver):
    """Ids of 64 characters that differ at the end only are two volumes, two snapshots and two hosts."""
    ends = ("a", "b")
    for end in ends:
        driver.create_volume(spec(VolumeId("v" * 63 + end)), call())
        driver.create_snapshot(VolumeId("v" * 63 + end), SnapshotId("s" * 63 + end), call())
        driver.grant(VolumeId("v" * 63 + end), host("h" * 63 + end), call())
    assert {v.id for v in driver.list_volumes(call()).items} == {"v" * 63 + end for end in ends}
    for end in ends:
        volume = VolumeId("v" * 63 + end)
        assert [s.id for s in driver.list_snapshots(volume, call()).items] == ["s" * 63 + end]
        assert [g.host for g in driver.list_grants(volume, call())] == ["h" * 63 + end]
        driver.revoke(volume, HostId("h" * 63 + end), call())


@pytest.mark.parametrize("bad", ["../x", "", "A", "a/b", "a b", "x" * 65, "-a"])
def test_what_is_no_id_reaches_no_url(driver, array, bad):
    """Ids outside of the alphabet are refused before anything is sent."""
    array.reset_stats()
    for act in (driver.get_volume, driver.delete_volume, driver.get_snapshot, driver.delete_snapshot):
        with pytest.raises(InvalidArgument):
            act(bad, call())
    assert array.stats() == {}
