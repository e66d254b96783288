"""Archived snapshots as image files, and image files as archived snapshots."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from bollard.core.snapshots import export_image, import_image
from bollard.core.spi import (
    Conflict,
    DataLoss,
    InvalidArgument,
    NotFound,
    StorageError,
    Unsupported,
)
from bollard.transfer_objects.ids import SnapshotId, VolumeId

from .snapshot_rig import MIB, call, flip

WEB, MONDAY, TUESDAY = VolumeId("web-1"), SnapshotId("monday"), SnapshotId("tuesday")
DATA = b"bytes" * 20000


@pytest.fixture
def archived(files):
    """A rig with one snapshot in its archive."""
    files.make(WEB, DATA)
    files.service.take_both(WEB, MONDAY, call())
    return files


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_export_equals_the_volume(archived, tmp_path, images, image_format):
    """Either format holds the same bytes, sparsely, and nothing else is left in the directory."""
    out = tmp_path / "out"
    out.mkdir()
    export_image(archived.archive, WEB, MONDAY, out / "web.img", image_format, call())
    plain = tmp_path / "plain.raw"
    plain.write_bytes(archived.read(WEB))

    assert images.same(out / "web.img", image_format, plain, "raw")
    assert [p.name for p in out.iterdir()] == ["web.img"]
    assert (out / "web.img").stat().st_blocks * 512 < MIB


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_export_overwrites_nothing(archived, tmp_path, kind):
    """What has the name already stays, whatever it is."""
    target = tmp_path / "web.raw"
    if kind == "file":
        target.write_bytes(b"precious")
    else:
        target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(Conflict):
        export_image(archived.archive, WEB, MONDAY, target, "raw", call())

    assert target.is_symlink() or target.read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("links", [True, False])
def test_export_overwrites_nothing_that_appears_meanwhile(archived, tmp_path, monkeypatch, links):
    """A file that comes while the export runs wins, with hard links and without."""
    target = tmp_path / "out" / "web.raw"
    target.parent.mkdir()
    link = os.link

    def late(*args: Path) -> None:
        target.write_bytes(b"precious")
        if not links:
            raise OSError(errno.EPERM, "no links here")
        link(*args)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(StorageError):
        export_image(archived.archive, WEB, MONDAY, target, "raw", call())

    assert target.read_bytes() == b"precious"
    assert [p.name for p in target.parent.iterdir()] == ["web.raw"]


def test_export_where_there_are_no_hard_links(archived, tmp_path, monkeypatch):
    """FAT has none: the export gets its name all the same."""

    def refuse(*_: Path) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    export_image(archived.archive, WEB, MONDAY, tmp_path / "web.raw", "raw", call())

    assert (tmp_path / "web.raw").read_bytes() == archived.read(WEB)
    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_export_of_damaged_parts_leaves_nothing(archived, tmp_path, image_format):
    """No file appears that is not whole, and no .part is left."""
    manifest = archived.archive.show(call(), volume=WEB, snapshot=MONDAY)
    [(window, part)] = manifest.parts()
    flip(archived.store.options.path / manifest.key_of(window, part))
    out = tmp_path / "out"
    out.mkdir()

    with pytest.raises(DataLoss):
        export_image(archived.archive, WEB, MONDAY, out / "web.img", image_format, call())
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_export_into_a_missing_directory(archived, tmp_path, image_format):
    """The error names the directory's absence, not a bug of ours."""
    with pytest.raises(NotFound):
        export_image(archived.archive, WEB, MONDAY, tmp_path / "no" / "web.img", image_format, call())


def test_export_of_an_unknown_snapshot(archived, tmp_path):
    """A typo makes no file."""
    with pytest.raises(NotFound):
        export_image(archived.archive, WEB, TUESDAY, tmp_path / "web.raw", "raw", call())
    assert not (tmp_path / "web.raw").exists()


def test_export_without_qemu(archived, tmp_path, monkeypatch):
    """A missing tool is named with its package; raw needs none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported, match="qemu-utils"):
        export_image(archived.archive, WEB, MONDAY, tmp_path / "web.qcow2", "qcow2", call())
    export_image(archived.archive, WEB, MONDAY, tmp_path / "web.raw", "raw", call())

    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_import_equals_the_file(archived, tmp_path, images, image_format, monkeypatch):
    """A file named by a relative path is archived as it is, with its name as the origin."""
    raw = tmp_path / "old.raw"
    raw.write_bytes(DATA + bytes(MIB - len(DATA)))
    image = raw if image_format == "raw" else images.to_qcow2(raw, tmp_path / "old.qcow2")
    monkeypatch.chdir(tmp_path)
    manifest = import_image(
        archived.archive, Path(image.name), image_format, VolumeId("old-1"), MONDAY, call()
    )

    assert manifest.origin == f"file {image.name}"
    assert archived.archived(VolumeId("old-1"), MONDAY) == DATA + bytes(MIB - len(DATA))


@pytest.mark.parametrize("hostile", ["backing file", "data file", "raw as qcow2"])
def test_import_of_a_hostile_image_is_refused(archived, tmp_path, images, hostile):
    """An image that points at other files of this host is archived neither with nor without them."""
    secret = tmp_path / "secret.raw"
    secret.write_bytes(b"shadow" * 10000 + bytes(MIB - 60000))
    image = tmp_path / "hostile.qcow2"
    if hostile == "backing file":
        images.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", image)
    elif hostile == "data file":
        images.create_qcow2(image, MIB, f"data_file={secret}", "data_file_raw=on")
    else:
        image = secret

    with pytest.raises(InvalidArgument):
        import_image(archived.archive, image, "qcow2", VolumeId("bad-1"), MONDAY, call())
    assert archived.in_archive("bad-1") == []


def test_import_follows_no_link(archived, tmp_path):
    """A link would let a tenant's name stand for a file of the host."""
    (tmp_path / "secret").write_bytes(bytes(MIB))
    (tmp_path / "link.raw").symlink_to(tmp_path / "secret")

    with pytest.raises(StorageError):
        import_image(archived.archive, tmp_path / "link.raw", "raw", VolumeId("bad-1"), MONDAY, call())


def test_import_of_a_strange_file_name(archived, tmp_path):
    """A name that is no ASCII, or has control characters, does not break the manifest."""
    image = tmp_path / "sm\u00f8rrebr\u00f8d\n.raw"
    image.write_bytes(DATA)
    import_image(archived.archive, image, "raw", VolumeId("odd-1"), MONDAY, call())

    assert archived.archived(VolumeId("odd-1"), MONDAY) == DATA
