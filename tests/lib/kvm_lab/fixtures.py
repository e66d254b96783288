"""Fixtures of the lab, for every conftest.py that wants them: `from kvm_lab.fixtures import *`.

Of the session: kvm_lab, kvm_host, second_host. Of the test: crashable_host, kvm_directory, guest, blank_vm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .domain_xml import Disk
from .guests import Guest
from .host import Host
from .lab import Lab
from .vms import Vm, new_name

MakeGuest = Callable[..., Guest]
MakeVm = Callable[..., Vm]

__all__ = [
    "blank_vm",
    "crashable_host",
    "guest",
    "kvm_directory",
    "kvm_host",
    "kvm_lab",
    "second_host",
]


@pytest.fixture(scope="session")
def kvm_lab() -> Iterator[Lab]:
    """The lab of this session (of this worker, under pytest-xdist)."""
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="session")
def kvm_host(kvm_lab: Lab) -> Host:
    """The host that most tests use; its libvirtd may be killed, the host itself not."""
    return kvm_lab.host("a")


@pytest.fixture(scope="session")
def second_host(kvm_lab: Lab) -> Host:
    """Where VMs are migrated to."""
    return kvm_lab.host("b")


@pytest.fixture
def crashable_host(kvm_lab: Lab) -> Iterator[Host]:
    """A host for this test alone."""
    host = kvm_lab.host(new_name().replace("vm", "host"))
    yield host
    host.stop()


@pytest.fixture
def kvm_directory(kvm_lab: Lab) -> Path:
    """A directory for this test's images, seen by all hosts."""
    return kvm_lab.new_directory()


@pytest.fixture
def guest(kvm_lab: Lab, kvm_host: Host, kvm_directory: Path) -> Iterator[MakeGuest]:
    """Brings up booted guests: `guest(*disks, host=kvm_host, name="")`; they end with the test."""
    with _Removed(kvm_lab) as removed:

        def make(*disks: Disk, host: Host = kvm_host, name: str = "") -> Guest:
            host.start()  # the test before may have killed its libvirtd
            name = removed.later(name)
            return kvm_lab.template.clone(host, kvm_directory, disks, name)

        yield make


@pytest.fixture
def blank_vm(kvm_lab: Lab, kvm_host: Host, kvm_directory: Path) -> Iterator[MakeVm]:
    """Starts paused VMs without a guest: `blank_vm(*disks, host=kvm_host, name="")`; they end likewise."""
    with _Removed(kvm_lab) as removed:

        def make(*disks: Disk, host: Host = kvm_host, name: str = "") -> Vm:
            host.start()
            name = removed.later(name)
            return Vm.blank(host, kvm_directory, disks, name)

        yield make


class _Removed:
    """Removes VMs at the end, wherever they are by then."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._names: list[str] = []

    def later(self, name: str) -> str:
        self._names.append(name or new_name())
        return self._names[-1]

    def __enter__(self) -> _Removed:
        return self

    def __exit__(self, *_: object) -> None:
        for host in self._lab.hosts:
            host.start()
            for name in self._names:
                Vm(host, name).remove()
