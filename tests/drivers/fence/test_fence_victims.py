"""Somebody dies: the BMC's power is tied to a process, which is dead when `power_off` returns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bmc_rig import PASSWORD, ended, eventually, ipmi, ipmitool, openipmi
from bollard.core.spi import Call, Internal, Outcome, PowerState, Unauthenticated
from bollard.simulators.bmc import BmcSimulator

_WRITER = """
import os, sys
generation, file = 0, os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
while True:
    generation += 1
    os.pwrite(file, generation.to_bytes(8), 0)
"""


class Victim:
    """A process that writes a rising number into a file, and does nothing else."""

    def __init__(self, process: subprocess.Popen[bytes], file: Path) -> None:
        self.process = process
        self._file = file

    def generation(self) -> int:
        """Return what it wrote last."""
        return int.from_bytes(self._file.read_bytes()) if self._file.exists() else 0

    def writes(self) -> None:
        """Wait until it has written something new."""
        before = self.generation()
        eventually(lambda: self.generation() > before)


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    """A writer that does not stop by itself."""
    file = tmp_path / "generation"
    with ended(subprocess.Popen([sys.executable, "-c", _WRITER, str(file)])) as process:
        victim = Victim(process, file)
        victim.writes()
        yield victim


def test_writer_is_dead_before_the_fence_returns(victim: Victim):
    """After `power_off` the number does not rise any more: the last write was before it."""

    def hook(on: bool) -> None:
        if not on:
            os.kill(victim.process.pid, signal.SIGKILL)
            victim.process.wait()

    with BmcSimulator({"admin": PASSWORD}, hook=hook) as bmc:
        ipmi(bmc.port).power_off(Call.within())
        last = victim.generation()
        assert victim.process.poll() == -signal.SIGKILL
    assert victim.generation() == last


def test_writer_outlives_a_deaf_bmc(victim: Victim):
    """A BMC that lies about it is found out while the victim writes on."""
    with BmcSimulator({"admin": PASSWORD}) as bmc:
        bmc.defects.update({"deaf": True, "says_off": 1})
        with pytest.raises(Internal) as raised:
            ipmi(bmc.port).power_off(Call.within())
    assert raised.value.outcome is Outcome.UNKNOWN
    victim.writes()


@pytest.mark.real
def test_openipmi_kills(victim: Victim, tmp_path: Path):
    """OpenIPMI's simulator, which nobody here wrote, kills a writer through its chassis control."""
    (tmp_path / "bmc").mkdir()
    with openipmi(tmp_path / "bmc", victim.process.pid) as port:
        fence = ipmi(port, timeout=10)
        assert fence.power_state(Call.within()) is PowerState.ON
        for options in ({"password": "not-this"}, {"username": "nobody"}):
            with pytest.raises(Unauthenticated):
                ipmi(port, **options).power_off(Call.within())
        victim.writes()
        fence.power_off(Call.within())
        assert victim.process.wait(1) == -signal.SIGKILL
        assert ipmitool(port, "power", "status") == "Chassis Power is off"
        fence.power_on(Call.within())
        assert ipmitool(port, "power", "status") == "Chassis Power is on"


@pytest.mark.real
def test_qemu_lets_go_of_its_disk(tmp_path: Path):
    """A QEMU holds its image's lock until the fence has killed it; then the image can be written."""
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(65536))
    drive = f"file={disk},format=raw,if=virtio"
    command = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-S", "-accel", "tcg"]
    write = ["qemu-io", "-f", "raw", "-c", "write 0 4k", str(disk)]
    pipe = subprocess.PIPE
    command += ["-drive", drive, "-qmp", "stdio"]
    with ended(subprocess.Popen(command, stdin=pipe, stdout=pipe)) as qemu:
        _ready(qemu)

        def hook(on: bool) -> None:
            assert not on
            os.kill(qemu.pid, signal.SIGKILL)
            qemu.wait()

        assert subprocess.run(write, capture_output=True, timeout=30).returncode == 1
        with BmcSimulator({"admin": PASSWORD}, hook=hook) as bmc:
            ipmi(bmc.port).power_off(Call.within())
        assert subprocess.run(write, capture_output=True, timeout=30).returncode == 0


def _ready(qemu: subprocess.Popen[bytes]) -> None:
    """Wait for the answer to a command: QEMU gives none before it has opened and locked its disks."""
    assert qemu.stdin
    assert qemu.stdout
    qemu.stdin.write(b'{"execute": "qmp_capabilities"}\n')
    qemu.stdin.flush()
    while b'"return"' not in (line := qemu.stdout.readline()):
        assert line, "QEMU ended"
