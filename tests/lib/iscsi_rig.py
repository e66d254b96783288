"""A real array for the driver's tests: prepared by `install`, and hosts that use its LUNs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bollard.core.dataplane import open_source
from bollard.core.spi import Call, Host, VolumeSpec
from bollard.drivers.primary.iscsi_ssh import IscsiSshDriver, IscsiSshOptions
from bollard.drivers.primary.iscsi_ssh.array import HOME, agent_directory
from bollard.drivers.primary.iscsi_ssh.install import install
from bollard.transfer_objects.ids import HostId, VolumeId
from bollard.transfer_objects.secret import Secret
from iscsi_array import IscsiArray
from primary_rig import MIB, WEB, call

SECRET = "correct-horse-battery"
# Kills itself at the n-th act that another process could see the effect of; runs on the array.
_KILLER = """
import os, runpy, signal, sys
place, fatal = sys.argv[1], int(sys.argv[2])
acts = {"os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.link", "os.truncate"}
acts |= {"fcntl.ioctl", "socket.connect"}
count = 0
def hear(event, arguments):
    global count
    written = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if (event in acts or written) and "__pycache__" not in str(arguments[0]):
        if count == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
sys.addaudithook(hear)
runpy.run_path(place, run_name="__main__")
"""


def options_of(array: IscsiArray, **changes: Any) -> dict[str, Any]:
    """Return the driver's options for an array, as a configuration file has them."""
    door = array.ssh
    made = {
        "url": f"ssh://{door.host}:{door.port}",
        "known_host": door.host_key,
        "identity_file": str(door.key),
        "pool": str(array.pool),
    }
    return {**made, **changes}


def typed_options(array: IscsiArray, **changes: Any) -> IscsiSshOptions:
    """Return the same as the driver's constructor takes them."""
    raw = options_of(array, **changes)
    paths = {name: Path(raw[name]) for name in ("identity_file", "pool")}
    return IscsiSshOptions(**{**raw, **paths})


def control_socket(array: IscsiArray) -> Path:
    """Return tgtd's control socket; tgtd puts its number behind the name."""
    return array.socket.with_name(f"{array.socket.name}.0")


@contextmanager
def prepared_array(home: Path, **more: Any) -> Iterator[IscsiArray]:
    """An array with a pool."""
    with IscsiArray(home, **more) as array:
        host, port = array.portal
        install(typed_options(array), portal=f"{host}:{port}", socket=control_socket(array))
        yield array


@contextmanager
def opened(array: IscsiArray, **changes: Any) -> Iterator[IscsiSshDriver]:
    """An open driver."""
    driver = IscsiSshDriver(typed_options(array, **changes))
    try:
        driver.open(call())
        yield driver
    finally:
        driver.close()


def host(name: str = "host-1", secret: str = SECRET) -> Host:
    """A host with an initiator of its own."""
    iqn = f"iqn.2026-01.org.example:{name}"
    return Host(id=HostId(name), iqn=iqn, chap_user=f"user-{name}", chap_secret=Secret(secret))


def spec(volume: VolumeId = WEB, size: int = 16 * MIB) -> VolumeSpec:
    """A specification."""
    return VolumeSpec(id=volume, size=size)


def read(driver: IscsiSshDriver, volume: VolumeId, offset: int = 0, length: int = 4096) -> bytes:
    """Read as a host, then let go."""
    reader, data = host("reader"), bytearray(length)
    with open_source(driver.grant(volume, reader, call(), read_only=True), timeout=10) as source:
        source.read_into(offset, memoryview(data))
    driver.revoke(volume, reader.id, call())
    return bytes(data)


def what_is_kept(array: IscsiArray) -> set[str]:
    """Return the files that the agent keeps, and tgtd's targets and accounts; nothing of an empty pool."""
    home = array.pool / HOME
    files = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    kept = {name for name in files if not name.startswith("agent-") and name not in ("pool.json", "lock")}
    shown = array.tgtadm("--op", "show", "--mode", "target").splitlines()
    accounts = array.tgtadm("--op", "show", "--mode", "account").splitlines()[1:]
    return kept | {line for line in shown if line.startswith("Target")} | set(accounts)


def die_in_the_agent(array: IscsiArray, point: int, act: str, arguments: Mapping[str, Any]) -> bool:
    """Run a request on the array and kill it at its n-th act; tell whether it lived so long."""
    request = {
        "pool": str(array.pool),
        "owner": "bollard",
        "seconds": 30,
        "act": act,
        "with": dict(arguments),
    }
    place = agent_directory(array.pool)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _KILLER, str(place), str(point)],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if done.returncode == 0:
        assert "ok" in json.loads(done.stdout), done.stdout
        return False
    assert done.returncode == -9, done.stderr
    return True


def short(seconds: float) -> Call:
    """A call with little time."""
    return Call.within(seconds)
