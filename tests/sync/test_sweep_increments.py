"""`bollard sweep` and incremental snapshots: what no record and no intent needs goes, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bollard.core.service.increments import increments_of
from bollard.core.service.leftovers import End
from bollard.core.snapshots import kvm
from bollard.core.spi import Call
from bollard.transfer_objects.ids import SnapshotId, VolumeId
from increment_rig import IncrementRig, increment_rig
from qemu_backups import run

SNAPSHOTS, CHECKPOINTS = "files/increments/snapshots", "files/increments/checkpoints"


@pytest.fixture
def rig(tmp_path) -> Iterator[IncrementRig]:
    """Two pools and two clusters."""
    with increment_rig(tmp_path) as opened:
        yield opened


@pytest.fixture
def image(rig: IncrementRig) -> Path:
    """A volume with a snapshot, and one more that is in Error."""
    made = rig.make("vol-1")
    rig.take("vol-1", "here")
    assert rig.dies_taking("vol-1", "gone", 12)
    assert [one.after for one in rig.sync().ended] == ["Error"]
    return made


def _plant(rig: IncrementRig, *files: str) -> None:
    for file in files:
        (rig.home / file).parent.mkdir(exist_ok=True)
        (rig.home / file).write_bytes(b"left behind")
    rig.age(*files)


def test_files_of_snapshots_that_are_gone_go(rig: IncrementRig, image: Path) -> None:
    """Whole ones and parts, with their texts; what lives, is young, or nobody here has heard of stays."""
    left = [f"{CHECKPOINTS}/gone", f"{SNAPSHOTS}/gone", f"{SNAPSHOTS}/here.part"]
    _plant(rig, *left, f"{SNAPSHOTS}/theirs", f"{SNAPSHOTS}/Not an id", "nas/snapshots/gone")
    rig.age(f"{SNAPSHOTS}/here")
    _plant(rig, f"{SNAPSHOTS}/gone.part")
    rig.age(f"{SNAPSHOTS}/gone.part", seconds=1800)
    before = rig.files()
    found = [("increment", name.removeprefix("files/increments/")) for name in sorted(left)]
    found.sort(key=lambda one: not one[1].startswith("snapshots"))

    assert rig.sweep(dry_run=True) == [(*one, End.FOUND) for one in found]
    assert rig.files() == before
    assert rig.sweep() == [(*one, End.REMOVED) for one in found]
    assert rig.files() == sorted(set(before) - set(left))
    assert rig.sweep() == []
    assert rig.restored("files", "here") == rig.content(image)


def test_bitmaps_of_snapshots_that_are_gone_go(rig: IncrementRig, image: Path) -> None:
    """That of a living snapshot stays, and so does one that no snapshot here is called like."""
    for name in ("gone", "theirs"):
        run("qemu-img", "bitmap", "--add", "-f", "qcow2", image, name)

    rig.make("vol-2", "other")
    rig.attach("vol-2")
    assert rig.dies_taking("vol-2", "gone-too", 12, "other")
    assert [one.after for one in rig.sync().ended] == ["Error"]
    overlay = image.with_name("vol-1.before")
    overlay.touch()
    assert rig.sweep() == []  # nobody knows which image is the newest
    overlay.unlink()
    assert rig.sweep(dry_run=True) == [("bitmap", "vol-1/gone", End.FOUND)]
    assert sorted(rig.bitmaps(image)) == ["gone", "here", "theirs"]
    assert rig.sweep() == [("bitmap", "vol-1/gone", End.REMOVED)]
    assert sorted(rig.bitmaps(image)) == ["here", "theirs"]
    assert rig.sweep() == []


def test_what_an_intent_tells_of_is_left_to_the_sync(rig: IncrementRig, image: Path) -> None:
    """However old it is: the sync brings it to an end, and then nothing is left to sweep."""
    rig.write(image, "1M 64k")
    assert rig.dies_taking("vol-1", "half", 12)
    _plant(rig, f"{SNAPSHOTS}/half.part", f"{SNAPSHOTS}/gone")
    run("qemu-img", "bitmap", "--add", "-f", "qcow2", image, "gone")
    assert rig.sweep(older_than=0) == []

    assert [one.after for one in rig.sync().ended] == ["Error"]
    assert f"{SNAPSHOTS}/half.part" not in rig.files()
    assert {name for _, name, _ in rig.sweep(older_than=0)} == {"snapshots/gone", "vol-1/gone"}
    assert rig.sweep(older_than=0) == []


def test_a_directory_that_is_not_mounted_has_nothing_to_tell(rig: IncrementRig, image: Path) -> None:
    """Nothing is made in its place, and a snapshot that would go there is refused."""
    assert image.exists()
    (rig.home / "files/increments").rename(rig.home / "away")
    assert rig.sweep(older_than=0) == []
    with pytest.raises(Exception, match="is it mounted"):
        rig.take("vol-1", "next")
    assert not (rig.home / "files/increments").exists()


def test_what_a_living_process_makes_is_left_alone(rig: IncrementRig, image: Path) -> None:
    """A sync and a sweep in the midst of a take find nothing, however young a leftover may be."""
    rig.write(image, "1M 64k")
    seen: list[object] = []

    def look(_done: int, _total: int | None) -> None:
        if not seen:
            seen.extend([rig.sync().planned, rig.sweep(older_than=0)])

    site = increments_of(rig.site(), "files")
    slow = Call.within(60, progress=look)
    kvm.take(site.engine, site.place(VolumeId("vol-1")), SnapshotId("next"), slow)
    assert seen == [[], []]
    assert rig.restored("files", "next") == rig.content(image)
