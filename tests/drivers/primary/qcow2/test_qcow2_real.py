"""The qcow2 driver on real file systems: XFS with shared blocks, a full disk, a mount that goes away."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bollard.core.spi import Outcome, OutOfCapacity, StorageError, Unavailable, VolumeSpec
from primary_rig import COPY, MIB, S1, WEB, call
from qcow2_rig import files, fill, opened, path_of, qemu_io

pytestmark = pytest.mark.real(root=True)


def run(*command: object) -> str:
    """Run a tool and return what it printed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def mounted(at: Path, *arguments: object) -> Iterator[Path]:
    """Mount something for the block."""
    at.mkdir()
    run("mount", *arguments, at)
    try:
        yield at
    finally:
        if os.path.ismount(at):
            run("umount", at)


@pytest.fixture
def xfs(tmp_path) -> Iterator[Path]:
    """A loop-mounted XFS of 320 MiB (mkfs.xfs refuses less than 300)."""
    image = tmp_path / "xfs.img"
    with image.open("wb") as file:
        file.truncate(320 * MIB)
    run("mkfs.xfs", "-q", image)
    with mounted(tmp_path / "xfs", "-o", "loop", image) as path:
        yield path


@pytest.fixture
def small(tmp_path) -> Iterator[Path]:
    """A tmpfs of 4 MiB."""
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=4m", "none") as path:
        yield path


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_copies_share_blocks_on_xfs(xfs, image_format):
    """On a file system with reflinks, snapshot, clone and revert of 64 MiB take no space to speak of."""
    driver = opened(xfs, image_format, must_be_mounted=True)
    driver.create_volume(VolumeSpec(id=WEB, size=64 * MIB), call())
    fill(driver, WEB, "0x5a", "0 64M")
    os.sync()
    before = driver.capacity(call()).used
    driver.create_snapshot(WEB, S1, call())
    driver.clone_volume(WEB, VolumeSpec(id=COPY, size=96 * MIB), call())
    driver.revert_volume(WEB, S1, call())
    os.sync()
    assert driver.capacity(call()).used - before < 8 * MIB
    for volume in (WEB, COPY):
        qemu_io(path_of(driver, volume), image_format, "read -P 0x5a 0 64M")


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_a_full_pool_is_told_and_stays_clean(small, image_format):
    """Without space each copy fails as OutOfCapacity, not applied, with no file left and no byte lost."""
    driver = opened(small, image_format)
    driver.create_volume(VolumeSpec(id=WEB, size=3 * MIB), call())
    fill(driver, WEB, "0x5a", "0 2M")
    before = files(small)
    for act in (
        lambda: driver.create_snapshot(WEB, S1, call()),
        lambda: driver.clone_volume(WEB, VolumeSpec(id=COPY, size=3 * MIB), call()),
    ):
        with pytest.raises(OutOfCapacity) as error:
            act()
        assert error.value.outcome is Outcome.NOT_APPLIED
        assert files(small) == before
    qemu_io(path_of(driver, WEB), image_format, "read -P 0x5a 0 2M")
    driver.delete_volume(WEB, call())
    driver.create_volume(VolumeSpec(id=COPY, size=3 * MIB), call())


def test_no_space_at_all_leaves_no_volume(small):
    """When not even a record can be written, the volume does not exist and deleting others still works."""
    driver = opened(small)
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    before = files(small)
    (small / "ballast").write_bytes(b"x" * (os.statvfs(small).f_bavail * os.statvfs(small).f_bsize))
    with pytest.raises(OutOfCapacity):
        driver.create_volume(VolumeSpec(id=COPY, size=MIB), call())
    assert files(small) == sorted([*before, "ballast"])
    driver.delete_volume(WEB, call())
    driver.create_volume(VolumeSpec(id=COPY, size=MIB), call())


def test_an_unmounted_pool_is_not_written_below(small):
    """After an unmount nothing is made in the empty mount point: the pool is unavailable."""
    driver = opened(small)
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    run("umount", small)
    for act in (
        lambda: driver.create_volume(VolumeSpec(id=COPY, size=MIB), call()),
        lambda: driver.get_volume(WEB, call()),
        lambda: driver.delete_volume(WEB, call()),
    ):
        with pytest.raises(Unavailable):
            act()
    assert list(small.iterdir()) == []


def test_a_read_only_pool_is_told(small):
    """On a read-only mount objects can be read, and changes are denied by a typed error."""
    driver = opened(small)
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    run("mount", "-o", "remount,ro", small)
    assert driver.get_volume(WEB, call()).size == MIB
    with pytest.raises(StorageError) as error:
        driver.create_volume(VolumeSpec(id=COPY, size=MIB), call())
    assert (error.value.code, error.value.outcome) == ("permission_denied", Outcome.NOT_APPLIED)


def test_a_file_system_survives_snapshot_and_revert(xfs, tmp_path):
    """A real ext4 in a qcow2 volume is clean in the snapshot and after the revert, file by file."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(20):
        (tree / f"file-{number}").write_bytes(os.urandom(50_000))
    raw = tmp_path / "ext4.raw"
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, raw, "32M")
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, xfs / "ext4.qcow2")
    driver = opened(xfs)
    driver.adopt_volume("ext4.qcow2", VolumeSpec(id=WEB, size=32 * MIB), call())
    driver.create_snapshot(WEB, S1, call())
    fill(driver, WEB, "0x5a", "0 16M")
    driver.revert_volume(WEB, S1, call())
    for path in (driver.locate_snapshot(S1, call()).path, path_of(driver, WEB)):
        run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, path)
    back = tmp_path / "back.raw"
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path_of(driver, WEB), back)
    run("e2fsck", "-f", "-n", back)
    out = tmp_path / "out"
    out.mkdir()
    run("debugfs", "-R", f"rdump / {out}", back)
    for file in tree.iterdir():
        assert (out / file.name).read_bytes() == file.read_bytes()
