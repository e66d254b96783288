"""`bollard pool …`: the life of a volume and its snapshots."""

from __future__ import annotations

import pytest

from bollard.core.journal import Journal

MIB = 2**20


def _ids(done) -> list[str]:
    return [row["id"] for row in done.json]


def test_life_of_a_volume(bollard, images, home):
    """Create, show, grow, list and delete a volume; each may be repeated."""
    for _ in range(2):
        made = bollard("pool", "create", "vol-1", "1GiB", "--name", "web", "--json").json
        assert (made["id"], made["name"], made["size"]) == ("vol-1", "web", 2**30)
    assert bollard("pool", "create", "vol-1", "2GiB").code == 5
    assert bollard("pool", "resize", "vol-1", "2GiB", "--json").json["size"] == 2**31
    assert bollard("pool", "resize", "vol-1", "1GiB").code == 2
    [row] = bollard("pool", "volumes", "--json").json
    assert row["size"] == 2**31
    assert images.image_info(home / "pool" / "volumes" / "vol-1.qcow2", "qcow2")["virtual-size"] == 2**31
    for _ in range(2):
        assert bollard("pool", "delete", "vol-1").code == 0
    assert bollard("pool", "volumes", "--json").json == []


def test_snapshots_and_revert(bollard, vol_1, write, images, home):
    """A volume goes back to what it was; one with snapshots is not deleted, and says what to delete."""
    image = home / "pool" / "volumes" / "vol-1.qcow2"
    taken = bollard("pool", "snapshot", vol_1, "monday", "--json").json
    assert (taken["id"], taken["volume"], taken["size"]) == ("monday", "vol-1", 64 * MIB)
    write("vol-1", "0x11")
    assert bollard("pool", "snapshots", "vol-1", "--json").json == [taken]
    assert bollard("pool", "revert", "vol-1", "monday").code == 0
    images.qemu_io(image, "qcow2", "read -P 0x5a 1M 64k")
    assert bollard("pool", "delete", "vol-1").code == 5
    for _ in range(2):
        assert bollard("pool", "delete-snapshot", "monday").code == 0
    assert bollard("pool", "delete", "vol-1").code == 0


def test_pools_of_the_configuration(bollard):
    """`list` shows what is configured, `--pool` chooses, the default is used without it."""
    assert [row["pool"] for row in bollard("pool", "list", "--json").json] == ["files", "ssd-1"]
    assert bollard("pool", "create", "vol-1", "64MiB", "--pool", "ssd-1").code == 0
    assert _ids(bollard("pool", "volumes", "-p", "ssd-1", "--json")) == ["vol-1"]
    assert _ids(bollard("pool", "volumes", "--json")) == []
    unknown = bollard("pool", "volumes", "--pool", "ssd1")
    assert unknown.code == 4
    assert "ssd-1" in unknown.err


def test_show_tells_capabilities_and_capacity(bollard):
    """Programs get exact figures and lists, people get readable ones."""
    shown = bollard("pool", "show", "--json").json
    assert shown["managed"] is False
    assert "snapshots" in shown["capabilities"]
    assert shown["caps"]["STORAGE_SYSTEM_SNAPSHOT"] == "false"
    assert 0 < shown["used"] <= shown["total"]
    text = bollard("pool", "show").out
    assert "STORAGE_SYSTEM_SNAPSHOT: false" in text
    assert "iB" in text


def test_migrate_moves_a_volume(bollard, vol_1, images, home):
    """The volume is on the other pool with its bytes and its name, and the command may be repeated."""
    bollard("pool", "snapshot", vol_1, "monday")
    assert bollard("pool", "migrate", vol_1, "--to", "ssd-1").code == 5
    for _ in range(2):
        moved = bollard("pool", "migrate", vol_1, "--to", "ssd-1", "--drop-snapshots", "--json").json
        assert (moved["id"], moved["name"], moved["size"]) == ("vol-1", "web", 64 * MIB)
    assert bollard("pool", "volumes", "--json").json == []
    images.qemu_io(home / "other" / "volumes" / "vol-1.qcow2", "qcow2", "read -P 0x5a 1M 64k")
    assert bollard("pool", "sweep", "--json").json == []
    back = bollard("pool", "migrate", vol_1, "--pool", "ssd-1", "--to", "files", "--no-verify")
    assert (back.code, "on files" in back.out) == (0, True)
    images.qemu_io(home / "pool" / "volumes" / "vol-1.qcow2", "qcow2", "read -P 0x5a 1M 64k")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("pool", "create", "vol-1", "10 GiB too much"), 2),
        (("pool", "create", "../etc", "1MiB"), 2),
        (("pool", "create", "vol-1", "513"), 2),
        (("pool", "create", "vol-1", "64MiB", "--max-iops", "10"), 9),
        (("pool", "create", "vol-1"), 2),
        (("pool", "resize", "vol-9", "1GiB"), 4),
        (("pool", "snapshot", "vol-9", "monday"), 4),
        (("pool", "revert", "vol-9", "monday"), 4),
        (("pool", "migrate", "vol-9", "--to", "ssd-1"), 4),
        (("pool", "migrate", "vol-9", "--to", "files"), 2),
        (("pool", "migrate", "vol-9", "--to", "ssd1"), 4),
        (("pool", "migrate", "vol-9"), 2),
        (("pool", "nonsense"), 2),
    ],
)
def test_what_cannot_be_done_has_its_exit_code(bollard, arguments, code):
    """Bad input is 2, what is missing 4, what the pool cannot do 9; standard output stays empty."""
    done = bollard(*arguments)

    assert done.code == code
    assert done.out == ""
    assert done.err


def test_sweep_removes_what_a_killed_command_left(bollard, vol_1, home):
    """--dry-run lists, sweep removes, a second sweep has nothing to do."""
    shown = bollard("pool", "show", "--json").json
    bollard("pool", "sweep")  # makes this machine's identity
    entry = Journal(home / "state" / "journal").begin(
        "fill", pool=shown["identity"], volume="vol-1", host="mover-1"
    )
    entry.release()  # as the kernel does when a process dies
    expected = [{"object": "fill vol-1"}]

    assert bollard("pool", "sweep", "--dry-run", "--json").json == expected
    assert _ids(bollard("pool", "volumes", "--json")) == ["vol-1"]
    assert bollard("pool", "sweep", "--json").json == expected
    assert bollard("pool", "volumes", "--json").json == []
    assert bollard("pool", "sweep").out == "Nothing was left behind.\n"
