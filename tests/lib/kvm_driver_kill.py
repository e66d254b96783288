"""One call of the KVM driver in a process of its own, which kills itself with -9 at its n-th step.

python -m kvm_driver_kill PLAN       PLAN is a JSON object

Steps are the borders of all that changes something: each act of libvirt's, each run of qemu-img.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bollard.core.spi import FileLocation
from bollard.drivers.hypervisor.kvm import KvmDriver, overlays, snapshot_tags
from bollard.drivers.hypervisor.kvm.connection import HostLink
from bollard.transfer_objects.ids import VmId, VmSnapshotId
from kvm_driving import KvmRig, call, driver_for

LIB = Path(__file__).parent


def died(rig: KvmRig, vm: str, what: str, names: Mapping[str, str], at: int) -> bool:
    """Let a child do it and die at a step; False if it was done before."""
    host = {"name": rig.host.name, "uri": rig.host.uri}
    plan = {"directory": str(rig.directory), "host": host, "vm": vm, "what": what, "names": names, "at": at}
    line = [sys.executable, "-m", "kvm_driver_kill", json.dumps(plan)]
    env = {**os.environ, "PYTHONPATH": str(LIB)}
    done = subprocess.run(line, env=env, timeout=120, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def do(driver: KvmDriver, vm: str, what: str, names: Mapping[str, str]) -> None:
    """The call: `names` are files by device, or the snapshot."""
    if what == "delete":
        driver.delete_vm_snapshot(VmId(vm), VmSnapshotId(names["snapshot"]), call())
    else:
        images = {name: FileLocation(path=Path(path), format="qcow2") for name, path in names.items()}
        driver.add_overlays(VmId(vm), images, call())


def main() -> None:
    """Do what the plan says, and die when it says."""
    plan = json.loads(sys.argv[1])
    host: Any = SimpleNamespace(**plan["host"])
    driver = driver_for(Path(plan["directory"]), host)
    steps = count(1)

    def mortal(act: Callable[..., Any]) -> Callable[..., Any]:
        def both(*arguments: Any, **more: Any) -> Any:
            border()
            done = act(*arguments, **more)
            border()
            return done

        return both

    def border() -> None:
        if next(steps) == plan["at"]:
            os.kill(os.getpid(), signal.SIGKILL)

    HostLink.act = mortal(HostLink.act)  # type: ignore[method-assign]  # the process has no other use
    for module in (overlays, snapshot_tags):
        vars(module)["run_qemu_img"] = mortal(vars(module)["run_qemu_img"])
    do(driver, plan["vm"], plan["what"], plan["names"])
    driver.close()


if __name__ == "__main__":
    main()
