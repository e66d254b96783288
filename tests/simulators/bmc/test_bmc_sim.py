"""The simulated BMC: frames and logins, judged by ipmitool and by broken packets; its power; its faults."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from bmc_rig import PASSWORD, answers, ipmitool
from bollard.simulators.bmc import BmcDefects, BmcSimulator, Chassis, User
from bollard.simulators.bmc.__main__ import main
from bollard.simulators.bmc.rmcp import SUITES, BadFrame, Seal, parse, request, response
from bollard.simulators.process import SimulatorFailed, SimulatorProcess


@pytest.fixture
def bmc() -> Iterator[BmcSimulator]:
    """A BMC whose host is on."""
    with BmcSimulator({"admin": PASSWORD, "guest": User(PASSWORD, 2)}) as simulator:
        yield simulator


@pytest.mark.real
@pytest.mark.parametrize("suite", [3, 17])
def test_ipmitool(bmc: BmcSimulator, suite):
    """A client that nobody here wrote logs in with both cipher suites, switches and reads."""
    assert ipmitool(bmc.port, "power", "status", suite=suite) == "Chassis Power is on"
    assert ipmitool(bmc.port, "power", "off", suite=suite) == "Chassis Power Control: Down/Off"
    assert ipmitool(bmc.port, "power", "status", suite=suite) == "Chassis Power is off"
    assert ipmitool(bmc.port, "power", "on", suite=suite) == "Chassis Power Control: Up/On"
    assert "IPMI Version              : 2.0" in ipmitool(bmc.port, "mc", "info", suite=suite)
    assert bmc.sessions == 0
    assert bmc.chassis.log == ["read on", "power off", "read off", "power on"]


@pytest.mark.real
def test_ipmitool_is_refused(bmc: BmcSimulator):
    """It is refused for the password, for a suite or a command that is not there."""
    assert "Unable to establish" in ipmitool(bmc.port, "power", "status", password="wrong")
    assert "Error in open session response" in ipmitool(bmc.port, "power", "status", suite=0)
    assert "Invalid data field" in ipmitool(bmc.port, "power", "diag")
    assert bmc.chassis.on


def test_stop_and_start(bmc: BmcSimulator):
    """A BMC that was stopped answers nobody, and comes back on its port with the power as it was."""
    port = bmc.port
    bmc.chassis.switch(on=False)
    bmc.stop()
    bmc.stop()
    assert not answers(port)
    bmc.start()
    assert bmc.port == port
    assert answers(port)
    assert not bmc.chassis.on
    with pytest.raises(RuntimeError, match="runs already"):
        bmc.start()


def test_loopback_only(bmc: BmcSimulator):
    """Nobody else can reach it."""
    assert bmc._socket is not None
    assert bmc._socket.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\x06",
        b"\x06\x00\xff\x07",
        b"\x06\x00\xff\x06" + bytes(30),  # another class of RMCP
        b"\x06\x00\xff\x07\x02" + bytes(40),  # IPMI 1.5 with MD5
        b"\x06\x00\xff\x07\x00" + bytes(8) + b"\x20",  # cut off
        b"\x06\x00\xff\x07\x00" + bytes(8) + b"\x07" + bytes(6) + b"\x01",  # a wrong sum
        b"\x06\x00\xff\x07\x06\x10" + bytes(8) + b"\x04\x00" + bytes(4),  # an offer without ciphers
        b"\x06\x00\xff\x07\x06\x12" + bytes(8) + b"\x1c\x00" + bytes(28),  # RAKP 1 without an offer
        b"\x06\x00\xff\x07\x06\x14" + bytes(8) + b"\x04\x00" + bytes(4),  # RAKP 3, cut off
        b"\x06\x00\xff\x07\x06\xc0" + struct.pack("<IIH", 77, 1, 48) + bytes(60),  # no such session
    ],
)
def test_broken_datagrams(bmc: BmcSimulator, datagram: bytes):
    """What is not IPMI is dropped, and the BMC goes on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", bmc.port))
        sock.send(datagram)
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.recv(100)
    assert answers(bmc.port)


