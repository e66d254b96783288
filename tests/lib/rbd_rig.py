"""A pool on a real Ceph for the driver's tests, hosts that use its images, and agents that die on the way."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bollard.drivers.primary.rbd
from bollard.core.dataplane import open_source
from bollard.core.spi import Host, VolumeSpec
from bollard.drivers.primary.rbd import RbdDriver, RbdOptions
from bollard.transfer_objects.ids import HostId, VolumeId
from bollard.transfer_objects.secret import Secret
from ceph_lab import CephLab
from primary_rig import MIB, WEB, call

_LEFT_BEHIND = re.compile(r"rbd_data\.|rbd_object_map\.[0-9a-f]+\.")
# Stands between the agent and the bindings, and kills the agent before or in the n-th call that changes
# something. In it: librbd has threads of its own, so the kill hits it one to three milliseconds on its way.
_KILLER = """
import os, signal, sys, threading, time
import rados, rbd
place, fatal, inside = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "inside"
changes = {"operate_write_op", "create", "clone", "remove", "create_snap", "remove_snap", "rollback_to_snap",
    "resize", "flatten", "metadata_set", "metadata_remove", "trash_move", "trash_remove", "lock_acquire",
    "lock_release"}
count = 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)

def later():
    time.sleep(0.001 + 0.001 * (fatal % 3))
    die()

class Watched:
    def __init__(self, of): self.of = of
    def __enter__(self): self.of.__enter__(); return self
    def __exit__(self, *what): return self.of.__exit__(*what)
    def __getattr__(self, name):
        got = getattr(self.of, name)
        if not callable(got): return got
        def called(*args, **kwargs):
            global count
            told = args[0] if name == "mon_command" else ""
            if name in changes or '"auth ' in told or "blocklistop" in told:
                if count == fatal:
                    threading.Thread(target=later).start() if inside else die()
                count += 1
            plain = [a.of if isinstance(a, Watched) else a for a in args]
            kwargs = {k: v.of if isinstance(v, Watched) else v for k, v in kwargs.items()}
            result = got(*plain, **kwargs)
            return Watched(result) if isinstance(result, rados.Ioctx) else result
        return called

for module, names in ((rados, ("Rados",)), (rbd, ("RBD", "Image"))):
    for name in names:
        def made(*args, _real=getattr(module, name), **kwargs):
            return Watched(_real(*[a.of if isinstance(a, Watched) else a for a in args], **kwargs))
        setattr(module, name, made)
sys.path.append(place)
from agent.main import main
main()
"""


def options_of(lab: CephLab, **changes: Any) -> dict[str, Any]:
    """Return the driver's options for a cluster, as a configuration file has them."""
    return {"monitors": lab.monitors, "user": "admin", "key": lab.key, **changes}


def typed_options(lab: CephLab, **changes: Any) -> RbdOptions:
    """Return the same as the driver's constructor takes them."""
    raw = options_of(lab, **changes)
    return RbdOptions(**{**raw, "key": Secret(raw["key"])})


@contextmanager
def opened(lab: CephLab, **changes: Any) -> Iterator[RbdDriver]:
    """An open driver."""
    driver = RbdDriver(typed_options(lab, **changes))
    try:
        driver.open(call())
        yield driver
    finally:
        driver.close()


def host(name: str = "host-1") -> Host:
    """A host."""
    return Host(id=HostId(name))


def spec(volume: VolumeId = WEB, size: int = 16 * MIB) -> VolumeSpec:
    """A specification."""
    return VolumeSpec(id=volume, size=size)


def read(driver: RbdDriver, volume: VolumeId, offset: int = 0, length: int = 4096) -> bytes:
    """Read as a host, then let go."""
    reader, data = host("reader"), bytearray(length)
    with open_source(driver.grant(volume, reader, call(), read_only=True), timeout=20) as source:
        source.read_into(offset, memoryview(data))
    driver.revoke(volume, reader.id, call())
    return bytes(data)


def what_is_kept(lab: CephLab) -> set[str]:
    """Return what there is of images, records, locks and users; nothing of an empty pool.

    Not the data objects: OSDs take away those of deleted snapshots in the background. Nor the object maps of
    snapshots, some bytes each, of which librbd forgets one when it is killed between two steps of its own.
    """
    images = set(lab.rbd("ls").split()) | set(lab.rbd("trash", "ls").split())
    objects = {name for name in lab.objects() if not _LEFT_BEHIND.match(name)}
    users = {entry["entity"] for entry in lab.ceph("auth", "ls")["auth_dump"]}
    return images | (objects - {"bollard.bollard"}) | {name for name in users if "bollard." in name}


def die_in_the_agent(
    lab: CephLab, point: int, act: str, arguments: Mapping[str, Any], *, inside: bool = False
) -> bool:
    """Run a request and kill its agent at the n-th change that it makes; tell whether it came so far."""
    settings = {"pool": "rbd", "owner": "bollard", **options_of(lab)}
    request = {"seconds": 40, "act": act, "with": dict(arguments)}
    place = Path(bollard.drivers.primary.rbd.__file__).parent
    how = "inside" if inside else "before"
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-B", "-c", _KILLER, str(place), str(point), how],
        input=f"{json.dumps(settings)}\n{json.dumps(request)}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 0:
        assert "ok" in json.loads(done.stdout), done.stdout
        return False
    assert done.returncode == -9, done.stderr
    return True
