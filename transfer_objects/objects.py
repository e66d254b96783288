"""What lies in the stores: volumes, snapshots, templates, and VM snapshots over several volumes.

Answers carry half-filled objects (a path and a size), so almost every field may be absent; what must not be
absent is a way to tell which object is meant (`identified_by`). A number or flag that is a Java primitive on
CloudStack's wire has that primitive's default here (0, False); a boxed one has None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, TypeAlias

from .base import TransferObject
from .details import Details
from .enums import (
    DataObjectType,
    DiskCacheMode,
    HypervisorType,
    ImageFormat,
    MigrationType,
    ProvisioningType,
    ScopeType,
    StoragePoolType,
    VMSnapshotType,
    VolumeType,
)
from .ids import StoreId, TemplateId, VolumeId
from .rules import ID, Count, Int64, Label, Name, Path, Text, Url
from .secret import Secret
from .stores import DataStoreTO


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationOptions(TransferObject):
    """How a volume is to be moved. `timeout` in seconds."""

    source_pool_uuid: Annotated[StoreId, ID] | None = None
    source_pool_type: StoragePoolType | None = None
    migration_type: MigrationType | None = None
    scope_type: ScopeType | None = None
    source_backing_file_path: Path | None = None
    copy_source_template: bool = False
    source_volume_uuid: Annotated[VolumeId, ID] | None = None
    timeout: Count = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeObjectTO(TransferObject):
    """A virtual disk.

    Attributes:
        path: file name in the pool (non-managed), IQN or WWN path (managed), VDI uuid (XenServer).
        size: bytes that the guest sees; `usable_size`: bytes with the overhead of encryption.
        volume_id: CloudStack repeats `id` under this name.
        vm_name: instance that it is attached to; None when detached.
        chain_info: VMware's disk chain, JSON.
        bytes_read_rate: bytes per second, `…_max` in a burst of `…_max_length` seconds; iops likewise.
        cache_mode: HYPERVISOR_DEFAULT becomes NONE on a hypervisor that is known and is not KVM.
        data_store_uuid: and `updated_data_store_uuid`: VMware: where the disk ended up.
        passphrase: LUKS. Drop the object as soon as the disk is open.
        encrypt_format: e.g. "LUKS".
        checkpoint_paths: checkpoint XML files to redefine on the VM, oldest first.
        checkpoint_image_store_urls: the secondary stores that hold those files.
    """

    identified_by: ClassVar[tuple[str, ...]] = ("uuid", "path")

    uuid: Annotated[VolumeId, ID] | None = None
    name: Name | None = None
    path: Path | None = None
    volume_type: VolumeType | None = None
    data_store: DataStoreTO | None = None
    size: Count | None = None
    usable_size: Count | None = None
    volume_id: Int64 | None = None
    id: Int64 = 0
    vm_name: Name | None = None
    account_id: Int64 = 0
    chain_info: Text | None = None
    format: ImageFormat | None = None
    provisioning_type: ProvisioningType | None = None
    pool_id: Int64 | None = None
    device_id: Count | None = None
    bytes_read_rate: Count | None = None
    bytes_read_rate_max: Count | None = None
    bytes_read_rate_max_length: Count | None = None
    bytes_write_rate: Count | None = None
    bytes_write_rate_max: Count | None = None
    bytes_write_rate_max_length: Count | None = None
    iops_read_rate: Count | None = None
    iops_read_rate_max: Count | None = None
    iops_read_rate_max_length: Count | None = None
    iops_write_rate: Count | None = None
    iops_write_rate_max: Count | None = None
    iops_write_rate_max_length: Count | None = None
    cache_mode: DiskCacheMode | None = None
    hypervisor_type: HypervisorType | None = None
    migration_options: MigrationOptions | None = None
    direct_download: bool = False
    deploy_as_is: bool = False
    follow_redirects: bool = False
    data_store_uuid: Annotated[StoreId, ID] | None = None
    updated_data_store_uuid: Annotated[StoreId, ID] | None = None
    vsphere_storage_policy_id: Label | None = None
    passphrase: Secret | None = None
    encrypt_format: Label | None = None
    checkpoint_paths: tuple[Path, ...] = ()
    checkpoint_image_store_urls: frozenset[Url] = frozenset()

    @property
    def object_type(self) -> DataObjectType:
        """Always VOLUME."""
        return DataObjectType.VOLUME

    @property
    def requires_encryption(self) -> bool:
        """True if there is a passphrase that is not empty."""
        return bool(self.passphrase)

    def _complete(self) -> None:
        foreign = self.hypervisor_type not in (None, HypervisorType.KVM)
        if foreign and self.cache_mode is DiskCacheMode.HYPERVISOR_DEFAULT:
            self._set("cache_mode", DiskCacheMode.NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotObjectTO(TransferObject):
    """A snapshot of one volume.

    Attributes:
        path: on primary a file path (KVM), "disk/snapshot" (RBD, CLVM) or the vendor's own text; on
            secondary "snapshots/<account>/<volume>/<name>".
        data_store: where the snapshot lies.
        image_store: secondary store that the host is to write it to directly.
        parents: paths of the ancestors, oldest first, the immediate parent last.
        parent_store: where the parent lies.
        quiesce_vm: freeze the guest's file systems for the cut.
        physical_size: bytes that it occupies; 0 if nobody has looked.
    """

    identified_by: ClassVar[tuple[str, ...]] = ("name", "path")

    name: Name | None = None
    path: Path | None = None
    id: Int64 = 0
    account_id: Int64 = 0
    volume: VolumeObjectTO | None = None
    data_store: DataStoreTO | None = None
    image_store: DataStoreTO | None = None
    parent_snapshot_path: Path | None = None
    parents: tuple[Path, ...] = ()
    parent_store: DataStoreTO | None = None
    kvm_incremental_snapshot: bool = False
    checkpoint_path: Path | None = None
    vm_name: Name | None = None
    hypervisor_type: HypervisorType | None = None
    quiesce_vm: bool = False
    physical_size: Count | None = 0

    @property
    def object_type(self) -> DataObjectType:
        """Always SNAPSHOT."""
        return DataObjectType.SNAPSHOT


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateObjectTO(TransferObject):
    """An image that volumes start from.

    Attributes:
        name: CloudStack puts the unique name here as well.
        original_url: where it was downloaded from.
        size: virtual bytes; `physical_size`: bytes of the file.
        checksum: "{algorithm}hex" or bare hex (MD5).
        hvm: needs hardware virtualisation.
        deploy_as_is: VMware: the OVF decides about the hardware.
    """

    identified_by: ClassVar[tuple[str, ...]] = ("uuid", "path")

    uuid: Annotated[TemplateId, ID] | None = None
    name: Name | None = None
    unique_name: Name | None = None
    display_text: Text | None = None
    path: Path | None = None
    original_url: Url | None = None
    id: Int64 = 0
    account_id: Int64 = 0
    format: ImageFormat | None = None
    checksum: Label | None = None
    hvm: bool = False
    bootable: bool = False
    image_data_store: DataStoreTO | None = None
    guest_os_type: Label | None = None
    size: Count | None = None
    physical_size: Count | None = None
    hypervisor_type: HypervisorType | None = None
    direct_download: bool = False
    deploy_as_is: bool = False
    deploy_as_is_configuration: Text | None = None
    follow_redirects: bool = False

    @property
    def object_type(self) -> DataObjectType:
        """Always TEMPLATE."""
        return DataObjectType.TEMPLATE

    @property
    def data_store(self) -> DataStoreTO | None:
        """The store under the name that the other data objects use."""
        return self.image_data_store


DataTO: TypeAlias = VolumeObjectTO | SnapshotObjectTO | TemplateObjectTO


@dataclass(frozen=True, slots=True, kw_only=True)
class VMSnapshotTO(TransferObject):
    """A snapshot of a VM.

    Attributes:
        create_time: milliseconds since 1970.
        current: the VM's state descends from this one.
        parent: and its parents, up to the root.
    """

    snapshot_name: Name
    snapshot_type: VMSnapshotType
    id: Int64 | None = None
    create_time: Count | None = None
    current: bool | None = None
    description: Text | None = None
    parent: VMSnapshotTO | None = None
    volumes: tuple[VolumeObjectTO, ...] = ()
    quiesce_vm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskTO(TransferObject):
    """A data object in its role as a disk of a VM.

    Attributes:
        disk_seq: device number.
        details: iqn, storageHost, CHAP and so on; CHAP secrets in it are `Secret`.
    """

    data: DataTO
    volume_type: VolumeType
    disk_seq: Count | None = None
    path: Path | None = None
    details: Mapping[str, str | Secret] = Details()
