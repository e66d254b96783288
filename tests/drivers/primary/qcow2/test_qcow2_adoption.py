"""What the qcow2 driver takes in: templates that others filled, and foreign files, some of them hostile."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from bollard.core.spi import (
    Conflict,
    InUse,
    InvalidArgument,
    NotFound,
    Outcome,
    StorageError,
    TemplateSpec,
    VolumeSpec,
)
from primary_rig import DB, DEBIAN, MIB, S1, WEB, call
from qcow2_rig import equal, files, fill, opened, path_of, qemu_io

# -- templates ----------------------------------------------------------------------------------------


def test_a_sealed_template_gives_equal_volumes(driver):
    """A seed is writable until it is sealed; volumes come from sealed ones only and equal them."""
    seed = driver.prepare_template(TemplateSpec(id=DEBIAN, size=MIB), call())
    assert driver.prepare_template(TemplateSpec(id=DEBIAN, size=MIB), call()) == seed
    assert driver.get_volume(seed.id, call()) == seed
    with pytest.raises(NotFound):
        driver.create_volume_from_template(DEBIAN, VolumeSpec(id=WEB, size=MIB), call())
    with pytest.raises(Conflict):
        driver.prepare_template(TemplateSpec(id=DEBIAN, size=2 * MIB), call())
    fill(driver, seed.id, "0x66")
    driver.seal_template(DEBIAN, call())
    driver.seal_template(DEBIAN, call())
    place = driver.locate_volume(seed.id, call())
    assert place.read_only
    for volume in (WEB, DB):
        driver.create_volume_from_template(DEBIAN, VolumeSpec(id=volume, size=2 * MIB), call())
        assert equal(path_of(driver, volume), place.path, place.format)
    with pytest.raises(InvalidArgument):
        driver.delete_volume(seed.id, call())
    driver.evict_template(DEBIAN, call())
    driver.evict_template(DEBIAN, call())
    with pytest.raises(NotFound):
        driver.seal_template(DEBIAN, call())
    assert driver.create_volume_from_template(DEBIAN, VolumeSpec(id=WEB, size=2 * MIB), call()).id == WEB


def test_a_seed_that_points_elsewhere_is_not_sealed(tmp_path):
    """A template whose writer put a backing file into it never becomes usable."""
    driver = opened(tmp_path)
    seed = driver.prepare_template(TemplateSpec(id=DEBIAN, size=MIB), call())
    path = path_of(driver, seed.id)
    subprocess.run(
        ["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", path], check=True
    )
    with pytest.raises(InvalidArgument):
        driver.seal_template(DEBIAN, call())
    with pytest.raises(NotFound):
        driver.create_volume_from_template(DEBIAN, VolumeSpec(id=WEB, size=MIB), call())


# -- adoption -----------------------------------------------------------------------------------------


def _image(path: Path, image_format: str, *arguments: str) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", image_format, *arguments, path, "1M"], check=True)
    return path


def test_a_foreign_file_can_be_adopted_and_released(driver, tmp_path, image_format):
    """Adoption keeps every byte and works once; release gives a file back that can be adopted anew."""
    native = _image(tmp_path / "old disk.img", image_format)
    qemu_io(native, image_format, "write -P 0x42 0 64k")
    spec = VolumeSpec(id=WEB, size=MIB)
    assert driver.adopt_volume("old disk.img", spec, call()).size == MIB
    assert driver.adopt_volume("old disk.img", spec, call()).id == WEB
    for name in ("old disk.img", f"{WEB}.{image_format}"):
        with pytest.raises(InUse):
            driver.adopt_volume(name, VolumeSpec(id=DB, size=MIB), call())
    qemu_io(path_of(driver, WEB), image_format, "read -P 0x42 0 64k")

    name = driver.release_volume(WEB, call())
    assert driver.release_volume(WEB, call()) == name
    assert files(tmp_path) == [name]
    with pytest.raises(NotFound):
        driver.get_volume(WEB, call())
    driver.adopt_volume(name, VolumeSpec(id=DB, size=MIB), call())
    qemu_io(path_of(driver, DB), image_format, "read -P 0x42 0 64k")


def test_adoption_refuses_the_wrong_size_and_what_is_missing(driver, tmp_path, image_format):
    """Another size than the spec's is a conflict and a missing file not found; nothing moves."""
    _image(tmp_path / "a.img", image_format)
    with pytest.raises(Conflict):
        driver.adopt_volume("a.img", VolumeSpec(id=WEB, size=2 * MIB), call())
    with pytest.raises(NotFound):
        driver.adopt_volume("b.img", VolumeSpec(id=WEB, size=MIB), call())
    with pytest.raises(NotFound):
        driver.release_volume(WEB, call())
    assert files(tmp_path) == ["a.img"]


@pytest.mark.parametrize("name", ["", ".", "..", "../a.img", "/etc/passwd", "a\nb", "x" * 300, "volumes"])
def test_adoption_refuses_names_that_are_no_file_here(driver, name):
    """Only a plain file that stands in the pool directory itself can be adopted."""
    driver.create_volume(VolumeSpec(id=DB, size=MIB), call())
    with pytest.raises(StorageError) as error:
        driver.adopt_volume(name, VolumeSpec(id=WEB, size=MIB), call())
    assert error.value.code in {"invalid_argument", "limit_exceeded", "not_found"}
    assert error.value.outcome is Outcome.NOT_APPLIED


def test_hostile_images_are_not_adopted(tmp_path):
    """Backing files, data files, links, pipes and second names are refused, and left where they are."""
    driver = opened(tmp_path)
    base = _image(tmp_path / "base.qcow2", "qcow2")
    _image(tmp_path / "backed.qcow2", "qcow2", "-b", str(base), "-F", "qcow2")
    _image(tmp_path / "split.qcow2", "qcow2", "-o", f"data_file={tmp_path}/data.bin")
    (tmp_path / "link.qcow2").symlink_to(base)
    os.mkfifo(tmp_path / "pipe.qcow2")
    (tmp_path / "garbage.qcow2").write_bytes(b"QFI\xfb" + bytes(2000))
    _image(tmp_path / "two.qcow2", "qcow2")
    os.link(tmp_path / "two.qcow2", tmp_path / "names.qcow2")
    before = files(tmp_path)
    for name in ("backed", "split", "link", "pipe", "garbage", "two"):
        with pytest.raises(StorageError) as error:
            driver.adopt_volume(f"{name}.qcow2", VolumeSpec(id=WEB, size=MIB), call())
        assert error.value.code in {"invalid_argument", "unsupported"}, name
    assert files(tmp_path) == before


def test_a_raw_volume_with_a_qcow2_header_stays_raw(tmp_path):
    """What a guest writes into a raw volume never makes a copy follow it (the format is not probed)."""
    driver = opened(tmp_path, "raw")
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    evil = _image(tmp_path / "evil", "qcow2", "-b", "/etc/passwd", "-F", "raw", "-u")
    content = evil.read_bytes()[:65536]
    with path_of(driver, WEB).open("r+b") as file:
        file.write(content)
    driver.create_snapshot(WEB, S1, call())
    driver.revert_volume(WEB, S1, call())
    assert path_of(driver, WEB).read_bytes()[:65536] == content
