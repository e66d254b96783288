"""Bitmaps of real NBD exports: what qemu-nbd says has changed."""

from __future__ import annotations

import pytest

from bollard.core.dataplane import dirty_extents
from bollard.core.spi import Extent, NbdLocation, NotFound
from bollard.transfer_objects.secret import Secret

pytestmark = pytest.mark.real

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture
def exported(images, tmp_path):
    """A qcow2 image with a bitmap `c1`, written to since in three places, as an export."""
    image = images.create_qcow2(tmp_path / "a.qcow2", 8 * MIB)
    images.qemu_io(image, "qcow2", "write -P 1 0 1M")
    images.run("qemu-img", "bitmap", "--add", image, "c1")
    images.qemu_io(image, "qcow2", "write -P 2 64k 64k", "write -P 3 128k 1k", "discard 5M 1M")
    command = ["qemu-nbd", "--read-only", "--persistent", "--shared=0", "-f", "qcow2", "-B", "c1", image]
    with images.serve_unix(tmp_path / "s", *command) as socket:
        yield NbdLocation(address=socket, export=Secret(""))


def test_dirty_extents_are_what_was_written_since(exported):
    """Writes and discards are marked by granules of 64 KiB and joined; older data is not."""
    with dirty_extents(exported, "qemu:dirty-bitmap:c1") as changed:
        assert list(changed) == [Extent(64 * KIB, 128 * KIB), Extent(5 * MIB, MIB)]


def test_missing_bitmap_is_an_error(exported):
    """An export without the bitmap never passes for one in which nothing has changed."""
    with (
        pytest.raises(NotFound, match="no bitmap 'qemu:dirty-bitmap:c2'"),
        dirty_extents(exported, "qemu:dirty-bitmap:c2"),
    ):
        pytest.fail("it was offered")
