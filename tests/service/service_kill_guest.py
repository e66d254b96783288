"""The running VM of the kill lab: its disk is a file, which it writes while a snapshot of it is copied.

    guest ── "before" ──> volume ── cut ── guest ── "meanwhile" ──> overlay ── merged ──> volume

The hypervisor is a process of its own, which no kill of the lab reaches, as libvirtd is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bollard.core.pool import Pool
from bollard.core.service import snapshots_hypervisor
from bollard.core.spi import FileLocation, GuestState, Introduction, ObjectKind
from bollard.core.vm_snapshots.hypervisor import Hypervisor
from bollard.core.vm_snapshots.machine import Machine, VmVolume
from bollard.drivers.hypervisor.driver import SimulatedHypervisorDriver
from bollard.drivers.hypervisor.options import SimulatedHypervisorOptions
from bollard.drivers.primary.qcow2 import Qcow2Driver
from bollard.simulators.process import SimulatorProcess
from bollard.transfer_objects.enums import HypervisorType
from bollard.transfer_objects.ids import HostId, VmId, VolumeId
from qcow2_rig import files

from ..snapshots.snapshot_kill_backends import Backend, Steps
from .service_rig import SIZE, Cloud, call

POOL, MEANWHILE = "running", "meanwhile"
HOST = HostId("h1")
STEPS: tuple[Steps, ...] = (
    (SimulatedHypervisorDriver, ("add_overlays", "merge_image")),
    (snapshots_hypervisor, ("remove_file",)),
)


@contextmanager
def running_files(directory: Path) -> Iterator[Backend]:
    """A pool of raw files, which simulated guests write."""
    pool = directory / POOL
    pool.mkdir()
    yield Backend(
        driver="qcow2",
        options={"path": str(pool), "format": "raw"},
        steps=(Qcow2Driver, ("create_snapshot", "delete_snapshot")),
        left=lambda: [name for name in files(pool) if "lock" not in name],
    )


@contextmanager
def hypervisor(directory: Path) -> Iterator[str]:
    """A cluster with one host; yields its URL."""
    with SimulatorProcess.start("hypervisor", "--state", str(directory / "cluster")) as cluster:
        put = httpx.put(f"{cluster.url}/hosts/{HOST}", json={"initiator": "iqn.2026-01.org.example:h1"})
        put.raise_for_status()
        yield cluster.url


@dataclass(frozen=True, slots=True)
class KillGuest:
    """The VM of one round, as one process sees it; `marks` is where it says what it has written."""

    url: str
    cloud: Cloud
    volume: VolumeId
    marks: Path

    @property
    def vm(self) -> VmId:
        """The volume's VM."""
        return VmId(f"vm-{self.volume}")

    def start(self) -> None:
        """Let a new VM have the volume, and boot it."""
        location = self._pool.volumes.locate(self.volume)
        assert isinstance(location, FileLocation)
        what = Introduction(
            kind=ObjectKind.VOLUME,
            object_id=self.volume,
            host=HOST,
            location=location,
            identity=str(location.path.resolve()),
            size=SIZE,
        )
        with self._driver() as driver:
            self._send("PUT", f"/vms/{self.vm}", {"host": HOST})
            driver.attach(self.vm, driver.introduce(what, call()), call())
            driver.start_vm(self.vm, call())
        self._write("before")

    @contextmanager
    def known(self) -> Iterator[None]:
        """Let the orchestrator know the VM; it writes whenever its volume is copied."""
        with self._driver() as driver:
            [disk] = driver.vm_disks(self.vm, call())
            on = VmVolume(volume=self.volume, device=disk.device, pool=self._pool)
            self.cloud.inventory.machines[self.vm] = Machine(
                vm=self.vm, hypervisor=Hypervisor("cluster", driver), family=HypervisorType.KVM, volumes=(on,)
            )
            self.cloud.inventory.change(self.volume, vm=self.vm)
            storage: Any = self._pool.driver
            storage.create_snapshot = lambda *args: (
                self._write(MEANWHILE),
                type(storage).create_snapshot(storage, *args),  # as the lab has it by now: a step
            )[1]
            yield

    def problems(self) -> list[str]:
        """Say what is not as if nobody had ever cut: where the guest writes, and what it has written."""
        with self._driver() as driver:
            [disk] = driver.vm_disks(self.vm, call())
            frozen = driver.guest_state(self.vm, call()) is GuestState.FROZEN
        assert isinstance(disk.location, FileLocation)
        written = {"before"} | ({MEANWHILE} if self.wrote else set())
        found = set(self._send("GET", f"/vms/{self.vm}/files/{self.volume}").json())
        own = f"{self.volume}.raw"
        return [
            *([] if disk.location.path.name == own else [f"the guest writes to {disk.location.path.name}"]),
            *([] if found == written else [f"the guest has {sorted(found)}, and wrote {sorted(written)}"]),
            *(["the guest is frozen"] if frozen else []),
            *(one.name for one in disk.location.path.parent.glob("*.cut.*")),
        ]

    def remove(self) -> None:
        """Turn it off, and take it from the cluster."""
        with self._driver() as driver:
            driver.stop_vm(self.vm, call(), force=True)
            self._send("DELETE", f"/vms/{self.vm}/disks/{self.volume}")
            self._send("DELETE", f"/vms/{self.vm}")
            driver.forget(ObjectKind.VOLUME, self.volume, HOST, call())

    @property
    def wrote(self) -> bool:
        """Whether its volume was copied while it wrote, by any process."""
        return self._mark.exists()

    @property
    def _pool(self) -> Pool:
        return self.cloud.site.pools[POOL]

    @property
    def _mark(self) -> Path:
        return self.marks / f"{self.volume}.wrote"

    @contextmanager
    def _driver(self) -> Iterator[SimulatedHypervisorDriver]:
        driver = SimulatedHypervisorDriver(SimulatedHypervisorOptions(url=self.url))
        try:
            yield driver
        finally:
            driver.close()

    def _write(self, name: str) -> None:
        self._send("PUT", f"/vms/{self.vm}/files/{self.volume}/{name}", {"content": name})
        if name == MEANWHILE:
            self._mark.touch()

    def _send(self, how: str, path: str, body: object = None) -> httpx.Response:
        return httpx.request(how, self.url + path, json=body).raise_for_status()
