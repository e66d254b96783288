"""The table: which class of ours stands for which of CloudStack's, and what its fields are called there.

    VolumeObjectTO   org.apache.cloudstack.storage.to.VolumeObjectTO
        vm_name             vmName                (camel case unless the table says otherwise)
        volume_id           volumeId
        quiesce_vm          quiescevm             (odd: stands in the table)

Type and shape of a field come from the annotations of our class. A field that may hold several classes is an
interface in CloudStack, and its value is wrapped in the class's name; a field of one class is bare.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from .. import commands as c
from ..base import TransferObject
from ..objects import (
    DiskTO,
    MigrationOptions,
    SnapshotObjectTO,
    TemplateObjectTO,
    VMSnapshotTO,
    VolumeObjectTO,
)
from ..shapes import FieldShape, fields_of
from ..stores import S3TO, ImageStoreTO, NfsTO, PrimaryDataStoreTO, SwiftTO

_TO = "com.cloud.agent.api.to"
_STORAGE_TO = "org.apache.cloudstack.storage.to"
_STORAGE = "org.apache.cloudstack.storage.command"
_API = "com.cloud.agent.api"
_API_STORAGE = "com.cloud.agent.api.storage"

_PACKAGES: Mapping[str, tuple[type[TransferObject], ...]] = {
    _TO: (NfsTO, SwiftTO, S3TO, DiskTO),
    _STORAGE_TO: (PrimaryDataStoreTO, ImageStoreTO, VolumeObjectTO, SnapshotObjectTO, TemplateObjectTO),
    _STORAGE: (
        c.IntroduceObjectCmd,
        c.IntroduceObjectAnswer,
        c.ForgetObjectCmd,
        c.CopyCommand,
        c.CopyCmdAnswer,
        c.CreateObjectCommand,
        c.CreateObjectAnswer,
        c.DeleteCommand,
        c.AttachCommand,
        c.AttachAnswer,
        c.DettachCommand,
        c.DettachAnswer,
        c.DetachCommand,
        c.DetachAnswer,
        c.RevertSnapshotCommand,
        c.SnapshotAndCopyCommand,
        c.SnapshotAndCopyAnswer,
        c.ResignatureCommand,
        c.ResignatureAnswer,
    ),
    _API: (
        VMSnapshotTO,
        c.Answer,
        c.UnsupportedAnswer,
        c.CreateVMSnapshotCommand,
        c.CreateVMSnapshotAnswer,
        c.RevertToVMSnapshotCommand,
        c.RevertToVMSnapshotAnswer,
        c.DeleteVMSnapshotCommand,
        c.DeleteVMSnapshotAnswer,
        c.RestoreVMSnapshotCommand,
        c.RestoreVMSnapshotAnswer,
        c.FreezeThawVMCommand,
        c.FreezeThawVMAnswer,
        c.ConvertSnapshotCommand,
        c.ConvertSnapshotAnswer,
        c.RecreateCheckpointsCommand,
        c.RemoveBitmapCommand,
    ),
    _API_STORAGE: (
        c.CreateDiskOnlyVmSnapshotCommand,
        c.CreateDiskOnlyVmSnapshotAnswer,
        c.RevertDiskOnlyVmSnapshotCommand,
        c.RevertDiskOnlyVmSnapshotAnswer,
        c.DeleteDiskOnlyVmSnapshotCommand,
        c.MergeDiskOnlyVmSnapshotCommand,
        c.MergeTree,
    ),
    # Never wrapped, so nobody sees these names but `--as`.
    "com.cloud.storage": (MigrationOptions,),
    "com.cloud.utils": (c.NewVolumePath, c.DiskSnapshot),
}
# Where the class is called otherwise there; Pair's two fields are t and u.
_CLASS_NAMES = {c.MergeTree: "SnapshotMergeTreeTO", c.NewVolumePath: "Pair", c.DiskSnapshot: "Pair"}

_ODD: Mapping[type[TransferObject], Mapping[str, str]] = {
    c.Command: {"context": "contextMap"},
    c.IntroduceObjectCmd: {"data": "dataTO"},
    c.IntroduceObjectAnswer: {"data": "dataTO"},
    c.ForgetObjectCmd: {"data": "dataTO"},
    c.CopyCommand: {
        "source": "srcTO",
        "destination": "destTO",
        "cache": "cacheTO",
        "source_options": "options",
        "destination_options": "options2",
    },
    c.AttachCommand: {"in_sequence": "inSeq"},
    c.DettachCommand: {
        "managed": "_managed",
        "iscsi_name": "_iScsiName",
        "storage_host": "_storageHost",
        "storage_port": "_storagePort",
    },
    c.RevertSnapshotCommand: {"execute_in_sequence": "_executeInSequence"},
    c.SnapshotAndCopyCommand: {
        "source_vdi_uuid": "_uuidOfSourceVdi",
        "source_details": "_sourceDetails",
        "destination_details": "_destDetails",
        "execute_in_sequence": "_executeInSequence",
    },
    c.VMSnapshotCommand: {"volumes": "volumeTOs", "guest_os_type": "guestOSType"},
    c.CreateVMSnapshotAnswer: {"volumes": "volumeTOs", "vm_snapshot": "vmSnapshotTo"},
    c.RevertToVMSnapshotAnswer: {"volumes": "volumeTOs"},
    c.DeleteVMSnapshotAnswer: {"volumes": "volumeTOs"},
    c.RestoreVMSnapshotAnswer: {"volumes": "volumeTOs"},
    c.CreateDiskOnlyVmSnapshotCommand: {"volumes_and_new_paths": "volumeTosAndNewPaths"},
    c.CreateDiskOnlyVmSnapshotAnswer: {"volumes": "mapVolumeToSnapshotSizeAndNewVolumePath"},
    c.RevertDiskOnlyVmSnapshotCommand: {"snapshots": "snapshotObjectTos"},
    c.RevertDiskOnlyVmSnapshotAnswer: {"volumes": "volumeObjectTos"},
    c.MergeDiskOnlyVmSnapshotCommand: {
        "merge_trees": "snapshotMergeTreeToList",
        "vm_running": "isVmRunning",
    },
    c.MergeTree: {"volume": "volumeObjectTO"},
    c.NewVolumePath: {"volume": "t", "path": "u"},
    c.DiskSnapshot: {"size": "t", "path": "u"},
    c.ConvertSnapshotCommand: {"snapshot": "snapshotObjectTO"},
    c.ConvertSnapshotAnswer: {"snapshot": "snapshotObjectTO"},
    c.RemoveBitmapCommand: {"snapshot": "snapshotObjectTO", "vm_running": "isVmRunning"},
    NfsTO: {"url": "_url", "role": "_role"},
    S3TO: {
        "endpoint": "endPoint",
        "https": "httpsFlag",
        "use_tcp_keep_alive": "useTCPKeepAlive",
        "enable_rrs": "enableRRS",
        "max_single_upload_size": "maxSingleUploadSizeInBytes",
    },
    PrimaryDataStoreTO: {
        "full_clone": "fullCloneFlag",
        "disk_provisioning_strictness": "diskProvisioningStrictnessFlag",
        "managed": "isManaged",
    },
    ImageStoreTO: {"protocol": "type"},
    VolumeObjectTO: {
        "updated_data_store_uuid": "updatedDataStoreUUID",
        "vsphere_storage_policy_id": "vSphereStoragePolicyId",
    },
    MigrationOptions: {
        "source_pool_uuid": "srcPoolUuid",
        "source_pool_type": "srcPoolType",
        "migration_type": "type",
        "source_backing_file_path": "srcBackingFilePath",
        "copy_source_template": "copySrcTemplate",
        "source_volume_uuid": "srcVolumeUuid",
    },
    SnapshotObjectTO: {"quiesce_vm": "quiescevm"},
    TemplateObjectTO: {"original_url": "origUrl"},
    VMSnapshotTO: {"snapshot_type": "type", "quiesce_vm": "quiescevm"},
    DiskTO: {"volume_type": "type"},
}

# byte[] in Java, a list of signed numbers in JSON.
_BYTES = {(VolumeObjectTO, "passphrase")}

# Read, and written back as they were, but not what Bollard writes: our name by theirs.
ALIASES: Mapping[type[TransferObject], Mapping[str, str]] = {
    c.RemoveBitmapCommand: {"vmRunning": "vm_running"},
}

# A name for people's eyes may be anything (CloudStack lets users write "db / old"), and nobody acts on it: an
# object goes without one that Bollard's rules refuse.
FOR_PEOPLE = frozenset({"name", "unique_name", "display_text", "guest_os_type", "description"})


@dataclass(frozen=True, slots=True)
class WireField:
    """A field on CloudStack's wire; `native` is ours. `is_bytes`: a secret that is a Java byte[]."""

    wire: str
    native: FieldShape
    is_bytes: bool


