"""A site with managed storage: two iSCSI arrays, directories, stores, and hosts that boot from a disk.

    near, far    arrays (tgtd, XFS, SSH)        each host has an IQN and a CHAP account of its own
    files spare  directories of qcow2           all hosts see them
    nfs s3 swift secondary storage              an archive on each

It acts as an orchestrator does: create, grant, introduce, attach, start; detach, forget, revoke.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import swiftclient

from bollard.core.access import Mover
from bollard.core.archive import Archive
from bollard.core.dataplane import copy, open_qcow2_source
from bollard.core.events import Event, Phase
from bollard.core.fence import Fence
from bollard.core.handover import Handover
from bollard.core.journal import Journal
from bollard.core.mover import mover_host
from bollard.core.pool import Pool
from bollard.core.snapshots import VolumeSnapshots
from bollard.core.spi import (
    FenceDriver,
    FileLocation,
    ImageStoreDriver,
    Introduced,
    Introduction,
    ObjectKind,
    Snapshot,
    VolumeSpec,
    parse_options,
)
from bollard.core.store import Store
from bollard.core.vm_snapshots import Hypervisor
from bollard.core.vm_snapshots.quiesce import frozen
from bollard.drivers.hypervisor.kvm import KvmDriver
from bollard.drivers.primary.iscsi_ssh import IscsiSshDriver
from bollard.drivers.primary.qcow2 import Qcow2Driver
from bollard.drivers.secondary.nfs import NfsDriver
from bollard.drivers.secondary.s3 import S3Driver
from bollard.drivers.secondary.swift import SwiftDriver
from bollard.simulators.s3 import S3Simulator
from bollard.simulators.swift import SwiftSimulator
from bollard.transfer_objects.ids import HostId, SnapshotId, VmId, VolumeId
from iscsi_array import IscsiArray
from iscsi_rig import host as identity_of
from iscsi_rig import prepared_array, typed_options
from kvm_driving import call, driver_for
from kvm_lab import disk_images
from kvm_lab.guests import Guest
from kvm_lab.host import Host
from kvm_lab.vms import Vm
from kvm_orchestrator import Orchestrator
from kvm_root_disk import define

MIB = 1024 * 1024
SIZE = 64 * MIB
_KEY = "correct-horse-battery"


class ManagedSite:
    """Everything that an orchestrator knows; use as a context manager.

    Args:
        directory: seen by all hosts; a short path.
        home: for the arrays' disks and the stores.

    Attributes:
        operations: what `near` has done, in order.
    """

    def __init__(self, directory: Path, home: Path, *hosts: Host) -> None:
        self.directory = directory
        self.hosts = {host.name: host for host in hosts}
        self.operations: list[str] = []
        self._home = home
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            self.arrays = {name: self._array(name) for name in ("near", "far")}
            self.near, self.far = (self._lun_pool(name) for name in ("near", "far"))
            self.files, self.spare = self._files_pool("files"), self._files_pool("spare")
            self.stores = {name: self._store(name) for name in ("nfs", "s3", "swift")}
            self.journal = self._home / "journal"
            self.mover = Mover(host=mover_host(self._home), journal=Journal(self.journal))
            self.driver: KvmDriver = driver_for(self.directory, *self.hosts.values())
            self._stack.callback(self.driver.close)
            self._stack.callback(self._forget_all)
            self.hypervisor = Hypervisor("kvm", self.driver)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _forget_all(self) -> None:
        """Leave no secret on hosts that others use, too."""
        for host in self.hosts.values():
            host.start()
            for path in (self.directory / "state" / host.name / "introduced").glob("*.json"):
                kind, _, volume = path.stem.partition(".")
                self.driver.forget(ObjectKind(kind), volume, HostId(host.name), call())

    # -- backends ------------------------------------------------------------------------------------------

    def _array(self, name: str) -> IscsiArray:
        (self._home / name).mkdir()
        return self._stack.enter_context(prepared_array(self._home / name))

    def _lun_pool(self, name: str) -> Pool:
        driver = IscsiSshDriver(typed_options(self.arrays[name]))
        pool = Pool(name, driver, observe=self._observe if name == "near" else lambda _: None)
        self._stack.callback(pool.close)
        return pool

    def _observe(self, event: Event) -> None:
        if event.phase is Phase.SUCCEEDED:
            self.operations.append(event.operation)

    def _files_pool(self, name: str) -> Pool:
        (self.directory / name).mkdir()
        options = parse_options(Qcow2Driver.Options, {"path": self.directory / name})
        pool = Pool(name, Qcow2Driver(options))
        self._stack.callback(pool.close)
        return pool

    def _store(self, name: str) -> Store:
        (self._home / f"{name}-state").mkdir()
        makers: Mapping[str, Callable[[Path], ImageStoreDriver[Any]]]
        makers = {"nfs": self._nfs, "s3": self._s3, "swift": self._swift}
        store = Store(name, makers[name](self._home / f"{name}-state"))
        store.open(call())
        self._stack.callback(store.close)
        return store

    def _nfs(self, state: Path) -> NfsDriver:
        return NfsDriver(parse_options(NfsDriver.Options, {"path": state}))

    def _s3(self, state: Path) -> S3Driver:
        server = self._stack.enter_context(S3Simulator(state, buckets=["archive"]))
        options = {"endpoint_url": server.url, "bucket": "archive", "access_key": "a", "secret_key": _KEY}
        return S3Driver(parse_options(S3Driver.Options, options))

    def _swift(self, state: Path) -> SwiftDriver:
        server = self._stack.enter_context(SwiftSimulator(state, users={"test:tester": _KEY}))
        connection = swiftclient.Connection(authurl=server.auth_url, user="test:tester", key=_KEY)
        connection.put_container("archive")
        connection.close()
        account = {"account": "test", "user_name": "tester", "key": _KEY, "container": "archive"}
        return SwiftDriver(parse_options(SwiftDriver.Options, {"url": server.auth_url, **account}))

    # -- volumes -------------------------------------------------------------------------------------------

    def service(self, pool: Pool, store: str) -> VolumeSnapshots:
        """Snapshots of a pool's volumes, archived on a store."""
        return VolumeSnapshots(pool=pool, archive=Archive(self.stores[store]), mover=self.mover)

    def create(self, pool: Pool, volume: VolumeId, *, formatted: bool = True) -> None:
        """Make a volume, with an ext4 on it."""
        pool.volumes.create(VolumeSpec(id=volume, size=SIZE))
        if not formatted:
            return
        image = self.directory / "ext4.qcow2"
        if not image.exists():
            disk_images.qcow2(image, SIZE)
        with open_qcow2_source(image) as source, self.mover.writing_volume(pool, volume) as sink:
            copy(source, sink)
            sink.flush()

    def introduction(self, pool: Pool, volume: VolumeId, host: Host) -> Introduction:
        """Grant a volume to a host, and say what the host must find."""
        shown = pool.volumes.get(volume)
        if pool.managed:
            location, identity = pool.volumes.grant(volume, identity_of(host.name)), shown.identity
        else:
            location = pool.volumes.locate(volume)
            assert isinstance(location, FileLocation)
            identity = str(location.path.resolve())
        return Introduction(
            kind=ObjectKind.VOLUME,
            object_id=volume,
            host=HostId(host.name),
            location=location,
            identity=identity,
            size=shown.size,
        )

    def give(self, pool: Pool, volume: VolumeId, vm: Vm) -> Introduced:
        """Grant, introduce, attach: running or not."""
        known = self.driver.introduce(self.introduction(pool, volume, vm.host), call())
        self.driver.attach(VmId(vm.name), known, call())
        return known

    def take_away(self, pool: Pool, known: Introduced, vm: Vm) -> None:
        """Detach, forget, revoke."""
        self.driver.detach(VmId(vm.name), known, call())
        self.driver.forget(ObjectKind.VOLUME, known.object_id, known.host, call())
        if pool.managed:
            pool.volumes.revoke(VolumeId(known.object_id), known.host)

    # -- guests --------------------------------------------------------------------------------------------

    def boot(self, name: str, host: Host, disks: Mapping[VolumeId, Pool]) -> Guest:
        """Start a VM from its disks, the root first."""
        guest = define(host, self.directory, name)
        for volume, pool in disks.items():
            self.give(pool, volume, guest)
        self.driver.start_vm(VmId(name), call())
        guest.wait()
        for volume in list(disks)[1:]:
            guest.mounted(volume)
        return guest

    def cut_quiesced(self, pool: Pool, volume: VolumeId, snapshot: SnapshotId, guest: Guest) -> Snapshot:
        """Take a snapshot on a pool while the guest stands still; for no longer."""
        with frozen(self.hypervisor, VmId(guest.name), call()) as still:
            cut = pool.snapshots.create(volume, snapshot, still.call)
            still.check()
        return cut

    def take_over(self, volume: VolumeId, old: Host, fence: FenceDriver[Any], new: Guest) -> Introduced:
        """Give a LUN of `near` whose host does not answer to a VM elsewhere; on an error nothing changed."""
        handover = Handover(pool=self.near, dead=HostId(old.name), fence=Fence(old.name, fence))
        handover.take(volume, identity_of(new.host.name), call())
        return self.give(self.near, volume, new)

    # -- what is there -------------------------------------------------------------------------------------

    def on_array(self, name: str) -> list[str]:
        """Volumes, snapshots, grants and sessions of an array."""
        pool: Pool = {"near": self.near, "far": self.far}[name]
        found = []
        for volume in pool.volumes.list():
            found.append(f"volume {volume.id}")
            found += [f"snapshot {one.id}" for one in pool.snapshots.list(volume.id)]
            found += [f"grant {volume.id} {one.host}" for one in pool.volumes.grants(volume.id)]
        shown = self.arrays[name].tgtadm("--op", "show", "--mode", "target").splitlines()
        words = (line.split() for line in shown)
        found += [f"session {word[1].rpartition(':')[2]}" for word in words if word[:1] == ["Initiator:"]]
        return sorted(found)

    def on_host(self, host: Host) -> list[str]:
        """What a host knows: introduced objects, and secrets."""
        known = (self.directory / "state" / host.name / "introduced").glob("*.json")
        kept = [secret.usageID() for secret in host.connection.listAllSecrets()]
        return sorted([f"known {path.stem}" for path in known] + [f"secret {one}" for one in kept])

    def under_way(self) -> list[str]:
        """Intents that nobody has ended, and what is on the stores that no snapshot needs."""
        found = [path.name for path in self.journal.glob("*.intent")]
        for name, store in self.stores.items():
            page = store.list("v1/", call())
            assert page.after is None
            needed = set(_needed(Archive(store)))
            found += [f"{name} {one.key}" for one in page.items if one.key not in needed]
        found += [str(path) for path in (self._home / "nfs-state").rglob(".bollard-tmp/*")]
        return found


def _needed(archive: Archive) -> Iterator[str]:
    """Yield what the snapshots of an archive stand on."""
    for entry in archive.list(call()):
        manifest = archive.show(call(), volume=entry.volume, snapshot=entry.snapshot)
        place = f"v1/{entry.volume}/{entry.snapshot}"
        yield from (f"{place}/manifest.json", f"{place}/{manifest.attempt}/begin.json")
        yield from (manifest.key_of(window, part) for window, part in manifest.parts())


class RootChain(Orchestrator):
    """The snapshots of a VM's root, in a chain on a store that is open."""

    def __init__(self, site: ManagedSite, guest: Guest, store: str) -> None:
        super().__init__(site.directory, guest.name, guest.host, archive=site.stores[store].driver)
        self.back_up(True)

    def close(self) -> None:
        """Close driver and records: an open file would keep the lab's directory busy."""
        self.driver.close()
        self._catalog.close()
