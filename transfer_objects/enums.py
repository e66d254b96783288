"""The closed vocabularies. A member's value is its name on CloudStack's wire.

Native JSON is strict about case; `parse` is for what people and CloudStack's API send, which compares
without regard to case.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from .errors import MAX_SHOWN, DecodeError, did_you_mean


class WireEnum(StrEnum):
    """Base of all enums here."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the member called `text`, in any case.

        Raises:
            DecodeError: naming the valid values.
        """
        folded = text.casefold()
        for member in cls:
            if member.value.casefold() == folded:
                return member
        raise cls.unknown(text)

    @classmethod
    def unknown(cls, text: str) -> DecodeError:
        """Return the error for `text`, with the closest member or all of them."""
        values = [member.value for member in cls]
        return DecodeError(f"{text[:MAX_SHOWN]!a} is no {cls.__name__}", hint=did_you_mean(text, values))


class DataStoreRole(WireEnum):
    """What a store is for. IMAGE is secondary storage; IMAGE_CACHE is its NFS staging area."""

    PRIMARY = "Primary"
    IMAGE = "Image"
    IMAGE_CACHE = "ImageCache"
    BACKUP = "Backup"
    OBJECT = "Object"

    @property
    def is_image_store(self) -> bool:
        """True for secondary storage and its cache."""
        return self in (DataStoreRole.IMAGE, DataStoreRole.IMAGE_CACHE)


class DataObjectType(WireEnum):
    """What a data object is. ARCHIVE (diagnostics) came with CloudStack 4.14."""

    VOLUME = "VOLUME"
    SNAPSHOT = "SNAPSHOT"
    TEMPLATE = "TEMPLATE"
    ARCHIVE = "ARCHIVE"


class ImageFormat(WireEnum):
    """The format of an image's bytes."""

    QCOW2 = "QCOW2"
    RAW = "RAW"
    VHD = "VHD"
    ISO = "ISO"
    OVA = "OVA"
    VHDX = "VHDX"
    BAREMETAL = "BAREMETAL"
    VMDK = "VMDK"
    VDI = "VDI"
    TAR = "TAR"
    DIR = "DIR"
    ZIP = "ZIP"


class StoragePoolType(WireEnum):
    """How hosts reach a primary pool."""

    FILESYSTEM = "Filesystem"
    NETWORK_FILESYSTEM = "NetworkFilesystem"
    ISCSI_LUN = "IscsiLUN"
    ISCSI = "Iscsi"
    ISO = "ISO"
    LVM = "LVM"
    CLVM = "CLVM"
    CLVM_NG = "CLVM_NG"
    RBD = "RBD"
    SHARED_MOUNT_POINT = "SharedMountPoint"
    VMFS = "VMFS"
    PRE_SETUP = "PreSetup"
    EXT = "EXT"
    OCFS2 = "OCFS2"
    SMB = "SMB"
    GLUSTER = "Gluster"
    POWER_FLEX = "PowerFlex"
    MANAGED_NFS = "ManagedNFS"
    LINSTOR = "Linstor"
    DATASTORE_CLUSTER = "DatastoreCluster"
    STOR_POOL = "StorPool"
    FIBER_CHANNEL = "FiberChannel"


class HypervisorType(WireEnum):
    """Who runs the VM. `Parralels` is misspelt on the wire."""

    NONE = "None"
    XEN_SERVER = "XenServer"
    KVM = "KVM"
    VMWARE = "VMware"
    HYPERV = "Hyperv"
    VIRTUAL_BOX = "VirtualBox"
    PARALLELS = "Parralels"
    BARE_METAL = "BareMetal"
    SIMULATOR = "Simulator"
    OVM = "Ovm"
    OVM3 = "Ovm3"
    LXC = "LXC"
    CUSTOM = "Custom"
    EXTERNAL = "External"
    ANY = "Any"

    @classmethod
    def parse(cls, text: str) -> HypervisorType:
        """Return the member called `text`, in any case; NONE for a stranger, as CloudStack does."""
        try:
            return super().parse(text)
        except DecodeError:
            return cls.NONE


class ProvisioningType(WireEnum):
    """When space is taken: as written, sparse file, or at once."""

    THIN = "THIN"
    SPARSE = "SPARSE"
    FAT = "FAT"


class DiskCacheMode(WireEnum):
    """Host cache of an attached disk. HYPERVISOR_DEFAULT means something on KVM only."""

    NONE = "NONE"
    WRITEBACK = "WRITEBACK"
    WRITETHROUGH = "WRITETHROUGH"
    HYPERVISOR_DEFAULT = "HYPERVISOR_DEFAULT"


class VolumeType(WireEnum):
    """What a volume is to its VM."""

    UNKNOWN = "UNKNOWN"
    ROOT = "ROOT"
    SWAP = "SWAP"
    DATADISK = "DATADISK"
    ISO = "ISO"


class SnapshotType(WireEnum):
    """Who asked for a volume snapshot.

    GROUP is a member of a VM snapshot; FROM_GROUP is a volume snapshot made from a VM snapshot.
    """

    MANUAL = "MANUAL"
    RECURRING = "RECURRING"
    TEMPLATE = "TEMPLATE"
    HOURLY = "HOURLY"
    DAILY = "DAILY"
    WEEKLY = "WEEKLY"
    MONTHLY = "MONTHLY"
    GROUP = "GROUP"
    FROM_GROUP = "FROM_GROUP"
    INTERNAL = "INTERNAL"


class SnapshotLocation(WireEnum):
    """Where a snapshot is to be kept.

    CloudStack's first commit said Standard and Archive; every release since PR #1600 says PRIMARY and
    SECONDARY. For non-managed storage the two pairs do not even mean the same place (Standard there is
    secondary storage), which is why Bollard keeps the older words and takes the newer as synonyms.
    """

    STANDARD = "Standard"
    ARCHIVE = "Archive"

    @classmethod
    def parse(cls, text: str) -> SnapshotLocation:
        """Return the location for Standard, Archive, PRIMARY or SECONDARY, in any case.

        Raises:
            DecodeError: naming the valid values.
        """
        synonyms = {"primary": "Standard", "secondary": "Archive"}
        try:
            return super().parse(synonyms.get(text.casefold(), text))
        except DecodeError as error:
            words = ("Standard", "Archive", "PRIMARY", "SECONDARY")
            raise DecodeError(error.rule, hint=f"valid are: {', '.join(words)}") from error


class VMSnapshotType(WireEnum):
    """Whether a VM snapshot holds the memory too."""

    DISK = "Disk"
    DISK_AND_MEMORY = "DiskAndMemory"


class MigrationType(WireEnum):
    """How a migrated volume relates to its template afterwards."""

    LINKED_CLONE = "LinkedClone"
    FULL_CLONE = "FullClone"


class ScopeType(WireEnum):
    """Who can reach a pool."""

    HOST = "HOST"
    CLUSTER = "CLUSTER"
    ZONE = "ZONE"
    REGION = "REGION"
    GLOBAL = "GLOBAL"