@dataclass(frozen=True, slots=True)
class WireClass:
    """A class on CloudStack's wire.

    Attributes:
        name: the whole Java name.
        cls: ours.
        by_wire: its fields by their names there; `by_native`: by ours.
    """

    name: str
    cls: type[TransferObject]
    by_wire: Mapping[str, WireField]
    by_native: Mapping[str, WireField]


# As in shapes: two threads may fill in the same class at once, and write equal entries.
_known: dict[type[TransferObject], WireClass] = {}


def wire_class(cls: type[TransferObject]) -> WireClass:
    """Return the entry of one of our classes."""
    if cls not in _known:
        fields = [
            WireField(_wire_name(cls, field.name), field, (cls, field.name) in _BYTES)
            for field in fields_of(cls)
        ]
        by_wire = {field.wire: field for field in fields}
        by_native = {field.native.name: field for field in fields}
        _known[cls] = WireClass(_java_names()[cls], cls, by_wire, by_native)
    return _known[cls]


@functools.cache
def classes_by_java_name() -> Mapping[str, type[TransferObject]]:
    """Return our class by CloudStack's whole name, for all that may be wrapped."""
    return {name: cls for cls, name in _java_names().items() if not name.endswith(".Pair")}


@functools.cache
def classes_by_short_name() -> Mapping[str, type[TransferObject]]:
    """Return our class by its own name, which `type` in native JSON holds."""
    return {cls.__name__: cls for cls in _java_names()}


@functools.cache
def _java_names() -> Mapping[type[TransferObject], str]:
    return {
        cls: f"{package}.{_CLASS_NAMES.get(cls, cls.__name__)}"
        for package, classes in _PACKAGES.items()
        for cls in classes
    }


def _wire_name(cls: type[TransferObject], name: str) -> str:
    for base in cls.__mro__:
        if name in _ODD.get(base, {}):
            return _ODD[base][name]
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name)
