"""A small cloud with one VM whose guest writes and reads files: what the tests of VM snapshots talk to.

The tests use `Cloud` only, so that they can be pointed at any hypervisor that has real guests; here is the
one on the simulators: a cluster of hosts, a file pool (raw files of the qcow2 driver) and arrays.
"""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import httpx

from bollard.core.catalog import Catalog
from bollard.core.pool import Pool
from bollard.core.spi import (
    Call,
    FileLocation,
    GuestState,
    Host,
    Introduction,
    Location,
    ObjectKind,
    VmState,
    VolumeSpec,
    parse_options,
)
from bollard.core.vm_snapshots.chain import remove_file
from bollard.core.vm_snapshots.checks import Hooks
from bollard.core.vm_snapshots.driver_strategy import DriverStrategy
from bollard.core.vm_snapshots.file_strategy import FileStrategy
from bollard.core.vm_snapshots.hypervisor import Hypervisor
from bollard.core.vm_snapshots.hypervisor_strategy import HypervisorStrategy
from bollard.core.vm_snapshots.machine import Machine, VmVolume
from bollard.core.vm_snapshots.manager import VmSnapshotManager
from bollard.core.vm_snapshots.records import Records, VmSnapshot, VmSnapshotSpec
from bollard.core.vm_snapshots.strategy import Strategy
from bollard.core.vm_snapshots.sync import VmSnapshotSync
from bollard.core.vm_snapshots.vm_locks import VmLocks
from bollard.drivers.hypervisor.driver import SimulatedHypervisorDriver
from bollard.drivers.hypervisor.options import SimulatedHypervisorOptions
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.primary.qcow2 import Qcow2Driver
from bollard.simulators.array import ArraySimulator
from bollard.simulators.hypervisor import HypervisorSimulator
from bollard.transfer_objects.enums import HypervisorType
from bollard.transfer_objects.ids import HostId, VmId, VmSnapshotId, VolumeId
from bollard.transfer_objects.secret import Secret

MIB = 1024 * 1024
GIB = 1024 * MIB
VM = VmId("vm-1")
H1 = Host(
    id=HostId("h1"),
    iqn="iqn.2026-01.org.example:h1",
    chap_user="user-h1",
    chap_secret=Secret("correct-horse-battery"),
)
# Without it each client loads the CA certificates, which takes 100 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_owners = itertools.count(1)


def call(seconds: float = 60) -> Call:
    """A call with so much time to go."""
    return Call.within(seconds)


class Cloud(Protocol):
    """One VM, and VM snapshots of it."""

    manager: VmSnapshotManager
    records: Records
    sync: VmSnapshotSync

    def disks(self) -> range:
        """The numbers of the VM's disks."""

    def take(self, name: str, **options: Any) -> VmSnapshot:
        """Take a snapshot called `name`."""

    def revert(self, name: str) -> None:
        """Revert to it."""

    def delete(self, name: str) -> None:
        """Delete it."""

    def start(self) -> None:
        """Boot the guest."""

    def stop(self) -> None:
        """Turn it off, as an orchestrator does: its host then uses no managed volume."""

    def state(self) -> VmState:
        """The VM's power state."""

    def frozen(self) -> bool:
        """Whether the guest says that it is frozen."""

    def write(self, name: str, content: str, disk: int = 0) -> None:
        """The guest writes a file on one of its disks, and syncs it."""

    def read(self, disk: int = 0) -> dict[str, str]:
        """The guest reads all files of one of its disks; it must be running."""

    def remember(self, content: str) -> None:
        """A process of the guest holds this in its memory."""

    def memory(self) -> str:
        """What it holds there now."""

    def files(self) -> list[str]:
        """All image files on the file pools, and all snapshots on the arrays."""


