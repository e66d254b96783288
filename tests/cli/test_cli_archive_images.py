"""`bollard archive` restores and exports ranges, and knows other hypervisors' images."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.real

MIB = 2**20


@pytest.fixture
def monday(bollard, vol_1) -> None:
    """vol-1 is in the archive as monday: 64 MiB with 64 KiB of 0x5a at 1 MiB."""
    assert bollard("archive", "create", "vol-1", "monday").code == 0


def test_range_into_a_volume(bollard, home, images, monday, write):
    """The range is as the snapshot has it; a neighbour of it stays."""
    write("vol-1", "0x11", "1M")
    write("vol-1", "0x22", "2M")
    done = bollard("archive", "restore", "vol-1", "monday", "vol-1", "--range", "1MiB:64KiB", "--json")
    assert (done.code, done.json["volume"]) == (0, "vol-1")
    volume = home / "pool" / "volumes" / "vol-1.qcow2"
    said = images.qemu_io(volume, "qcow2", "read -P 0x5a 1M 64k", "read -P 0x22 2M 64k")
    assert "verification failed" not in said


def test_range_into_a_file(bollard, home, monday):
    """The file has the range alone."""
    arguments = ["archive", "export", "vol-1", "monday", "part.raw", "--format", "raw", "--json"]
    assert bollard(*arguments, "--range", "1M:64K").json["size"] == 65536
    assert (home / "part.raw").read_bytes() == b"\x5a" * 65536


@pytest.mark.parametrize("text", ["1M", "1M:x", "-1:2", "1:2:3"])
def test_what_is_no_range(bollard, home, monday, text):
    """A range that cannot be read is wrong usage, and makes no file."""
    assert bollard("archive", "export", "vol-1", "monday", "part.raw", f"--range={text}").code == 2
    assert not (home / "part.raw").exists()


def test_foreign_images(bollard, home, monday):
    """A VMDK goes out and comes in; an unknown format is wrong usage."""
    assert bollard("archive", "export", "vol-1", "monday", "a.vmdk", "--format", "vmdk").code == 0
    done = bollard("archive", "import", "a.vmdk", "vol-2", "first", "--format", "vmdk", "--json")
    assert done.json["size"] == 64 * MIB
    monday_digest = bollard("archive", "show", "vol-1", "monday", "--json").json["digest"]
    assert done.json["digest"] == monday_digest
    assert bollard("archive", "import", "a.vmdk", "vol-3", "first", "--format", "qed").code == 2
    assert bollard("archive", "import", "a.vmdk", "vol-3", "first", "--format", "vhdx").code == 2
