"""Images of other hypervisors, and ranges of snapshots: out of the archive and into it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from bollard.core.snapshots import export_image, import_image
from bollard.core.spi import Conflict, InvalidArgument, LimitExceeded, NotFound, VolumeSpec
from bollard.transfer_objects.ids import SnapshotId, VolumeId

from .snapshot_rig import MIB, call

pytestmark = pytest.mark.real

WEB, MONDAY = VolumeId("web-1"), SnapshotId("monday")
FOREIGN = ["vmdk", "vpc", "vhdx"]
SIZE = 40 * MIB


@pytest.fixture
def archived(files):
    """A rig with a sparse volume of 40 MiB in its archive: data at 1 MiB, at 20 MiB and at the end."""
    files.pool.volumes.create(VolumeSpec(id=WEB, size=SIZE))
    for offset in (MIB, 20 * MIB, SIZE - 4096):
        files.write(WEB, offset.to_bytes(4, "big") * 1024, offset)
    files.service.take_both(WEB, MONDAY, call())
    return files


@pytest.mark.parametrize("image_format", FOREIGN)
def test_export_and_import_of_foreign_images(archived, tmp_path, images, image_format):
    """QEMU sees the same bytes in the image, of the exact size and sparse; imported it is the same again."""
    plain, image = tmp_path / "plain.raw", tmp_path / "web.img"
    plain.write_bytes(archived.read(WEB))
    export_image(archived.archive, WEB, MONDAY, image, image_format, call())

    assert images.same(image, image_format, plain, "raw")
    assert images.image_info(image, image_format)["virtual-size"] == SIZE
    assert image.stat().st_blocks * 512 < 20 * MIB
    import_image(archived.archive, image, image_format, VolumeId("again"), MONDAY, call())
    assert archived.archived(VolumeId("again"), MONDAY) == plain.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} >= {"plain.raw", "web.img"}
    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.parametrize(
    ("image_format", "options"),
    [
        ("vmdk", "subformat=streamOptimized"),
        ("vpc", "subformat=fixed,force_size=on"),
        ("vhdx", "subformat=fixed"),
    ],
)
def test_import_of_other_subformats(archived, tmp_path, images, image_format, options):
    """What other tools write is read as well: a stream-optimised VMDK, a fixed VHD, a fixed VHDX."""
    plain, image = tmp_path / "plain.raw", tmp_path / "old.img"
    plain.write_bytes(archived.read(WEB))
    images.run("qemu-img", "convert", "-f", "raw", "-O", image_format, "-o", options, plain, image)
    import_image(archived.archive, image, image_format, VolumeId("old-1"), MONDAY, call())

    assert archived.archived(VolumeId("old-1"), MONDAY) == plain.read_bytes()


def vmdk(images, path: Path, *arguments: object) -> Path:
    """A VMDK by qemu-img."""
    images.run("qemu-img", "create", "-q", "-f", "vmdk", *map(str, arguments), path, "1M")
    return path


def with_parent(images, directory: Path) -> Path:
    """A VMDK over another image."""
    base = vmdk(images, directory / "base.vmdk")
    return vmdk(images, directory / "bad.vmdk", "-b", base, "-F", "vmdk")


def in_other_files(images, directory: Path) -> Path:
    """A VMDK that is a text which names other files."""
    return vmdk(images, directory / "bad.vmdk", "-o", "subformat=monolithicFlat")


def without_capacity(images, directory: Path) -> Path:
    """A binary VMDK whose header makes QEMU open what its descriptor names."""
    path = vmdk(images, directory / "bad.vmdk")
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, 12, 0)
    path.write_bytes(data)
    return path


def parent_by_hint(images, directory: Path) -> Path:
    """A VMDK whose descriptor names a parent although its id says that there is none."""
    path = vmdk(images, directory / "bad.vmdk")
    data = path.read_bytes()
    at = data.index(b"# Extent description")
    hint = b'parentFileNameHint="/etc/shadow"\n'
    path.write_bytes(data[:at] + hint + data[at + len(hint) :])
    return path


def differencing(images, directory: Path) -> Path:
    """A VHD that is a difference to another."""
    path = directory / "bad.vpc"
    images.run("qemu-img", "create", "-q", "-f", "vpc", path, "1M")
    data = bytearray(path.read_bytes())
    for place in (0, len(data) - 512):
        struct.pack_into(">I", data, place + 60, 4)
    path.write_bytes(data)
    return path


def something_else(images, directory: Path) -> Path:
    """Plain bytes."""
    path = directory / "bad.vhdx"
    path.write_bytes(b"shadow" * 1000)
    return path


@pytest.mark.parametrize(
    "make", [with_parent, in_other_files, without_capacity, parent_by_hint, differencing, something_else]
)
def test_hostile_foreign_images_are_refused(archived, tmp_path, images, make):
    """An image that refers to other files, or is of another format, never reaches QEMU."""
    image = make(images, tmp_path)
    for image_format in FOREIGN:
        with pytest.raises(InvalidArgument, match=image.name):
            import_image(archived.archive, image, image_format, VolumeId("bad-1"), MONDAY, call())
    assert archived.in_archive("bad-1") == []


def test_vhd_has_its_limit(files, tmp_path):
    """What a VHD cannot hold is refused with its reason, and no file is left."""
    big = VolumeId("big-1")
    files.pool.volumes.create(VolumeSpec(id=big, size=3 * 2**40))
    files.service.take_both(big, MONDAY, call())
    with pytest.raises(LimitExceeded):
        export_image(files.archive, big, MONDAY, tmp_path / "big.vhd", "vpc", call())
    assert list(tmp_path.glob("big*")) == []


@pytest.mark.parametrize("image_format", ["raw", "qcow2", "vmdk"])
def test_export_of_a_range(archived, tmp_path, images, image_format):
    """The file has the bytes of the range alone."""
    window = (20 * MIB - 65536, MIB)
    part, plain = tmp_path / "part.img", tmp_path / "plain.raw"
    plain.write_bytes(archived.read(WEB)[window[0] : sum(window)])
    export_image(archived.archive, WEB, MONDAY, part, image_format, call(), window=window)

    assert images.same(part, image_format, plain, "raw")
    assert images.image_info(part, image_format)["virtual-size"] == MIB


@pytest.mark.parametrize("window", [(0, SIZE + 1), (SIZE, 1), (-512, 512), (0, -1)])
def test_export_of_a_range_outside(archived, tmp_path, window):
    """A range that leaves the image makes no file."""
    with pytest.raises(InvalidArgument, match="outside"):
        export_image(archived.archive, WEB, MONDAY, tmp_path / "part.raw", "raw", call(), window=window)
    assert not list(tmp_path.glob("part*"))


def test_range_into_an_existing_volume(archived):
    """The range is as it was on Monday, zeros included; what is around it is as it is today."""
    target = VolumeId("target")
    archived.pool.volumes.create(VolumeSpec(id=target, size=SIZE + MIB))
    archived.write(target, b"\xee" * 4 * MIB, 18 * MIB)
    monday, today = archived.read(WEB), archived.read(target)
    offset, length = 19 * MIB + 512, 2 * MIB
    archived.service.restore_range(WEB, MONDAY, target, call(), offset=offset, length=length)

    assert (
        archived.read(target) == today[:offset] + monday[offset : offset + length] + today[offset + length :]
    )


@pytest.mark.parametrize(("offset", "length"), [(SIZE - 512, 1024), (100, 512), (0, 100)])
def test_bad_ranges_write_nothing(archived, offset, length):
    """A range that leaves the volume or cuts a sector is refused; so is a volume that is not there."""
    today = archived.read(WEB)
    with pytest.raises(InvalidArgument):
        archived.service.restore_range(WEB, MONDAY, WEB, call(), offset=offset, length=length)
    with pytest.raises(NotFound):
        archived.service.restore_range(WEB, MONDAY, VolumeId("none"), call(), offset=0, length=512)
    assert archived.read(WEB) == today


def test_export_still_overwrites_nothing(archived, tmp_path):
    """Neither does a range replace a file."""
    (tmp_path / "a.raw").write_bytes(b"precious")
    with pytest.raises(Conflict):
        export_image(archived.archive, WEB, MONDAY, tmp_path / "a.raw", "raw", call(), window=(0, 512))
