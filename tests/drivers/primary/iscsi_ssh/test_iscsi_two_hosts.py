"""Two hosts, one LUN: the first one never stops writing, and the second one never sees it after it took over.

host A: a group of processes, QEMU's iSCSI in it, that writes and logs in for ever
cut off by revoke, or by a fence that cuts the power of A's machine; then B has the LUN
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bmc_rig import PASSWORD, ipmi
from bollard.core.dataplane import open_sink, open_source
from bollard.core.spi import IscsiLocation, StorageError
from bollard.drivers.primary.iscsi_ssh import IscsiSshDriver
from bollard.simulators.bmc import BmcSimulator
from iscsi_rig import host, spec
from lun_machine import BLOCK, BLOCKS, Machine, generations, machine
from primary_rig import WEB, call

pytestmark = [pytest.mark.real(root=True), pytest.mark.slow]

A, B = host("host-a"), host("host-b")


@pytest.fixture
def first(driver: IscsiSshDriver, tmp_path: Path) -> Iterator[tuple[Machine, IscsiLocation]]:
    """Host A, which has a volume and writes to it, and its location; nothing is left of both."""
    driver.create_volume(spec(), call())
    location = driver.grant(WEB, A, call())
    with machine(location, tmp_path / "notes") as made:
        yield made, location
    for held in (A, B):
        driver.revoke(WEB, held.id, call())
    driver.delete_volume(WEB, call())


def _read(location: IscsiLocation) -> list[int]:
    with open_source(location, timeout=10) as source:
        return generations(source)


def _fill(location: IscsiLocation, generation: int) -> None:
    with open_sink(location, timeout=10) as sink:
        sink.write(0, generation.to_bytes(8, "big") * (BLOCK // 8 * BLOCKS))
        sink.flush()


@pytest.mark.parametrize("asleep", [False, True], ids=["awake", "asleep"])
def test_revoke_cuts_off_a_writer(driver: IscsiSshDriver, first, asleep: bool) -> None:
    """B owns the LUN alone, though A is in the middle of a write and logs in again and again.

    Asleep: A's machine stood still while it lost the LUN, and goes on with what it had queued afterwards.
    """
    writer, theirs = first
    if asleep:
        writer.signal(signal.SIGSTOP)
    driver.revoke(WEB, A.id, call())
    ours = driver.grant(WEB, B, call())
    seen = _read(ours)
    # A generation that was noted and not acknowledged may have landed before the revoke, a later one not.
    assert 0 < max(seen) <= writer.begun()
    _fill(ours, 2**60)
    writer.signal(signal.SIGCONT)
    writer.tries_on()
    assert _read(ours) == [2**60] * BLOCKS
    with pytest.raises(StorageError):
        _read(theirs)


def test_a_fence_comes_before_the_revoke(driver: IscsiSshDriver, first) -> None:
    """Once `power_off` has returned A is dead: nothing of it lands, even before its access is revoked."""
    writer, _ = first

    def hook(on: bool) -> None:
        assert not on
        writer.cut_power()

    with BmcSimulator({"admin": PASSWORD}, hook=hook) as bmc:
        ipmi(bmc.port).power_off(call(120))
        assert bmc.chassis.log.count("read off") >= 2
    last = writer.begun()
    driver.revoke(WEB, A.id, call())
    ours = driver.grant(WEB, B, call())
    seen = _read(ours)
    assert 0 < max(seen) <= last
    _fill(ours, 2**60)
    assert _read(ours) == [2**60] * BLOCKS
    assert writer.begun() == last


def test_a_reused_lun_shows_nothing_old(driver: IscsiSshDriver, first) -> None:
    """A volume of the same id, made after A's was deleted, reads zeros, and A gets in nowhere."""
    writer, theirs = first
    driver.revoke(WEB, A.id, call())
    driver.delete_volume(WEB, call())
    driver.create_volume(spec(), call())
    ours = driver.grant(WEB, B, call())
    assert ours.target != theirs.target
    assert _read(ours) == [0] * BLOCKS
    writer.tries_on()
    assert _read(ours) == [0] * BLOCKS
    with pytest.raises(StorageError):
        _read(theirs)
