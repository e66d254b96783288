"""Volumes of the qcow2 driver on a real directory, with QEMU's own tools as the judge."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable

import pytest

from bollard.core.spi import TIB, Conflict, InvalidArgument, LimitExceeded, NotFound, TemplateSpec, VolumeSpec
from bollard.transfer_objects.ids import SnapshotId, VolumeId
from primary_rig import DB, DEBIAN, MIB, S1, WEB, call
from qcow2_rig import files, fill, opened, qemu_io


def test_a_new_volume_reads_zeros_and_has_the_size(driver):
    """A created volume has the asked size, reads zeros, and is found where `locate` says."""
    volume = driver.create_volume(VolumeSpec(id=WEB, size=4 * MIB, name='Größe; "rm -rf"'), call())
    place = driver.locate_volume(WEB, call())
    qemu_io(place.path, place.format, f"read -P 0 0 {4 * MIB}")
    assert (volume.size, volume.name, volume.identity) == (4 * MIB, 'Größe; "rm -rf"', str(place.path))
    assert driver.get_volume(WEB, call()) == volume


def test_create_is_idempotent_and_never_resets_data(driver):
    """A repeated create returns the volume with its data; another size is a conflict."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    fill(driver, WEB, "0x5a")
    assert driver.create_volume(VolumeSpec(id=WEB, size=MIB), call()).size == MIB
    place = driver.locate_volume(WEB, call())
    qemu_io(place.path, place.format, "read -P 0x5a 0 64k")
    with pytest.raises(Conflict):
        driver.create_volume(VolumeSpec(id=WEB, size=2 * MIB), call())


@pytest.mark.parametrize(
    ("size", "error"), [(0, InvalidArgument), (-512, InvalidArgument), (64 * TIB + 512, LimitExceeded)]
)
def test_sizes_out_of_bounds_create_nothing(driver, tmp_path, size, error):
    """A size outside of the traits is refused and leaves no file."""
    with pytest.raises(error):
        driver.create_volume(VolumeSpec(id=WEB, size=size), call())
    assert files(tmp_path) == []


def test_odd_sizes_are_rounded_up(driver):
    """A size that is no multiple of 512 is rounded up, and the repeat finds the same volume."""
    assert driver.create_volume(VolumeSpec(id=WEB, size=MIB + 1), call()).size == MIB + 512
    assert driver.create_volume(VolumeSpec(id=WEB, size=MIB + 1), call()).size == MIB + 512


@pytest.mark.parametrize("bad", ["../x", "a/b", "", "-rf", "a.b", "UPPER", "a\nb", "x" * 65])
def test_what_is_no_id_never_becomes_a_path(driver, tmp_path, bad):
    """Ids outside of the alphabet are refused by every method, and nothing is made."""
    volume, snapshot = VolumeId(bad), SnapshotId(bad)
    acts: list[Callable[[], object]] = [
        lambda: driver.create_volume(VolumeSpec(id=volume, size=MIB), call()),
        lambda: driver.delete_volume(volume, call()),
        lambda: driver.get_volume(volume, call()),
        lambda: driver.locate_volume(volume, call()),
        lambda: driver.create_snapshot(volume, S1, call()),
        lambda: driver.create_snapshot(WEB, snapshot, call()),
        lambda: driver.get_snapshot(snapshot, call()),
        lambda: driver.delete_snapshot(snapshot, call()),
    ]
    for act in acts:
        with pytest.raises(InvalidArgument):
            act()
    assert files(tmp_path) == []


def test_delete_is_idempotent_and_leaves_no_file(driver, tmp_path):
    """A deleted volume is gone with its files; deleting it again, or one that never was, succeeds."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    driver.delete_volume(WEB, call())
    driver.delete_volume(WEB, call())
    driver.delete_volume(DB, call())
    assert files(tmp_path) == []
    with pytest.raises(NotFound):
        driver.get_volume(WEB, call())


def test_listing_pages_through_all_and_only_ours(driver, tmp_path, image_format):
    """Pages contain every volume once, and no foreign file, template or snapshot."""
    ids = [VolumeId(f"v{number}") for number in range(7)]
    for volume in ids:
        driver.create_volume(VolumeSpec(id=volume, size=MIB), call())
    driver.prepare_template(TemplateSpec(id=DEBIAN, size=MIB), call())
    driver.create_snapshot(ids[0], S1, call())
    (tmp_path / "volumes" / f"foreign.{image_format}").write_bytes(b"not ours")
    (tmp_path / "volumes" / "other.json").write_text('{"hello": 1}')
    seen, after = [], None
    while True:
        page = driver.list_volumes(call(), after=after, limit=3)
        assert len(page.items) <= 3
        seen += [volume.id for volume in page.items]
        after = page.after
        if after is None:
            break
    assert seen == ids


def test_foreign_files_are_never_touched(driver, tmp_path, image_format):
    """A file of somebody else under the name of a volume is not found, replaced, deleted or swept."""
    foreign = tmp_path / "volumes" / f"{WEB}.{image_format}"
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_bytes(b"precious")
    with pytest.raises(NotFound):
        driver.get_volume(WEB, call())
    with pytest.raises(Conflict):
        driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    driver.delete_volume(WEB, call())
    opened(tmp_path, image_format).close()
    assert foreign.read_bytes() == b"precious"
    assert files(tmp_path) == [f"volumes/{foreign.name}"]


def test_resize_grows_keeps_data_and_never_shrinks(driver):
    """Old bytes stay, new ones read zero, the same size succeeds, a smaller one changes nothing."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    fill(driver, WEB, "0x77", f"{MIB - 512} 512")
    assert driver.resize_volume(WEB, 3 * MIB, call()).size == 3 * MIB
    assert driver.resize_volume(WEB, 3 * MIB, call()).size == 3 * MIB
    with pytest.raises(InvalidArgument):
        driver.resize_volume(WEB, 2 * MIB, call())
    place = driver.locate_volume(WEB, call())
    qemu_io(place.path, place.format, f"read -P 0x77 {MIB - 512} 512", f"read -P 0 {MIB} {2 * MIB}")
    with pytest.raises(NotFound):
        driver.resize_volume(DB, MIB, call())


def test_a_volume_grows_after_a_kill_of_its_qemu(tmp_path):
    """A bitmap that QEMU was tracking writes in when it died does not keep the volume from growing."""
    driver = opened(tmp_path, "qcow2")
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    path = driver.locate_volume(WEB, call()).path
    subprocess.run(["qemu-img", "bitmap", "--add", "-f", "qcow2", path, "c1"], check=True)
    died = subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", "write -q 0 512", "-c", "abort", path], check=False
    )
    assert died.returncode == -signal.SIGABRT
    assert driver.resize_volume(WEB, 3 * MIB, call()).size == 3 * MIB
    driver.close()


def test_capacity_is_sane(driver):
    """The figures are bytes of the file system, and used never exceeds total."""
    found = driver.capacity(call())
    assert 0 <= found.used <= found.total
    assert found.total > MIB
