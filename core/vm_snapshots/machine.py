"""What the orchestrator tells about a VM when it asks for a snapshot of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ...transfer_objects.enums import HypervisorType
from ...transfer_objects.ids import VmId, VolumeId
from ..pool import Pool
from .hypervisor import Hypervisor


@dataclass(frozen=True, slots=True, kw_only=True)
class VmVolume:
    """A volume of a VM, as the device that the hypervisor has it on, on an open pool."""

    volume: VolumeId
    device: str
    pool: Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A VM.

    Attributes:
        volumes: all of its disks.
        offering: its service offering, as the orchestrator wants it back after a revert with memory.
    """

    vm: VmId
    hypervisor: Hypervisor
    family: HypervisorType
    volumes: tuple[VmVolume, ...]
    offering: Mapping[str, str] = field(default_factory=dict)


class Machines(Protocol):
    """Who knows the VMs: the orchestrator."""

    def machine(self, vm: VmId) -> Machine:
        """Return the VM as it is now, or raise `NotFound`."""
