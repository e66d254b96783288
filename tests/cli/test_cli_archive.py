"""`bollard archive …`: out to secondary storage and back, with every byte checked."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

MIB = 2**20


def _volume(home: Path, volume: str, pool: str = "pool") -> Path:
    return home / pool / "volumes" / f"{volume}.qcow2"


def _part(home: Path, snapshot: str) -> Path:
    [part] = (home / "store" / "v1" / "vol-1" / snapshot).rglob("*.zip")
    return part


def _damage(part: Path) -> None:
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.chmod(0o600)
    part.write_bytes(data)


def _snapshots(bollard) -> list[str]:
    return [row["id"] for row in bollard("pool", "snapshots", "vol-1", "--json").json]


@pytest.fixture
def two(bollard, vol_1, write) -> None:
    """Monday's full and Tuesday's increment, both on the pool, too."""
    assert bollard("archive", "create", "vol-1", "monday").code == 0
    write("vol-1", "0x77", "2M")
    assert bollard("archive", "create", "vol-1", "tuesday").code == 0


def test_first_is_a_full_and_next_ones_are_increments(bollard, vol_1, write):
    """`auto` takes the newest as parent; `none` makes a full, an id makes an increment to that one."""
    made: dict[str, Any] = {}
    for name, options in [
        ("monday", ()),
        ("tuesday", ()),
        ("wednesday", ("--parent", "monday")),
        ("thursday", ("--parent", "none")),
        ("friday", ()),
    ]:
        write("vol-1", f"{len(made) + 1}", "3M")
        made[name] = bollard("archive", "create", "vol-1", name, *options, "--json").json

    assert [made[name]["parent"] for name in made] == [None, "monday", "monday", None, "thursday"]
    assert made["tuesday"]["stored"] > 0
    assert made["tuesday"]["reads"] > made["tuesday"]["stored"]
    assert made["monday"]["size"] == 64 * MIB


def test_repeating_a_create_changes_nothing(bollard, two):
    """The same ids give the same manifest, also when there is a newer snapshot by now."""
    first = bollard("archive", "show", "vol-1", "monday", "--json").json

    assert bollard("archive", "create", "vol-1", "monday", "--json").json == first
    assert len(bollard("archive", "list", "--json").json) == 2


def test_snapshot_id_is_made_when_none_is_given(bollard, vol_1):
    """The fresh id is told on standard error before the work begins, so that it can be repeated."""
    done = bollard("archive", "create", "vol-1", "--json")

    assert done.json["snapshot"].startswith("snap-")
    assert done.json["snapshot"] in done.err


def test_keep_and_release(bollard, vol_1):
    """Where nothing tracks changes the primary snapshot goes, unless --keep; a later run may release it."""
    bollard("archive", "create", "vol-1", "monday", "--keep")
    assert _snapshots(bollard) == ["monday"]
    bollard("archive", "create", "vol-1", "tuesday")
    assert _snapshots(bollard) == ["monday"]
    bollard("archive", "create", "vol-1", "monday", "--release")
    assert _snapshots(bollard) == []
    assert len(bollard("archive", "list", "--json").json) == 2


def test_release_keeps_the_snapshot_if_the_archive_is_damaged(bollard, vol_1, home):
    """Exit code 8, and the pool still has the only good copy."""
    bollard("archive", "create", "vol-1", "monday", "--keep")
    _damage(_part(home, "monday"))
    done = bollard("archive", "create", "vol-1", "monday", "--release")

    assert done.code == 8
    assert "primary one stays" in done.err
    assert _snapshots(bollard) == ["monday"]


def test_collect_wants_a_word_where_listings_lag(bollard, vol_1, home):
    """A store that may list late is not collected without --trust-listing, which the error names."""
    bollard("archive", "create", "vol-1", "monday")
    config = home / "bollard.toml"
    config.write_text(config.read_text().replace('/store"', '/store", url = "nfs://h/e"'))
    refused = bollard("archive", "collect")
    assert refused.code == 2
    assert "--trust-listing" in refused.err


def test_list_and_show(bollard, two):
    """Both tell the same; --volume filters; sizes are exact for programs."""
    rows = bollard("archive", "list", "--json").json

    assert [row["snapshot"] for row in rows] == ["monday", "tuesday"]
    assert rows[1] == bollard("archive", "show", "vol-1", "tuesday", "--json").json
    assert bollard("archive", "list", "--volume", "vol-9", "--json").json == []
    assert "64 MiB" in bollard("archive", "list").out
    digest = rows[1]["digest"]
    assert digest in bollard("archive", "show", "vol-1", "tuesday").out.replace("\n", "")


def test_verify_of_what_is_whole(bollard, two):
    """Every level passes, and reports how much it looked at."""
    for level in range(1, 6):
        done = bollard("archive", "verify", "vol-1", "tuesday", "--level", level, "--json")
        assert done.code == 0
        assert (done.json["level"], done.json["parts"], done.json["problems"]) == (level, 2, [])
    assert bollard("archive", "verify", "vol-1", "tuesday", "--level", "6").code == 2
    assert bollard("archive", "verify", "vol-1", "tuesday", "--percent", "0").code == 2


def test_verify_names_the_damaged_part(bollard, two, home):
    """Exit code 8; the part is named to people and to programs, and restore refuses it, too."""
    _damage(_part(home, "monday"))
    name = _part(home, "monday").name
    told = bollard("archive", "verify", "vol-1", "tuesday")
    machine = bollard("archive", "verify", "vol-1", "tuesday", "--json")

    assert (told.code, machine.code) == (8, 8)
    assert name in told.err
    assert "1 problems" in told.out
    [problem] = machine.json["problems"]
    assert name in problem
    restored = bollard("archive", "restore", "vol-1", "tuesday", "vol-2", "--json")
    assert restored.code == 8
    assert name in restored.json["error"]["message"]
    assert [v["id"] for v in bollard("pool", "volumes", "--json").json] == ["vol-1"]


def test_restore_to_another_pool(bollard, two, home, images):
    """Each snapshot comes back as it was, in a new volume of any pool."""
    for snapshot, byte in (("monday", "0x00"), ("tuesday", "0x77")):
        new = f"{snapshot}-again"
        done = bollard(
            "archive", "restore", "vol-1", snapshot, new, "--pool", "ssd-1", "--name", "back", "--json"
        )
        assert done.json["volume"] == new
        image = _volume(home, new, "other")
        images.qemu_io(image, "qcow2", "read -P 0x5a 1M 64k", f"read -P {byte} 2M 64k")


def test_delete_frees_what_nobody_needs(bollard, two):
    """The increment survives the deletion of its parent; a missing one is fine."""
    assert bollard("archive", "delete", "vol-1", "monday", "--json").json["freed"] == 0
    assert bollard("archive", "verify", "vol-1", "tuesday", "--level", "5").code == 0
    assert bollard("archive", "delete", "vol-1", "tuesday", "--json").json["freed"] > 0
    assert bollard("archive", "delete", "vol-1", "tuesday").code == 0
    assert bollard("archive", "list", "--json").json == []
    assert bollard("archive", "list").out == "The archive is empty.\n"


def test_collect_frees_parts_without_a_manifest(bollard, two, home):
    """What a killed run left goes; with no intent alive nothing is kept back."""
    for name in ("manifest.json", "begin.json"):
        [path] = (home / "store" / "v1" / "vol-1" / "tuesday").rglob(name)
        path.unlink()
    [row] = bollard("archive", "collect", "--json").json

    assert (row["volume"], row["parts"], row["kept"]) == ("vol-1", 1, 0)
    assert row["size"] > 0
    assert bollard("archive", "collect", "vol-1", "--json").json[0]["parts"] == 0


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_export_and_import(bollard, two, home, images, image_format):
    """An exported image equals the volume, and comes back in as a snapshot of another one."""
    out = home / f"vol.{image_format}"
    chosen = ("--format", image_format)
    assert bollard("archive", "export", "vol-1", "tuesday", out, *chosen, "--json").json["size"] == 64 * MIB
    assert images.same(out, image_format, _volume(home, "vol-1"), "qcow2")
    assert bollard("archive", "export", "vol-1", "tuesday", out, *chosen).code == 5
    assert list(home.glob("*.part")) == []
    imported = bollard("archive", "import", out, "old-1", "first", *chosen, "--json").json
    shown = bollard("archive", "show", "vol-1", "tuesday", "--json").json
    assert imported["digest"] == shown["digest"]


def test_import_states_the_format(bollard, home, images):
    """What is not of the stated format, or has a backing file, is bad input; so is a missing file."""
    images.create_raw(home / "a.raw", MIB)
    images.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", home / "a.raw", "-F", "raw", home / "b.qcow2")

    for name in ("a.raw", "b.qcow2", "c.qcow2"):
        assert bollard("archive", "import", home / name, "bad-1", "first").code == 2
    assert bollard("archive", "list", "--json").json == []


def test_only_people_see_progress(bollard, vol_1, monkeypatch):
    """Neither with --json nor with --quiet does a terminal get anything but the answer."""
    monkeypatch.setattr("bollard.cli.output.err._force_terminal", True)
    monkeypatch.setattr("bollard.cli.output.err.is_interactive", True)
    monkeypatch.setenv("TERM", "xterm")
    quiet = bollard("--quiet", "archive", "create", "vol-1", "monday")
    machine = bollard("archive", "create", "vol-1", "tuesday", "--json")

    assert (quiet.code, quiet.err) == (0, "")
    assert (machine.code, machine.err) == (0, "")


def test_an_archive_can_be_compressed(bollard, vol_1, home, tmp_path):
    """With --compression auto text takes a fraction of its size, and comes back the same."""
    text, back = tmp_path / "text.raw", tmp_path / "back.raw"
    text.write_bytes(b"the quick brown fox jumps over the lazy dog\n" * 50_000)
    size = text.stat().st_size // 512 * 512
    os.truncate(text, size)
    image = ("archive", "import", text, "vol-9")
    plain = bollard(*image, "plain", "--format", "raw", "--json").json
    packed = bollard(*image, "packed", "--format", "raw", "--compression", "auto", "--json").json
    assert packed["stored"] < plain["stored"] / 10
    assert packed["digest"] == plain["digest"]
    assert bollard("archive", "export", "vol-9", "packed", back, "--format", "raw").code == 0
    assert back.read_bytes() == text.read_bytes()


@pytest.mark.parametrize(
    "command", [("create", "vol-1", "monday"), ("fleet", "--run", "monday", "--all", "--pool", "files")]
)
def test_a_volume_is_archived_compressed(bollard, vol_1, home, command):
    """Both ways of archiving volumes pass the wish on: what shrinks is stored as zstd."""
    assert bollard("archive", *command, "--compression", "zstd").code == 0
    [part] = (home / "store" / "v1" / "vol-1").rglob("*.zip")
    with zipfile.ZipFile(part) as parts:
        assert {info.compress_type for info in parts.infolist() if info.filename.endswith(".data")} == {93}
