"""`bollard snapshot`: the life of a chain, as an operator sees it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from increment_rig import MIB, IncrementRig, increment_rig


@pytest.fixture
def rig(bollard, home) -> Iterator[IncrementRig]:
    """Two pools with increments; the configuration of `home` is not looked at."""
    (home / "rig").mkdir()
    with increment_rig(home / "rig") as opened:
        yield opened


def _names(rows: list[dict[str, object]], *columns: str) -> list[tuple[object, ...]]:
    return [tuple(row[column] for column in columns) for row in rows]


def test_a_chain_from_its_full_to_its_end(rig: IncrementRig, bollard) -> None:
    """Taken, listed, restored, exported, reverted and deleted; each byte is that of its instant."""
    image = rig.make("vol-1")
    held = {}
    for number, name in enumerate(("monday", "tuesday"), 1):
        rig.write(image, f"{number}M 64k", number)
        held[name] = rig.content(image)
        taken = bollard("snapshot", "take", "vol-1", name, "--pool", "files", "--json")
        assert (taken.code, taken.json["snapshot"], taken.json["state"]) == (0, name, "CreatedOnPrimary")
        assert bollard("snapshot", "take", "vol-1", name, "-p", "files", "--json").json == taken.json
    rows = bollard("snapshot", "list", "--volume", "vol-1", "--json").json
    assert _names(rows, "snapshot", "parent", "store") == [
        ("monday", "", "pool:files"),
        ("tuesday", "monday", "pool:files"),
    ]
    assert "nothing" in bollard("snapshot", "list").out

    restored = bollard("snapshot", "restore", "tuesday", "vol-2", "-p", "files", "--json")
    assert (restored.code, restored.json["size"]) == (0, 4 * MIB)
    assert rig.content(image.with_name("vol-2.qcow2")) == held["tuesday"]
    file = rig.home / "out.qcow2"
    assert bollard("snapshot", "export", "monday", file, "-p", "files").code == 0
    assert rig.content(file) == held["monday"]
    rig.write(image, "3M 64k", 3)
    assert bollard("snapshot", "revert", "vol-1", "monday", "-p", "files").code == 0
    assert rig.content(image) == held["monday"]

    assert bollard("snapshot", "delete", "monday", "-p", "files").out == "deleted monday\n"
    assert _names(bollard("snapshot", "list", "--json").json, "snapshot") == [("tuesday",)]
    chain = bollard("snapshot", "chain", "vol-1", "--json").json
    assert _names(chain, "snapshot", "ref_state", "end_reason") == [
        ("monday", "Hidden", ""),
        ("tuesday", "Ready", "the volume was reverted"),
    ]
    assert "monday" in bollard("snapshot", "chain", "vol-1").out
    assert bollard("snapshot", "delete", "tuesday", "-p", "files", "--json").json == {"deleted": "tuesday"}
    assert (rig.files(), rig.bitmaps(image)) == ([], [])
    assert bollard("snapshot", "list").out == "No snapshots.\n"


def test_backups_go_to_the_nas_and_are_copied_to_an_archive(rig: IncrementRig, bollard) -> None:
    """A chain on a mounted directory, with the volume in a VM; a copy in an archive stands alone."""
    image = rig.make("vol-1", "other")
    rig.attach("vol-1")
    (rig.home / "store").mkdir()
    config = rig.home / "bollard.toml"
    table = f'[stores.nightly]\ndriver = "nfs"\noptions = {{ path = "{rig.home}/store" }}\n'
    config.write_text(config.read_text() + '\nsecondary = "nas"\nlongest_chain = 2\n' + table)
    for name in ("one", "two", "three"):
        assert bollard("snapshot", "take", "vol-1", name, "--pool", "other").code == 0
    rows = bollard("snapshot", "list", "--json").json
    assert _names(rows, "snapshot", "parent", "full_reason") == [
        ("one", "", "the volume has no snapshot with a checkpoint"),
        ("two", "one", ""),
        ("three", "", "the chain has reached snapshot.delta.max"),
    ]
    assert {row["store"] for row in rows} == {"directory:nas"}

    assert bollard("snapshot", "copy", "two", "--to", "nightly", "-p", "other").code == 0
    (rig.home / "nas").rename(rig.home / "away")
    assert bollard("snapshot", "restore", "two", "vol-3", "-p", "other").code == 6
    assert bollard("snapshot", "restore", "two", "vol-3", "--store", "nightly", "-p", "other").code == 0
    assert image.with_name("vol-3.raw").read_bytes() == image.read_bytes()
    file = rig.home / "out.qcow2"
    assert bollard("snapshot", "export", "one", file, "--store", "nightly", "-p", "other").code == 4
    assert bollard("snapshot", "export", "two", file, "--store", "nightly", "-p", "other").code == 0
    (rig.home / "away").rename(rig.home / "nas")
    assert bollard("snapshot", "delete", "two", "--store", "nas", "-p", "other").code == 0
    assert bollard("snapshot", "restore", "two", "vol-2", "-p", "other").code == 0
    assert image.with_name("vol-2.raw").read_bytes() == image.read_bytes()
    assert bollard("snapshot", "free", "vol-1", "-p", "other").code == 0


REFUSED = [
    (("take", "vol-9", "s"), 4, "vol-9"),
    (("take", "vol-1", "Not An Id"), 2, "is not valid"),
    (("restore", "monday", "vol-1"), 5, "is not overwritten"),
    (("restore", "never", "vol-2"), 4, "there is no snapshot never"),
    (("revert", "vol-1", "never"), 4, "there is no snapshot never"),
    (("copy", "monday", "--to", "moon"), 4, "no directory and no store 'moon'"),
    (("delete", "monday", "--pool", "other"), 4, "there is no store 'pool:files'"),
    (("delete", "never"), 4, "there is no snapshot never"),
    (("take", "vol-1", "s", "--pool", "tape"), 4, "no pool with"),
]


def test_what_cannot_be_is_refused_and_leaves_nothing(rig: IncrementRig, bollard) -> None:
    """With the usual exit code, and without an intent that a sync would have to end."""
    rig.make("vol-1")
    assert bollard("snapshot", "take", "vol-1", "monday", "--pool", "files").code == 0
    before = rig.files()
    for arguments, code, message in REFUSED:
        pool = () if "--pool" in arguments else ("--pool", "files")
        failed = bollard("snapshot", *arguments, *pool, "--json")
        assert (failed.code, message in failed.json["error"]["message"]) == (code, True), failed.out
    assert rig.files() == before
    assert bollard("sync", "--dry-run", "--json").json["found"] == []
    assert _names(bollard("snapshot", "list", "--json").json, "snapshot", "state") == [
        ("monday", "CreatedOnPrimary")
    ]


def test_a_volume_with_vm_snapshots_is_refused(rig, bollard) -> None:
    """The pool's own file is not what the VM writes to, and an overlay would stand on another content."""
    image = rig.make("vol-1")
    assert bollard("snapshot", "take", "vol-1", "monday", "--pool", "files").code == 0
    image.with_name("vol-1.before").write_bytes(b"an overlay")
    for act in (("take", "vol-1", "next"), ("revert", "vol-1", "monday")):
        failed = bollard("snapshot", *act, "--pool", "files")
        assert (failed.code, "stands on" in failed.err) == (5, True)
    assert bollard("sync", "--dry-run", "--json").json["found"] == []