class SimulatedCloud:
    """A cloud on the simulators; use as a context manager.

    Args:
        disks: where each disk of the VM lies: "file", "array" or "array2".
        personality: of the hypervisor.
        strategies: instead of all three.
        form: of the file pool's volumes; simulated guests write raw ones only.
    """

    def __init__(
        self,
        directory: Path,
        disks: Sequence[str] = ("file", "file"),
        *,
        personality: str = "KVM",
        strategies: Sequence[Strategy] | None = None,
        hooks: dict[str, Any] | None = None,
        excluded: Sequence[str] = (),
        form: str = "raw",
        catalog_url: str = "",
    ) -> None:
        self.directory = directory
        self.personality = personality
        self.catalog_url = catalog_url or f"sqlite:///{directory / 'catalog.sqlite'}"
        self._disks = disks
        self._strategies = strategies
        self._hooks = hooks or {}
        self._excluded = excluded
        self._form = form
        self._stack = ExitStack()
        self.pools: dict[str, Pool] = {}
        self.arrays: dict[str, ArraySimulator] = {}
        self.volumes: list[VmVolume] = []
        self.offering: dict[str, str] = {"name": "small"}
        self.remove: Callable[[Path], None] = remove_file

    def __enter__(self) -> SimulatedCloud:
        with self._stack:
            self._open()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _open(self) -> None:
        self.cluster = self._stack.enter_context(
            HypervisorSimulator(self.directory / "cluster", personality=self.personality)
        )
        self.http = self._stack.enter_context(
            httpx.Client(verify=NO_TLS, base_url=self.cluster.url, timeout=30)
        )
        self._put("/hosts/h1", {"initiator": H1.iqn})
        self._put(f"/vms/{VM}", {"host": "h1"})
        for name in sorted(set(self._disks)):
            self.pools[name] = self._pool(name)
            self._stack.callback(self.pools[name].close)
        self.open_manager()
        for index, name in enumerate(self._disks):
            self._add_disk(VolumeId(f"vol-{index}"), self.pools[name])

    def _pool(self, name: str) -> Pool:
        if name == "file":
            options = parse_options(Qcow2Driver.Options, {"path": self._file_pool(), "format": self._form})
            return Pool(name, Qcow2Driver(options))
        array = self.arrays[name] = self._stack.enter_context(
            ArraySimulator(self.directory / name, pools={"gold": GIB}, job_seconds=0.0)
        )
        told = {
            "url": array.url,
            "username": array.admin_user,
            "password": array.admin_password,
            "pool": "gold",
            "owner": f"c{next(_owners)}",
            "ca": array.ca,
        }
        return Pool(name, ArrayDriver(parse_options(ArrayDriver.Options, told)))

    def _file_pool(self) -> Path:
        path = self.directory / "pool"
        path.mkdir(exist_ok=True)
        return path

    def open_manager(self) -> None:
        """A management server, with nothing but what is on disk: also what comes after a crash."""
        driver = SimulatedHypervisorDriver(SimulatedHypervisorOptions(url=self.cluster.url))
        self._stack.callback(driver.close)
        self.driver = driver
        self.hypervisor = Hypervisor("cluster", driver, sleep=lambda _: None)
        self.catalog = Catalog(self.catalog_url)
        self._stack.callback(self.catalog.close)
        self.records = Records(self.catalog)
        strategies = self._strategies or (
            HypervisorStrategy(),
            FileStrategy(overlay_format="raw", remove=lambda path: self.remove(path)),
            DriverStrategy(overlay_format="raw", remove=lambda path: self.remove(path)),
        )
        hooks = Hooks(**{"before_start": self._grant, "after_stop": self._revoke, **self._hooks})
        locks = VmLocks(self.directory / "locks")
        self.manager = VmSnapshotManager(
            self.records, self, strategies, locks, hooks=hooks, excluded=self._excluded
        )
        self.sync = VmSnapshotSync(self.manager)

    def machine(self, vm: VmId) -> Machine:
        """See `Machines.machine`."""
        assert vm == VM
        return Machine(
            vm=vm,
            hypervisor=self.hypervisor,
            family=HypervisorType(self.personality),
            volumes=tuple(self.volumes),
            offering=self.offering,
        )

    # -- disks ----------------------------------------------------------------------------------------

    def _add_disk(self, volume: VolumeId, pool: Pool) -> None:
        pool.volumes.create(VolumeSpec(id=volume, size=MIB))
        self._introduce(volume, pool)
        known = {one["id"]: one["place"]["path"] for one in self._get("/hosts/h1/objects")}
        device = self._put(f"/vms/{VM}/disks/{volume}", {"object": {"kind": "volume", "id": volume}})[
            "device"
        ]
        assert volume in known
        self.volumes.append(VmVolume(volume=volume, device=device, pool=pool))

    def _introduce(self, volume: VolumeId, pool: Pool) -> None:
        location: Location
        if pool.managed:
            location = pool.volumes.grant(volume, H1)
            identity = pool.volumes.get(volume).identity
        else:
            location = pool.volumes.locate(volume)
            assert isinstance(location, FileLocation)
            identity = str(location.path.resolve())
        what = Introduction(
            kind=ObjectKind.VOLUME,
            object_id=volume,
            host=H1.id,
            location=location,
            identity=identity,
            size=MIB,
        )
        self.driver.introduce(what, call())

    def _grant(self, vm: VmId) -> None:
        assert vm == VM
        for one in self.volumes:
            if one.pool.managed:
                self._introduce(one.volume, one.pool)

    def _revoke(self, vm: VmId) -> None:
        assert vm == VM
        for one in self.volumes:
            if one.pool.managed:
                one.pool.volumes.revoke(one.volume, H1.id)

    # -- the vocabulary -------------------------------------------------------------------------------

    def disks(self) -> range:
        """See `Cloud.disks`."""
        return range(len(self.volumes))

    def start(self) -> None:
        """See `Cloud.start`."""
        self._grant(VM)
        self.driver.start_vm(VM, call())

    def stop(self) -> None:
        """See `Cloud.stop`."""
        self.driver.stop_vm(VM, call())
        self._revoke(VM)

    def state(self) -> VmState:
        """See `Cloud.state`."""
        return self.driver.vm_state(VM, call())

    def frozen(self) -> bool:
        """See `Cloud.frozen`."""
        return self.driver.guest_state(VM, call()) is GuestState.FROZEN

    def write(self, name: str, content: str, disk: int = 0) -> None:
        """See `Cloud.write`."""
        self._put(f"/vms/{VM}/files/{self.volumes[disk].volume}/{name}", {"content": content})

    def read(self, disk: int = 0) -> dict[str, str]:
        """See `Cloud.read`."""
        found: dict[str, str] = self._get(f"/vms/{VM}/files/{self.volumes[disk].volume}")
        return found

    def remember(self, content: str) -> None:
        """See `Cloud.remember`."""
        self._put(f"/vms/{VM}/memory", {"content": content})

    def memory(self) -> str:
        """See `Cloud.memory`."""
        return str(self._get(f"/vms/{VM}")["memory"])

    def files(self) -> list[str]:
        """See `Cloud.files`."""
        found = [f"file/{path.name}" for path in self._images()]
        for volume in self.volumes:
            if volume.pool.managed or volume.pool.name == "file":
                snapshots = volume.pool.snapshots.list(volume.volume)
                found += [f"{volume.pool.name}/{volume.volume}@{one.id}" for one in snapshots]
        held = self._get(f"/vms/{VM}/snapshots")
        return sorted(found + [f"hypervisor/{one['id']}" for one in held])

    def _images(self) -> list[Path]:
        return [path for path in (self.directory / "pool").rglob("*.vms.*") if path.is_file()]

    # -- shorthands -----------------------------------------------------------------------------------

    def take(self, name: str, **options: Any) -> VmSnapshot:
        """Take a snapshot called `name`."""
        spec = VmSnapshotSpec(id=VmSnapshotId(name), vm=VM, name=name, **options)
        return self.manager.create(spec, call())

    def revert(self, name: str) -> None:
        """Revert to it."""
        self.manager.revert(VmSnapshotId(name), call())

    def delete(self, name: str) -> None:
        """Delete it."""
        self.manager.delete(VmSnapshotId(name), call())

    def _get(self, path: str) -> Any:
        return self.http.get(path).raise_for_status().json()

    def _put(self, path: str, body: dict[str, Any]) -> Any:
        return self.http.put(path, json=body).raise_for_status().json()
