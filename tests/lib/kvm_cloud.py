"""The vocabulary of VM snapshots (`vm_cloud.Cloud`) on the real thing: libvirt, QEMU and a booted guest.

cloud.write("a", "x")     the guest writes /mnt/vol-0/a and syncs it
cloud.take("s1")          core's manager ── strategy ── KvmDriver ── libvirt
cloud.files()             what lies on the pool and in the images, and what libvirt lists
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bollard.core.catalog import Catalog
from bollard.core.dataplane import copy, open_qcow2_source, open_sink
from bollard.core.pool import Pool
from bollard.core.spi import (
    FileLocation,
    GuestState,
    Introduced,
    Introduction,
    ObjectKind,
    VmState,
    VolumeSpec,
    parse_options,
)
from bollard.core.vm_snapshots.checks import Hooks
from bollard.core.vm_snapshots.driver_strategy import DriverStrategy
from bollard.core.vm_snapshots.file_strategy import FileStrategy
from bollard.core.vm_snapshots.hypervisor import Hypervisor
from bollard.core.vm_snapshots.hypervisor_strategy import HypervisorStrategy
from bollard.core.vm_snapshots.machine import Machine, VmVolume
from bollard.core.vm_snapshots.manager import VmSnapshotManager
from bollard.core.vm_snapshots.records import Records, VmSnapshot, VmSnapshotSpec
from bollard.core.vm_snapshots.sync import VmSnapshotSync
from bollard.core.vm_snapshots.vm_locks import VmLocks
from bollard.drivers.hypervisor.kvm import KvmDriver
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.primary.qcow2 import Qcow2Driver
from bollard.simulators.array import ArraySimulator
from bollard.transfer_objects.enums import HypervisorType
from bollard.transfer_objects.ids import HostId, VmId, VmSnapshotId, VolumeId
from kvm_cloud_boot import hibernate, mount, save_unmounted
from kvm_driving import driver_for
from kvm_lab import disk_images
from kvm_lab.guests import Guest
from kvm_lab.host import Host
from vm_cloud import H1, VM, call

MIB = 1024 * 1024
SIZE = 48 * MIB
_LIST = 'cd "$0"; for f in *; do [ -f "$f" ] && printf "%s=%s\\n" "$f" "$(cat "$f")"; done; true'


class KvmCloud:
    """One VM with qcow2 disks in a directory that all hosts see; use as a context manager.

    Args:
        guest: the lab's fixture of this name.
        hosts: the VM is on the first.
        disks: where each lies: "file" or "array" (of the simulator, over NBD).
        boots: whether a start takes the guest through its whole boot (5 s and more).
    """

    def __init__(
        self,
        directory: Path,
        guest: Callable[..., Guest],
        hosts: Sequence[Host],
        disks: Sequence[str] = ("file", "file"),
        *,
        boots: bool = False,
        hooks: dict[str, Any] | None = None,
    ) -> None:
        self.directory = directory
        self.hosts = hosts
        self.volumes: list[VmVolume] = []
        self.pools: dict[str, Pool] = {}
        self.introduced: dict[VolumeId, Introduced] = {}
        self._make_guest = guest
        self._disks = disks
        self._boots = boots
        self._hooks = hooks or {}
        self._stack = ExitStack()

    def __enter__(self) -> KvmCloud:
        with self._stack:
            self._open()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _open(self) -> None:
        self.open_pool()
        self.guest = self._make_guest(name=VM, host=self.hosts[0])
        self.open_manager()
        for index, name in enumerate(self._disks):
            self.add_volume(VolumeId(f"vol-{index}"), name)
        self.wait()
        self._image = self.hosts[0].root.with_name(f"cloud-{len(self._disks)}.save")
        if not self._boots and not self._image.exists():
            save_unmounted(self.guest, self._image)
            self.start()

    def open_pool(self) -> None:
        """The pool in the directory."""
        path = self.directory / "pool"
        path.mkdir(exist_ok=True)
        self.pools["file"] = Pool("file", Qcow2Driver(parse_options(Qcow2Driver.Options, {"path": path})))
        self._stack.callback(self.pools["file"].close)

    def open_manager(self) -> None:
        """A management server, with nothing but what is on disk: also what comes after a crash."""
        self.driver: KvmDriver = driver_for(self.directory, *self.hosts)
        self._stack.callback(self.driver.close)
        self.hypervisor = Hypervisor("kvm", self.driver)
        self.catalog = Catalog(f"sqlite:///{self.directory / 'catalog.sqlite'}")
        self._stack.callback(self.catalog.close)
        self.records = Records(self.catalog)
        strategies = (HypervisorStrategy(), FileStrategy(), DriverStrategy())
        locks = VmLocks(self.directory / "locks")
        hooks = Hooks(**{"before_start": self._grant, "after_stop": self._revoke, **self._hooks})
        self.manager = VmSnapshotManager(self.records, self, strategies, locks, hooks=hooks)
        self.sync = VmSnapshotSync(self.manager)

    def machine(self, vm: VmId) -> Machine:
        """See `Machines.machine`."""
        assert vm == VM
        return Machine(
            vm=vm, hypervisor=self.hypervisor, family=HypervisorType.KVM, volumes=tuple(self.volumes)
        )

    # -- disks ----------------------------------------------------------------------------------------

    def add_volume(self, volume: VolumeId, pool: str = "file") -> None:
        """Make a volume with a file system, and attach it."""
        if pool not in self.pools:
            self._open_array(pool)
        volumes = self.pools[pool].volumes
        volumes.create(VolumeSpec(id=volume, size=SIZE))
        location = volumes.grant(volume, H1) if self.pools[pool].managed else volumes.locate(volume)
        with open_qcow2_source(self._file_system()) as source, open_sink(location, timeout=10) as sink:
            copy(source, sink)
        self.attach(volume, pool)

    def _open_array(self, name: str) -> None:
        state = self.directory / name
        array = self._stack.enter_context(ArraySimulator(state, pools={"gold": 1 << 30}, job_seconds=0.0))
        told = {
            "url": array.url,
            "username": array.admin_user,
            "password": array.admin_password,
            "pool": "gold",
            "owner": "kvm",
            "ca": array.ca,
        }
        self.pools[name] = Pool(name, ArrayDriver(parse_options(ArrayDriver.Options, told)))
        self._stack.callback(self.pools[name].close)

    def attach(self, volume: VolumeId, pool: str = "file") -> None:
        """Let all hosts know a volume, and attach it."""
        self._introduce(volume, self.pools[pool])
        device = self.driver.attach(VM, self.introduced[volume], call())
        self.volumes.append(VmVolume(volume=volume, device=device, pool=self.pools[pool]))

    def _introduce(self, volume: VolumeId, pool: Pool) -> None:
        location = pool.volumes.grant(volume, H1) if pool.managed else pool.volumes.locate(volume)
        identity = pool.volumes.get(volume).identity
        if isinstance(location, FileLocation):
            identity = str(location.path.resolve())
        for host in self.hosts:
            what = Introduction(
                kind=ObjectKind.VOLUME,
                object_id=volume,
                host=HostId(host.name),
                location=location,
                identity=identity,
                size=SIZE,
            )
            self.introduced.setdefault(volume, self.driver.introduce(what, call()))

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

    def detach(self, volume: VolumeId) -> None:
        """Take a volume out of the VM."""
        self.driver.detach(VM, self.introduced[volume], call())
        self.volumes = [one for one in self.volumes if one.volume != volume]

    def _file_system(self) -> Path:
        image = self.directory / "ext4.qcow2"
        return image if image.exists() else disk_images.qcow2(image, SIZE)

    # -- the vocabulary -------------------------------------------------------------------------------

    def disks(self) -> range:
        """See `Cloud.disks`."""
        return range(len(self.volumes))

    def start(self) -> None:
        """See `Cloud.start`."""
        quick = not self._boots and len(self.volumes) == len(self._disks) and self.state() is VmState.STOPPED
        if quick:
            hibernate(self.guest, self._image)
        self._grant(VM)
        self.driver.start_vm(VM, call())
        self.guest.wait()
        if quick:
            mount(self.guest)
        self.wait()

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
        self.guest.run("sh", "-c", 'printf %s "$1" >"$0"; sync', f"{self.place(disk)}/{name}", content)

    def read(self, disk: int = 0) -> dict[str, str]:
        """See `Cloud.read`."""
        told = self.guest.run("sh", "-c", _LIST, self.place(disk)).stdout.decode()
        return dict(line.split("=", 1) for line in told.splitlines())

    def remember(self, content: str) -> None:
        """See `Cloud.remember`: the guest's root is in its memory."""
        self.guest.run("sh", "-c", 'printf %s "$0" >/remembered', content)

    def memory(self) -> str:
        """See `Cloud.memory`."""
        return self.guest.shell("cat /remembered 2>/dev/null; true")

    def files(self) -> list[str]:
        """See `Cloud.files`."""
        found = [f"file/{path.name}" for path in (self.directory / "pool").rglob("*.vms.*")]
        found += [f"undone/{path.name}" for path in (self.directory / "state").glob("*/begun/*")]
        found += [f"libvirt/{name}" for name in self.guest.domain.snapshotListNames()]
        for volume in self.volumes:
            if not volume.pool.managed:
                found += [f"{volume.device}/{tag}" for tag in self.tags(volume.device)]
            snapshots = volume.pool.snapshots.list(volume.volume)
            found += [f"{volume.pool.name}/{volume.volume}@{one.id}" for one in snapshots]
        return sorted(found)

    def tags(self, device: str) -> list[str]:
        """The internal snapshots in the image that the guest writes to, and in those below it."""
        chain = json.loads(_img("info", "-U", "--backing-chain", "--output", "json", self.image(device)))
        return [one["name"] for image in chain for one in image.get("snapshots", [])]

    def image(self, device: str) -> Path:
        """The image that the guest writes to."""
        shown = next(disk for disk in self.driver.vm_disks(VM, call()) if disk.device == device)
        assert isinstance(shown.location, FileLocation)
        return shown.location.path

    def place(self, disk: int = 0) -> str:
        """Where the guest has a disk mounted."""
        return f"/mnt/{self.volumes[disk].volume}"

    # -- shorthands -----------------------------------------------------------------------------------

    def take(self, name: str, **options: Any) -> VmSnapshot:
        """Take a snapshot called `name`."""
        spec = VmSnapshotSpec(id=VmSnapshotId(name), vm=VM, name=name, **options)
        return self.manager.create(spec, call())

    def revert(self, name: str) -> None:
        """Revert to it."""
        self.manager_revert(name)
        if self.state() is VmState.RUNNING:
            self.wait()

    def manager_revert(self, name: str) -> None:
        """Revert to it, without waiting for the guest."""
        self.manager.revert(VmSnapshotId(name), call())

    def delete(self, name: str) -> None:
        """Delete it."""
        self.manager.delete(VmSnapshotId(name), call())

    def wait(self) -> None:
        """Wait until the guest answers and has all disks mounted."""
        self.guest.wait()
        for volume in self.volumes:
            self.guest.mounted(volume.volume)


def _img(*arguments: object) -> bytes:
    command = ["qemu-img", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
