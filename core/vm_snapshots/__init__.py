"""VM snapshots: many disks of one VM at one instant, as a tree, by whatever strategy fits."""

from ..catalog import IllegalTransition
from .checks import Hooks
from .driver_strategy import DriverStrategy
from .file_strategy import FileStrategy
from .guards import Act, check_act
from .hypervisor import Hypervisor
from .hypervisor_strategy import HypervisorStrategy
from .machine import Machine, Machines, VmVolume
from .manager import Reverted, VmSnapshotManager
from .records import Records, VmSnapshot, VmSnapshotSpec
from .register import drop_register, restore_register
from .states import Event, State
from .strategy import Priority, Strategy, choose
from .sync import Ended, VmSnapshotSync
from .vm_locks import VmLocks
from .volume_quiesce import VmGuest, VolumeCut, snapshot_in_chain, snapshot_volume

__all__ = [
    "Act",
    "DriverStrategy",
    "Ended",
    "Event",
    "FileStrategy",
    "Hooks",
    "Hypervisor",
    "HypervisorStrategy",
    "IllegalTransition",
    "Machine",
    "Machines",
    "Priority",
    "Records",
    "Reverted",
    "State",
    "Strategy",
    "VmGuest",
    "VmLocks",
    "VmSnapshot",
    "VmSnapshotManager",
    "VmSnapshotSpec",
    "VmSnapshotSync",
    "VmVolume",
    "VolumeCut",
    "check_act",
    "choose",
    "drop_register",
    "restore_register",
    "snapshot_in_chain",
    "snapshot_volume",
]
