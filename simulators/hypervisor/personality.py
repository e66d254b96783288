"""How the four hypervisor families differ, as far as storage sees it.

                 KVM        VMware      XenServer   Hyperv
object known as  device     datastore   SR + VDI    CSV path
a copy of a      -          duplicate   duplicate   -
known object                VMFS        SR and VDI
after a reboot   forgotten  known       known       known
quiesce          agent      tools       no          VSS
disk's path      stays      new with    new with    stays
                            snapshot    revert
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

_NAMESPACE = uuid.UUID("6f0ce1f4-9a3b-5cb0-8b34-0d8a31c2b7aa")


@dataclass(frozen=True, slots=True, kw_only=True)
class Personality:
    """The rules of one family.

    Attributes:
        name: as CloudStack spells the hypervisor type.
        can_quiesce: whether guests can be frozen at all.
        remembers_objects: whether introduced objects survive the host's reboot.
        moves_disk_on_snapshot: the live disk gets a new path with each VM snapshot.
        moves_disk_on_revert: the live disk gets a new path with each revert.
        disk_prefix: first part of the device names that guests see.
        has_signatures: what lies on a LUN names it, so that a host does not take a copy beside the original.
    """

    name: str
    can_quiesce: bool
    remembers_objects: bool
    moves_disk_on_snapshot: bool = False
    moves_disk_on_revert: bool = False
    disk_prefix: str
    has_signatures: bool = False

    def place(self, host: str, object_id: str, identity: str, label: str = "") -> dict[str, str]:
        """Where a host knows an introduced object; "path" is what attaching takes.

        Args:
            host: which one.
            object_id: of the object.
            identity: what the host found.
            label: the new signature of a copy; "": the object has the one that it came with.
        """
        match self.name:
            case "XenServer":
                vdi = str(uuid.uuid5(_NAMESPACE, f"{host}/{object_id}"))
                return {"path": vdi, "sr": str(uuid.uuid5(_NAMESPACE, object_id + label)), "vdi": vdi}
            case "VMware":
                store = f"snap-{label[:8]}-{identity}" if label else f"-{identity}-0"
                return {"path": f"[{store}] {object_id}/{object_id}.vmdk", "datastore": store}
            case "Hyperv":
                return {"path": rf"C:\ClusterStorage\{object_id}\{object_id}.vhdx"}
            case _:
                return {"path": f"/dev/disk/by-id/bollard-{identity.strip('/').replace('/', '-')}"}

    def guest_device(self, index: int) -> str:
        """The name of a guest's disk number ``index``."""
        if self.disk_prefix.isalpha():
            return f"{self.disk_prefix}{chr(ord('a') + index)}"
        return f"{self.disk_prefix}{index}"


PERSONALITIES = {
    rules.name: rules
    for rules in (
        Personality(name="KVM", can_quiesce=True, remembers_objects=False, disk_prefix="vd"),
        Personality(
            name="VMware",
            can_quiesce=True,
            remembers_objects=True,
            moves_disk_on_snapshot=True,
            disk_prefix="scsi0:",
            has_signatures=True,
        ),
        Personality(
            name="XenServer",
            can_quiesce=False,
            remembers_objects=True,
            moves_disk_on_revert=True,
            disk_prefix="xvd",
            has_signatures=True,
        ),
        Personality(name="Hyperv", can_quiesce=True, remembers_objects=True, disk_prefix="SCSI 0:"),
    )
}
