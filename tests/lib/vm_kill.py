"""One task in a process of its own, which kills itself with -9 at its n-th step; run by the tests.

python -m vm_kill PLAN       a JSON object: the cloud's directory and address, what to do, when to die
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bollard.core.catalog import Catalog
from bollard.core.pool import Pool
from bollard.core.spi import parse_options
from bollard.core.vm_snapshots.chain import remove_file
from bollard.core.vm_snapshots.file_strategy import FileStrategy
from bollard.core.vm_snapshots.hypervisor import Hypervisor
from bollard.core.vm_snapshots.machine import Machine, VmVolume
from bollard.core.vm_snapshots.manager import VmSnapshotManager
from bollard.core.vm_snapshots.records import Records, VmSnapshotSpec
from bollard.core.vm_snapshots.vm_locks import VmLocks
from bollard.drivers.hypervisor.driver import SimulatedHypervisorDriver
from bollard.drivers.hypervisor.options import SimulatedHypervisorOptions
from bollard.drivers.primary.qcow2 import Qcow2Driver
from bollard.transfer_objects.enums import HypervisorType
from bollard.transfer_objects.ids import VmId, VmSnapshotId, VolumeId
from vm_cloud import VM, call
from vm_deaths import Mortal, mortals


class Killed(Mortal):
    """Dies for real."""

    def border(self) -> None:
        """Between two steps."""
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Server:
    """A management server over a cloud that another process serves."""

    def __init__(self, plan: dict[str, Any]) -> None:
        directory = Path(plan["directory"])
        self.driver = SimulatedHypervisorDriver(SimulatedHypervisorOptions(url=plan["url"]))
        options = parse_options(Qcow2Driver.Options, {"path": directory / "pool", "format": "raw"})
        pool = Pool("file", Qcow2Driver(options))
        self.pools: dict[str, Pool] = {"file": pool}
        self._machine = Machine(
            vm=VM,
            hypervisor=Hypervisor("cluster", self.driver),
            family=HypervisorType.KVM,
            volumes=tuple(
                VmVolume(volume=VolumeId(volume), device=device, pool=pool)
                for volume, device in plan["disks"]
            ),
        )
        records = Records(Catalog(plan["catalog"]))
        self.remove: Callable[[Path], None] = remove_file
        strategies = [FileStrategy(overlay_format="raw", remove=lambda path: self.remove(path))]
        self.manager = VmSnapshotManager(records, self, strategies, VmLocks(directory / "locks"))

    def machine(self, vm: VmId) -> Machine:
        """See `Machines.machine`."""
        assert vm == VM
        return self._machine

    def do(self, what: str, name: str) -> None:
        """One task."""
        snapshot = VmSnapshotId(name)
        if what == "take":
            self.manager.create(VmSnapshotSpec(id=snapshot, vm=VM, name=name, quiesce=True), call())
        elif what == "revert":
            self.manager.revert(snapshot, call())
        else:
            self.manager.delete(snapshot, call())


def main() -> None:
    """Do what the plan says, and die when it says."""
    plan = json.loads(sys.argv[1])
    server = Server(plan)
    with pytest.MonkeyPatch.context() as patch:
        mortals(Killed(plan["at"]), server, patch)
        server.do(plan["what"], plan["name"])


if __name__ == "__main__":
    main()
