"""The fixture `kvm_rig`, for test modules that say `pytest_plugins = ["kvm_rig_fixture"]`.

Apart from `kvm_driving`: pytest wants to see a module of fixtures before a test imports it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kvm_driving import KvmRig, driver_for
from kvm_lab.guests import Guest
from kvm_lab.host import Host
from kvm_lab.vms import Vm


@pytest.fixture
def kvm_rig(
    kvm_host: Host, kvm_directory: Path, guest: Callable[..., Guest], blank_vm: Callable[..., Vm]
) -> Iterator[KvmRig]:
    """A driver on the lab's first host."""
    driver = driver_for(kvm_directory, kvm_host)
    yield KvmRig(driver, kvm_host, kvm_directory, guest, blank_vm)
    driver.close()
    for server in (kvm_directory / "scratch").glob("*.pid"):  # of a backup that a failing test did not end
        with suppress(ProcessLookupError):
            os.kill(int(server.read_text()), signal.SIGKILL)