@pytest.mark.parametrize("number", SUITES)
def test_seal(number):
    """What is sealed opens with the same keys only, and not when a bit of it was turned."""
    seal, other = (Seal.of(SUITES[number], os.urandom(20), 7) for _ in range(2))
    for length in range(40):
        message = os.urandom(length)
        datagram = seal.close(message)
        assert parse(datagram).session == 7
        assert seal.open(datagram) == message
        with pytest.raises(BadFrame):
            other.open(datagram)
        with pytest.raises(BadFrame):
            seal.open(datagram[:-1] + bytes([datagram[-1] ^ 1]))
        with pytest.raises(BadFrame):
            seal.open(datagram[:30])


def test_messages():
    """A response goes back to who asked, with the request's sequence, and its sums are right."""
    asked = request(bytes.fromhex("20 18 c8 81 04 38 0e 04 31"))
    assert asked.asks == (0x06, 0x38)
    assert asked.data == b"\x0e\x04"
    told = response(asked, 0xC1)
    assert told == bytes.fromhex("81 1c 63 20 04 38 c1 e3")


def test_late_and_back():
    """Power changes when it is due, the hook hears of each change once, and of nothing else."""
    now = [0.0]
    heard: list[bool] = []
    defects = BmcDefects(late=2.0, comes_back=3.0)
    chassis = Chassis(defects, heard.append, clock=lambda: now[0])
    chassis.switch(on=True)
    chassis.switch(on=False)
    assert (chassis.on, heard) == (True, [])
    now[0] = 2.0
    assert (chassis.on, heard) == (False, [False])
    now[0] = 5.0
    assert (chassis.on, heard) == (True, [False, True])


def test_says_off():
    """A BMC can say OFF of a host that runs, so many times."""
    chassis = Chassis(BmcDefects(says_off=2))
    assert [chassis.reading() for _ in range(3)] == [False, False, True]
    assert chassis.on


def test_hook_fails(bmc: BmcSimulator):
    """When the hook fails, the host is not off, and the BMC answers other requests."""

    def hook(on: bool) -> None:
        raise OSError("no such machine")

    bmc.chassis._hook = hook
    with pytest.raises(OSError, match="no such machine"):
        bmc.chassis.switch(on=False)
    assert bmc.chassis.on
    assert answers(bmc.port)


def test_secret_does_not_show():
    """An account does not print its password."""
    assert PASSWORD not in repr(User(PASSWORD))


@pytest.mark.real
def test_as_a_process(tmp_path: Path):
    """The module serves until SIGTERM, runs a program when the power changes, and takes defects."""
    secret, heard, program = tmp_path / "password", tmp_path / "heard", tmp_path / "program"
    secret.write_text(PASSWORD + "\n")
    program.write_text(f'#!/bin/sh\necho "$1" >> {heard}\n')
    program.chmod(0o755)
    arguments = ["--password-file", str(secret), "--on-power", str(program), "--off", "--defect", "slow=0.01"]
    with SimulatorProcess.start("bmc", *arguments) as process:
        port = int(process.ready["port"])
        assert process.url == f"ipmi://127.0.0.1:{port}"
        assert ipmitool(port, "power", "status") == "Chassis Power is off"
        ipmitool(port, "power", "on")
        ipmitool(port, "power", "off")
        assert heard.read_text().split() == ["on", "off"]
        assert process.stop() == 0


def test_process_without_a_password(monkeypatch):
    """There is no default password, and no defect that is not known."""
    monkeypatch.delenv("BOLLARD_BMC_PASSWORD", raising=False)
    with pytest.raises(SystemExit):
        main([])
    monkeypatch.setenv("BOLLARD_BMC_PASSWORD", PASSWORD)
    with pytest.raises(ValueError, match="no defect"):
        main(["--defect", "no_such"])
    with pytest.raises(SimulatorFailed, match="no defect"):
        SimulatorProcess.start("bmc", "--defect", "no_such")
