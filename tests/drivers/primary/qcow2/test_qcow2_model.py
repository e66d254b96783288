"""The qcow2 driver against a dictionary: random histories on tiny volumes, every byte compared."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bollard.core.spi import (
    Call,
    Conflict,
    HasDependents,
    InvalidArgument,
    NotFound,
    StorageError,
    VolumeSpec,
)
from bollard.transfer_objects.ids import SnapshotId, VolumeId
from qcow2_rig import opened, qemu_io

BLOCK = 4096
VOLUMES = st.sampled_from([VolumeId("a"), VolumeId("a-b"), VolumeId("c")])
SNAPSHOTS = st.sampled_from([SnapshotId("s"), SnapshotId("s-t"), SnapshotId("u")])
BLOCKS = st.integers(1, 4)


class Pool(RuleBasedStateMachine):
    """Model: volumes and snapshots are byte strings; an empty history is an empty directory."""

    image_format = "raw"

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp(prefix="bollard-model-"))
        self.volumes: dict[VolumeId, bytes] = {}
        self.origins: dict[VolumeId, str] = {}
        self.snapshots: dict[SnapshotId, tuple[VolumeId, bytes]] = {}
        self.reopen()

    @rule()
    def reopen(self) -> None:
        """Another process takes over: nothing may be kept in memory."""
        self.driver = opened(self.path, self.image_format)

    def expect(self, error: type[StorageError] | None, act) -> None:
        """Run `act`, which must end as the model says."""
        if error is None:
            act()
        else:
            with pytest.raises(error):
                act()

    def creation(self, volume: VolumeId, origin: str, least: bytes | None, size: int):
        """Return the error that a creation must give, and record it if there is none."""
        if volume in self.volumes:
            same = (len(self.volumes[volume]), self.origins[volume]) == (size, origin)
            return None if same else Conflict
        if least is None:
            return NotFound
        if size < len(least):
            return InvalidArgument
        self.volumes[volume] = least.ljust(size, b"\0")
        self.origins[volume] = origin
        return None

    @rule(volume=VOLUMES, blocks=BLOCKS)
    def create(self, volume, blocks) -> None:
        """create_volume."""
        size = blocks * BLOCK
        error = self.creation(volume, "empty", b"", size)
        self.expect(error, lambda: self.driver.create_volume(VolumeSpec(id=volume, size=size), Call()))

    @rule(source=VOLUMES, volume=VOLUMES, blocks=BLOCKS)
    def clone(self, source, volume, blocks) -> None:
        """clone_volume."""
        size, spec = blocks * BLOCK, VolumeSpec(id=volume, size=blocks * BLOCK)
        error: type[StorageError] | None = InvalidArgument if source == volume else None
        error = error or self.creation(volume, f"volume:{source}", self.volumes.get(source), size)
        self.expect(error, lambda: self.driver.clone_volume(source, spec, Call()))

    @rule(snapshot=SNAPSHOTS, volume=VOLUMES, blocks=BLOCKS)
    def restore(self, snapshot, volume, blocks) -> None:
        """create_volume_from_snapshot."""
        size, spec = blocks * BLOCK, VolumeSpec(id=volume, size=blocks * BLOCK)
        least = self.snapshots.get(snapshot, (None, None))[1]
        error = self.creation(volume, f"snapshot:{snapshot}", least, size)
        self.expect(error, lambda: self.driver.create_volume_from_snapshot(snapshot, spec, Call()))

    @rule(volume=VOLUMES, block=st.integers(0, 3), byte=st.integers(0, 255))
    def write(self, volume, block, byte) -> None:
        """A guest writes a block."""
        old = self.volumes.get(volume, b"")
        if (block + 1) * BLOCK > len(old):
            return
        self.volumes[volume] = old[: block * BLOCK] + bytes([byte]) * BLOCK + old[(block + 1) * BLOCK :]
        place = self.driver.locate_volume(volume, Call())
        qemu_io(place.path, place.format, f"write -P {byte} {block * BLOCK} {BLOCK}")

    @rule(volume=VOLUMES, blocks=BLOCKS)
    def resize(self, volume, blocks) -> None:
        """resize_volume."""
        size = blocks * BLOCK
        error: type[StorageError] | None = None
        if volume not in self.volumes:
            error = NotFound
        elif size < len(self.volumes[volume]):
            error = InvalidArgument
        else:
            self.volumes[volume] = self.volumes[volume].ljust(size, b"\0")
        self.expect(error, lambda: self.driver.resize_volume(volume, size, Call()))

    @rule(volume=VOLUMES, snapshot=SNAPSHOTS)
    def snapshot(self, volume, snapshot) -> None:
        """create_snapshot."""
        error: type[StorageError] | None = None
        if snapshot in self.snapshots:
            error = None if self.snapshots[snapshot][0] == volume else Conflict
        elif volume not in self.volumes:
            error = NotFound
        else:
            self.snapshots[snapshot] = (volume, self.volumes[volume])
        self.expect(error, lambda: self.driver.create_snapshot(volume, snapshot, Call()))

    @rule(volume=VOLUMES, snapshot=SNAPSHOTS)
    def revert(self, volume, snapshot) -> None:
        """revert_volume."""
        error: type[StorageError] | None = None
        if volume not in self.volumes or snapshot not in self.snapshots:
            error = NotFound
        elif self.snapshots[snapshot][0] != volume:
            error = InvalidArgument
        else:
            self.volumes[volume] = self.snapshots[snapshot][1]
        self.expect(error, lambda: self.driver.revert_volume(volume, snapshot, Call()))

    @rule(snapshot=SNAPSHOTS)
    def delete_snapshot(self, snapshot) -> None:
        """delete_snapshot."""
        self.snapshots.pop(snapshot, None)
        self.driver.delete_snapshot(snapshot, Call())

    @rule(volume=VOLUMES)
    def delete(self, volume) -> None:
        """delete_volume."""
        if any(owner == volume for owner, _ in self.snapshots.values()):
            self.expect(HasDependents, lambda: self.driver.delete_volume(volume, Call()))
        else:
            self.volumes.pop(volume, None)
            self.driver.delete_volume(volume, Call())

    @invariant()
    def listed_as_in_the_model(self) -> None:
        """Listings and sizes equal the model's."""
        volumes = {v.id: v.size for v in self.driver.list_volumes(Call()).items}
        assert volumes == {volume: len(content) for volume, content in self.volumes.items()}
        for volume in self.volumes:
            listed = {s.id: s.size for s in self.driver.list_snapshots(volume, Call()).items}
            wanted = {s: len(content) for s, (owner, content) in self.snapshots.items() if owner == volume}
            assert listed == wanted

    def teardown(self) -> None:
        """Compare every byte at the end of a history."""
        try:
            for volume, content in self.volumes.items():
                assert self.bytes_of(self.driver.locate_volume(volume, Call())) == content
            for snapshot, (_, content) in self.snapshots.items():
                assert self.bytes_of(self.driver.locate_snapshot(snapshot, Call())) == content
        finally:
            shutil.rmtree(self.path)

    def bytes_of(self, place) -> bytes:
        """What a guest reads."""
        if place.format == "raw":
            return place.path.read_bytes()
        raw = self.path / "read.raw"
        subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", place.path, raw], check=True)
        return raw.read_bytes()


class Qcow2Pool(Pool):
    """The same with qcow2 images."""

    image_format = "qcow2"


TestRawHistories = Pool.TestCase
TestRawHistories.settings = settings(stateful_step_count=30, max_examples=20, print_blob=True)
TestQcow2Histories = Qcow2Pool.TestCase
TestQcow2Histories.settings = settings(stateful_step_count=25, max_examples=8, print_blob=True)
