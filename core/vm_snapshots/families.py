"""What the hypervisor families do with a VM snapshot, as far as it decides who takes it.

                            KVM    VMware   XenServer   Hyper-V
    freezes guests          yes    yes      no          yes        without: "quiesce" has no effect
    disk-only, running      no     yes      yes         yes        else overlays or the storage must do it

KVM's row is libvirt's: it refuses an internal snapshot of a running VM without memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ...transfer_objects.enums import HypervisorType


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """See the table."""

    freezes: bool = True
    disk_only_running: bool = True


FAMILIES: Mapping[HypervisorType, Family] = MappingProxyType(
    {
        HypervisorType.KVM: Family(disk_only_running=False),
        HypervisorType.VMWARE: Family(),
        HypervisorType.XEN_SERVER: Family(freezes=False),
        HypervisorType.HYPERV: Family(),
    }
)


def family_of(kind: HypervisorType) -> Family:
    """Return the family's row; a stranger is asked to do everything, and refuses by itself."""
    return FAMILIES.get(kind, Family())
