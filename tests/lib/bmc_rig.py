"""BMCs for tests: drivers from options, OpenIPMI's ipmi_sim, sushy-tools' emulator, and who is left over."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bollard.core.spi import parse_options
from bollard.drivers.fence.ipmi.driver import IpmiFence
from bollard.drivers.fence.redfish.driver import RedfishFence
from ports import free_port

PASSWORD = "s3cret-of-the-bmc"
QUICK = {"username": "admin", "password": PASSWORD, "timeout": 30.0, "settle": 1.0, "confirm_after": 0.1}

_LAN = """\
name "bollard"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 {port}
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "{script} 0x20"
  user 1 true "" "test" user 10 none md2 md5 straight
  user 2 true "admin" "{password}" admin 10 none md2 md5 straight
"""
_EMULATED = """\
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
mc_enable 0x20
"""
# Called as: SCRIPT <mc> get power | SCRIPT <mc> set power 0
_CHASSIS = """\
#!/bin/sh
cd {directory} || exit 1
shift
case "$1 $2" in
"get power") echo "power:$(cat power)" ;;
"get boot") echo "boot:default" ;;
"set power") [ "$3" = 1 ] || [ ! -f victim ] || kill -9 "$(cat victim)"; echo "$3" > power ;;
esac
"""


def ipmi(port: int, **options: Any) -> IpmiFence:
    """Return a driver for a BMC of this machine."""
    return IpmiFence(
        parse_options(IpmiFence.Options, {"host": "127.0.0.1", "port": port, **QUICK, **options})
    )


def redfish(url: str, **options: Any) -> RedfishFence:
    """Return a driver for a BMC that speaks Redfish."""
    return RedfishFence(parse_options(RedfishFence.Options, {"url": url, **QUICK, **options}))


def eventually(holds: Callable[[], object], seconds: float = 30.0) -> None:
    """Look until it is so."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it did not come to be"
        time.sleep(0.02)


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Kill a process at the end, by its id."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def openipmi(directory: Path, victim: int | None = None) -> Iterator[int]:
    """Run OpenIPMI's ipmi_sim with a host that is on; yield its port.

    Args:
        directory: an empty one.
        victim: the process that dies with the power.
    """
    port, script = free_port(), directory / "chassis"
    script.write_text(_CHASSIS.format(directory=directory))
    script.chmod(0o755)
    (directory / "power").write_text("1\n")
    if victim is not None:
        (directory / "victim").write_text(f"{victim}\n")
    (directory / "lan").write_text(_LAN.format(port=port, script=script, password=PASSWORD))
    (directory / "emu").write_text(_EMULATED)
    command = ["ipmi_sim", "-n", "-c", "lan", "-f", "emu", "-s", str(directory / "state")]
    quiet = subprocess.DEVNULL
    with ended(subprocess.Popen(command, cwd=directory, stdin=quiet, stdout=quiet, stderr=quiet)):
        eventually(lambda: answers(port))
        yield port


def answers(port: int) -> bool:
    """Tell whether a BMC answers "Get Channel Authentication Capabilities"."""
    ask = bytes.fromhex("0600ff07 00 00000000 00000000 09 2018c8810038 8e04b5".replace(" ", ""))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        try:
            sock.connect(("127.0.0.1", port))
            sock.send(ask)
            return bool(sock.recv(100))
        except (TimeoutError, ConnectionRefusedError):
            return False


def ipmitool(port: int, *words: str, suite: int = 3, password: str = PASSWORD) -> str:
    """Ask a BMC with the client that nobody here wrote."""
    where = ["-H", "127.0.0.1", "-p", str(port), "-U", "admin", "-C", str(suite), "-N", "1", "-R", "2", "-E"]
    done = subprocess.run(
        ["ipmitool", "-I", "lanplus", *where, *words],
        env={**os.environ, "IPMI_PASSWORD": password},
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.stdout.strip() or done.stderr.strip()


@contextmanager
def emulator(directory: Path, **told: Any) -> Iterator[str]:
    """Run sushy-tools' Redfish emulator with a fake host that is on; yield its url.

    Args:
        directory: an empty one.
        told: "power": what becomes of commands ("deaf", "freezes", "refuses", "fails"); "state": the host's
            at the start; "systems": how many hosts (1 or 2); "chain" and "key": its certificate; "open":
            whether everybody is let in, with any password.
    """
    request = {"directory": str(directory), "password": PASSWORD, **told}
    script = str(Path(__file__).with_name("bmc_redfish.py"))
    pipe = subprocess.PIPE
    with ended(
        subprocess.Popen([sys.executable, script], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
    ) as it:
        assert it.stdin
        assert it.stdout
        it.stdin.write(json.dumps(request).encode() + b"\n")
        it.stdin.flush()
        port = int(it.stdout.readline())
        yield f"http{'s' if 'chain' in told else ''}://127.0.0.1:{port}"


def children(parent: int) -> list[int]:
    """Return the processes that a process has started and that run; zombies are dead."""
    return [pid for pid, (state, of) in _processes().items() if of == parent and state != "Z"]


def lives(pid: int) -> bool:
    """Tell whether a process runs."""
    return _processes().get(pid, ("Z", 0))[0] != "Z"


def _processes() -> Mapping[int, tuple[str, int]]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended since
            found[int(entry.name)] = (state, int(parent))
    return found


def workers(parent: int) -> list[int]:
    """Return the children that talk to a BMC."""
    return [pid for pid in children(parent) if b"bollard.drivers.fence.worker" in _of(pid, "cmdline")]


def _of(pid: int, name: str) -> bytes:
    try:
        return (Path("/proc") / str(pid) / name).read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
