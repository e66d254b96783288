"""Somebody is killed with -9 in the midst of a task: QEMU, libvirtd, or the process that does it.

python -m kvm_cloud_kill PLAN       one task in a process that kills itself; PLAN is a JSON object
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bollard.core.vm_snapshots.machine import VmVolume
from bollard.drivers.hypervisor.kvm.connection import HostLink
from bollard.transfer_objects.ids import VolumeId
from kvm_cloud import KvmCloud

LIB = Path(__file__).parent


@contextmanager
def killing_at(act: str, kill: Callable[[], None], delay: float) -> Iterator[list[str]]:
    """Kill once, so many seconds after an act of the driver has begun; yields the acts that were."""
    seen: list[str] = []
    whole = HostLink.act
    killer = threading.Timer(delay, kill)

    def watched(link: HostLink, call: Any, deed: Any, what: str) -> Any:
        seen.append(what)
        if act in what and killer.ident is None:
            killer.start()
        return whole(link, call, deed, what)

    HostLink.act = watched  # type: ignore[assignment, method-assign]  # put back below
    try:
        yield seen
    finally:
        HostLink.act = whole  # type: ignore[method-assign]  # as above
        assert killer.ident is not None, seen
        killer.join()


def do(cloud: KvmCloud, what: str, name: str, *, memory: bool) -> None:
    """One task."""
    if what == "create":
        cloud.take(name, memory=memory)
    elif what == "revert":
        cloud.manager_revert(name)
    else:
        cloud.delete(name)


def die_doing(cloud: KvmCloud, what: str, name: str, act: str, *, memory: bool, delay: float) -> int:
    """Let a child do it, which kills itself in the midst; returns how it ended."""
    plan = {
        "directory": str(cloud.directory),
        "hosts": [(host.name, host.uri) for host in cloud.hosts],
        "disks": [(one.volume, one.device) for one in cloud.volumes],
        "task": {"what": what, "name": name, "memory": memory},
        "act": act,
        "delay": delay,
    }
    line = [sys.executable, "-m", "kvm_cloud_kill", json.dumps(plan)]
    env = {**os.environ, "PYTHONPATH": str(LIB)}
    done = subprocess.run(line, env=env, timeout=120, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def main() -> None:
    """Do what the plan says, and die when it says."""
    plan = json.loads(sys.argv[1])
    hosts: Any = [SimpleNamespace(name=name, uri=uri) for name, uri in plan["hosts"]]
    cloud = KvmCloud(Path(plan["directory"]), _no_guest, hosts)
    cloud.open_pool()
    cloud.open_manager()
    cloud.volumes = [
        VmVolume(volume=VolumeId(volume), device=device, pool=cloud.pools["file"])
        for volume, device in plan["disks"]
    ]
    with killing_at(plan["act"], lambda: os.kill(os.getpid(), signal.SIGKILL), plan["delay"]):
        do(cloud, **plan["task"])


def _no_guest(**_: object) -> Any:
    raise AssertionError("the guest is the parent's")


if __name__ == "__main__":
    main()
