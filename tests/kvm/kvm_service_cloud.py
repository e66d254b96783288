"""The snapshot service over a pool of files that a real host sees; and one that is killed in its midst.

python -m tests.kvm.kvm_service_cloud PLAN       takes a snapshot, and kills itself; PLAN is a JSON object
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bollard.core.access import Mover
from bollard.core.catalog import Catalog
from bollard.core.journal import Journal
from bollard.core.mover import mover_host
from bollard.core.pool import Pool
from bollard.core.spi import parse_options
from bollard.core.store import Store
from bollard.core.vm_snapshots import Hypervisor
from bollard.core.vm_snapshots.machine import Machine, VmVolume
from bollard.drivers.hypervisor.kvm import KvmDriver, merging
from bollard.drivers.primary.qcow2 import Qcow2Driver
from bollard.drivers.secondary.nfs import NfsDriver
from bollard.transfer_objects.enums import HypervisorType
from bollard.transfer_objects.ids import VmId, VolumeId
from kvm_driving import KvmRig, driver_for

from ..service.service_rig import Cloud, TestSite, call

ROOT = Path(__file__).parents[2]
DATA = VolumeId("data-1")
POINTS: dict[str, tuple[Any, str]] = {
    "frozen": (KvmDriver, "freeze"),
    "led elsewhere": (KvmDriver, "add_overlays"),
    "copied": (Qcow2Driver, "create_snapshot"),
    "merging": (merging, "index_in_chain"),
    "merged": (KvmDriver, "merge_image"),
}
"""After which call a process is killed; "merging" is just before libvirt is told to."""


def opened(pool_directory: Path, directory: Path, stack: ExitStack) -> Cloud:
    """One process of an orchestrator: the pool, a store, a catalog."""
    for path in (pool_directory, directory / "nightly"):
        path.mkdir(exist_ok=True)
    pool = Pool("files", Qcow2Driver(parse_options(Qcow2Driver.Options, {"path": pool_directory})))
    store = Store("nightly", NfsDriver(parse_options(NfsDriver.Options, {"path": directory / "nightly"})))
    store.open(call())
    catalog = Catalog(f"sqlite:///{directory}/catalog.db")
    for close in (pool.close, store.close, catalog.close):
        stack.callback(close)
    mover = Mover(host=mover_host(directory), journal=Journal(directory / "journal"))
    return Cloud(directory, TestSite({"files": pool}, {"nightly": store}, mover), catalog)


def know(cloud: Cloud, driver: KvmDriver, vm: VmId) -> None:
    """Let the orchestrator know who has the volume."""
    device = next(one.device for one in driver.vm_disks(vm, call()) if one.object_id == DATA)
    cloud.know(DATA, "files")
    cloud.inventory.change(DATA, vm=vm)
    cloud.inventory.machines[vm] = Machine(
        vm=vm,
        hypervisor=Hypervisor("kvm", driver),
        family=HypervisorType.KVM,
        volumes=(VmVolume(volume=DATA, device=device, pool=cloud.site.pools["files"]),),
    )


def killed(rig: KvmRig, directory: Path, vm: str, snapshot: str, point: str) -> bool:
    """Let a child take a quiesced snapshot, and die at a point; tell whether it did."""
    plan = {
        "rig": str(rig.directory),
        "host": {"name": rig.host.name, "uri": rig.host.uri},
        "directory": str(directory),
        "vm": vm,
        "snapshot": snapshot,
        "point": point,
    }
    line = [sys.executable, "-m", "tests.kvm.kvm_service_cloud", json.dumps(plan)]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "lib")}
    done = subprocess.run(line, cwd=ROOT, env=env, timeout=120, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def _deadly(act: Callable[..., Any]) -> Callable[..., Any]:
    def both(*arguments: Any, **more: Any) -> Any:
        act(*arguments, **more)
        os.kill(os.getpid(), signal.SIGKILL)

    return both


def main() -> None:
    """Take the snapshot, and die when the plan says."""
    plan = json.loads(sys.argv[1])
    host: Any = SimpleNamespace(**plan["host"])
    directory = Path(plan["directory"])
    with ExitStack() as stack:
        driver = driver_for(Path(plan["rig"]), host)
        stack.callback(driver.close)
        cloud = opened(Path(plan["rig"]) / "files", directory, stack)
        know(cloud, driver, VmId(plan["vm"]))
        target, name = POINTS[plan["point"]]
        setattr(target, name, _deadly(getattr(target, name)))
        cloud.take(plan["snapshot"], DATA, quiesce=True)


if __name__ == "__main__":
    main()
