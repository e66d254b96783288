"""Volumes of the array driver against the simulated array: control over TLS, data over real NBD."""

from __future__ import annotations

import pytest

from array_rig import CHUNK, read, spec, write
from bollard.core.spi import (
    TIB,
    Conflict,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Outcome,
    OutOfCapacity,
    Qos,
    TemplateSpec,
)
from bollard.transfer_objects.ids import VolumeId
from primary_rig import DB, DEBIAN, MIB, S1, WEB, call


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
