"""Random histories with failures at any step: after a sync, records, pool, store and bytes agree."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bollard.core.access import Mover
from bollard.core.archive import Archive
from bollard.core.catalog import Catalog
from bollard.core.catalog.snapshots import RefState, SnapshotState
from bollard.core.journal import Journal
from bollard.core.mover import mover_host
from bollard.core.service.from_snapshot import VolumeRequest, to_volume
from bollard.core.service.from_snapshot_revert import revert
from bollard.core.service.from_snapshot_uses import Uses
from bollard.core.service.snapshots_tables import UseKind
from bollard.core.spi import StorageError
from bollard.transfer_objects.enums import DataStoreRole
from bollard.transfer_objects.ids import SnapshotId, VolumeId

from ..snapshots.snapshot_rig import Striker
from .conftest import files_pool, nfs_store
from .service_rig import START, Cloud, TestSite, call

SIZE = 65536
VOLUMES = [VolumeId("v-1"), VolumeId("v-2")]
SNAPSHOTS = [SnapshotId(f"s-{number}") for number in range(4)]
MADE = VolumeId("v-made")
# No fault in half of all calls; else at this call of a driver, before it or after it was done.
FAULTS = st.none() | st.tuples(st.integers(1, 12), st.booleans())


class Histories(RuleBasedStateMachine):
    """An orchestrator that is asked for anything in any order, over storage that fails now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a directory of its own in it
        directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory(dir=memory)))
        catalog = Catalog(f"sqlite:///{directory}/catalog.db")
        pool, store = files_pool("raw", directory / "raw", "raw"), nfs_store("nightly", directory / "store")
        for close in (catalog.close, pool.close, store.close):
            self.stack.callback(close)
        mover = Mover(host=mover_host(directory), journal=Journal(directory / "journal"))
        self.cloud = Cloud(directory, TestSite({"raw": pool}, {"nightly": store}, mover), catalog)
        self.striker = Striker()
        self.striker.watch(pool.driver, "create_snapshot", "delete_snapshot", "get_snapshot", "create_volume")
        self.striker.watch(pool.driver, "delete_volume", "create_volume_from_snapshot", "revert_volume")
        self.striker.watch(store.driver, "put", "delete", "get", "list", "head")
        self.content: dict[VolumeId, bytes] = {}
        self.cut: dict[str, tuple[VolumeId, bytes]] = {}
        self.clean = True

    @initialize()
    def volumes(self) -> None:
        """There are two volumes."""
        for number, volume in enumerate(VOLUMES):
            self.cloud.make(volume, "raw", size=SIZE)
            self.write(volume, number)

    def teardown(self) -> None:
        """Close everything."""
        self.stack.close()

    def attempt(self, fault: tuple[int, bool] | None, act: object) -> bool:
        """Do something that may fail; only with what the taxonomy has."""
        self.clean = fault is None and self.clean
        if fault is not None:
            self.striker.arm(fault[0], after=fault[1])
        try:
            act()  # type: ignore[operator]  # any callable
        except StorageError:
            return False
        finally:
            self.striker.arm(0)
        return True

    @rule(volume=st.sampled_from(VOLUMES), byte=st.integers(1, 255))
    def write(self, volume: VolumeId, byte: int) -> None:
        """A guest writes, unless the volume is half reverted."""
        data = bytes([byte]) * 8192
        if self.reverting(volume):
            return
        self.cloud.write(volume, data)
        self.content[volume] = data

    def reverting(self, volume: VolumeId) -> bool:
        """Whether a revert was begun, and not ended."""
        return Uses(self.cloud.catalog).find(UseKind.REVERT, volume) is not None

    @rule(
        snapshot=st.sampled_from(SNAPSHOTS),
        volume=st.sampled_from(VOLUMES),
        off=st.booleans(),
        wait=st.booleans(),
        fault=FAULTS,
    )
    def create(self, snapshot: SnapshotId, volume: VolumeId, off: bool, wait: bool, fault) -> None:
        """Somebody wants a snapshot, archived or not."""
        self.cloud.settings.set("snapshot.backup.to.secondary", not off)
        if not any(snapshot in self.cloud.on_pool(one) for one in VOLUMES):
            before = self.cloud.service.records.find(snapshot)
            if before is None or before.order.volume == volume:
                fresh = before is None or before.state in (SnapshotState.ERROR, SnapshotState.CREATING)
                if fresh:
                    self.cut[snapshot] = (volume, self.content[volume])
        self.attempt(fault, lambda: self.cloud.take(snapshot, volume, wait=wait))

    @rule(snapshot=st.sampled_from(SNAPSHOTS), keep=st.booleans(), fault=FAULTS)
    def archive(self, snapshot: SnapshotId, keep: bool, fault) -> None:
        """Somebody wants it archived."""
        self.attempt(fault, lambda: self.cloud.service.archive(snapshot, call(), keep_on_primary=keep))

    @rule(snapshot=st.sampled_from(SNAPSHOTS), fault=FAULTS)
    def delete(self, snapshot: SnapshotId, fault) -> None:
        """Somebody wants it no more."""
        self.attempt(fault, lambda: self.cloud.service.delete(snapshot, call()))

    @rule(snapshot=st.sampled_from(SNAPSHOTS))
    def cancel(self, snapshot: SnapshotId) -> None:
        """Somebody wants its backup no more."""
        self.attempt(None, lambda: self.cloud.service.cancel(snapshot))

    @rule(fault=FAULTS)
    def back_up(self, fault) -> None:
        """What is due is tried."""
        self.cloud.clock.now += 400
        for snapshot in self.cloud.service.records.due(10):
            self.attempt(fault, lambda name=snapshot: self.cloud.service.backup(SnapshotId(name), call()))

    @rule(snapshot=st.sampled_from(SNAPSHOTS), fault=FAULTS)
    def volume_of(self, snapshot: SnapshotId, fault) -> None:
        """Somebody wants a volume of it."""
        request = VolumeRequest(id=MADE, pool="raw")
        self.attempt(fault, lambda: to_volume(self.cloud.ctx, snapshot, request, call()))

    @rule(snapshot=st.sampled_from(SNAPSHOTS), fault=FAULTS)
    def put_back(self, snapshot: SnapshotId, fault) -> None:
        """Somebody wants the volume to be as it was then."""
        if self.attempt(fault, lambda: revert(self.cloud.ctx, snapshot, call())):
            volume, data = self.cut[snapshot]
            self.content[volume] = data
        else:  # by the pool it may have been done though the answer was lost
            self.look_again(snapshot)

    def look_again(self, snapshot: SnapshotId) -> None:
        """Find out which of its two contents a volume has after a revert with an unknown outcome."""
        volume, data = self.cut.get(snapshot, (None, b""))
        if volume is None or self.reverting(volume):
            return
        now = self.cloud.read(volume)[: len(data)]
        assert now in (data, self.content[volume])
        self.content[volume] = now

    @rule()
    def sync(self) -> None:
        """All that was left half is ended, and half-reverted volumes are as their snapshots."""
        halves = {v: s for s, (v, _) in self.cut.items() if self.reverting(v) and self.is_reverting_to(v, s)}
        self.cloud.sync()
        for volume, snapshot in halves.items():
            self.content[volume] = self.cut[snapshot][1]
        self.clean = True

    def is_reverting_to(self, volume: VolumeId, snapshot: str) -> bool:
        """Whether that is the snapshot which a volume is being put back to."""
        use = Uses(self.cloud.catalog).find(UseKind.REVERT, volume)
        return use is not None and use.snapshot == snapshot

    @invariant()
    def agrees(self) -> None:
        """Whenever nothing is left to do, everything is where the records say, with the right bytes."""
        if not self.content or not self.clean:
            return
        cloud = self.cloud
        archive = Archive(cloud.site.stores["nightly"])
        on_pool = {snapshot for volume in VOLUMES for snapshot in cloud.on_pool(volume)}
        images = {image.partition("/")[2] for image in cloud.images()}
        for snapshot in SNAPSHOTS:
            found = cloud.service.records.find(snapshot)
            ready = {ref.role for ref in found.refs if ref.state is RefState.READY} if found else set()
            assert (DataStoreRole.PRIMARY in ready) == (snapshot in on_pool)
            assert (DataStoreRole.IMAGE in ready) == (snapshot in images)
            if snapshot in images:
                volume, data = self.cut[snapshot]
                content = bytearray(len(data))
                with archive.open(call(), volume=volume, snapshot=snapshot) as source:
                    source.read_into(0, memoryview(content))
                assert content == data
        for name, data in self.content.items():
            assert cloud.read(VolumeId(name)).startswith(data)
        assert cloud.leftovers() == []
        assert cloud.clock.now >= START


Histories.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestHistories = Histories.TestCase
