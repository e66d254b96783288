"""Where data lies: one class per protocol.

A `uuid` is enough: a store may travel by its uuid alone, and the receiver takes address and credentials from
its own registry. A store without a uuid gets a stable one from its address (`identity`), so `store.uuid` is
always set.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, TypeAlias

from . import identity
from .base import TransferObject
from .details import Details
from .enums import DataStoreRole, StoragePoolType
from .errors import DecodeError
from .ids import StoreId
from .rules import ID, Count, Endpoint, Int64, Label, Name, Path, Port, Text, Url
from .secret import Secret

StoreUuid: TypeAlias = Annotated[StoreId, ID]

# Not a valid id, so no document can carry it: "derive the uuid from the address".
_DERIVE = StoreId("")

# Kinds of pool whose path is other storage on other hosts: CloudStack gives them a random uuid (PreSetup: a
# part of the path). Two pools under one identity would be written to as if they were one.
_PATH_IS_NO_IDENTITY = frozenset({"sharedmountpoint", "clvm", "clvm_ng", "presetup"})


class _Store(TransferObject, ABC):
    """Fills in the uuid."""

    __slots__ = ()

    uuid: StoreUuid

    def _complete(self) -> None:
        if self.uuid == _DERIVE:
            self._set("uuid", identity.name_uuid(self._address()))

    @abstractmethod
    def _address(self) -> str:
        """Return the text that the uuid is made from; called only if the address was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NfsTO(_Store):
    """An NFS (or SMB) export used as secondary storage or as its cache.

    Attributes:
        url: e.g. nfs://10.2.128.5/export/secondary-a; the scheme's case does not matter.
        role: IMAGE or IMAGE_CACHE in CloudStack.
        nfs_version: mount option, e.g. "4.1"; None leaves it to the client.
    """

    identified_by: ClassVar[tuple[str, ...]] = ("uuid", "url")

    uuid: StoreUuid = _DERIVE
    url: Url | None = None
    role: DataStoreRole = DataStoreRole.IMAGE
    nfs_version: Label | None = None

    def _address(self) -> str:
        return identity.canonical_url(self.url or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class SwiftTO(_Store):
    """An OpenStack Swift account.

    CloudStack's class has no uuid field; ours carries one and does without it.

    Attributes:
        url: the authentication or storage URL.
        user_name: and `key`: what to authenticate with.
        storage_policy: policy of the containers that are made; None for the cluster's default.
    """

    identified_by: ClassVar[tuple[str, ...]] = ("uuid", "url")

    uuid: StoreUuid = _DERIVE
    id: Int64 | None = None
    url: Url | None = None
    account: Name | None = None
    user_name: Label | None = None
    key: Secret | None = None
    storage_policy: Label | None = None

    @property
    def role(self) -> DataStoreRole:
        """Always IMAGE."""
        return DataStoreRole.IMAGE

    def _address(self) -> str:
        account = f"/{self.account}" if self.account else ""
        return f"{identity.canonical_url(self.url or '')}{account}"


@dataclass(frozen=True, slots=True, kw_only=True)
class S3TO(_Store):
    """A bucket of an S3 service.

    Attributes:
        endpoint: host[:port] or URL; None is Amazon's own.
        signer: name of the signature version; None lets the SDK choose.
        https: for an endpoint without a scheme; None means yes.
        connection_timeout: milliseconds, as is `socket_timeout`.
        connection_ttl: milliseconds that a pooled connection may live; negative means for ever.
        created: when the store was registered, as text. A CloudStack peer writes it in the format of its
            Java and locale, so it is shown, never parsed.
        enable_rrs: reduced redundancy storage.
        max_single_upload_size: bytes. Negative: always one part. 0: always multipart. Else multipart from
            this object size on.
    """

    identified_by: ClassVar[tuple[str, ...]] = ("uuid", "bucket_name")

    uuid: StoreUuid = _DERIVE
    id: Int64 | None = None
    access_key: Secret | None = None
    secret_key: Secret | None = None
    endpoint: Endpoint | None = None
    bucket_name: Name | None = None
    signer: Label | None = None
    https: bool | None = None
    use_tcp_keep_alive: bool | None = None
    connection_timeout: Count | None = None
    max_error_retry: Count | None = None
    socket_timeout: Count | None = None
    connection_ttl: Int64 | None = None
    created: Text | None = None
    enable_rrs: bool = False
    max_single_upload_size: Int64 = 0

    @property
    def role(self) -> DataStoreRole:
        """Always IMAGE."""
        return DataStoreRole.IMAGE

    def _address(self) -> str:
        return identity.canonical_bucket(self.endpoint, self.bucket_name or "", https=self.https)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrimaryDataStoreTO(_Store):
    """A pool of primary storage.

    Attributes:
        host: free text: PreSetup pools say things like "VMFS datastore: /dc/ds" here.
        port: 0 where the protocol has none.
        url: shape "NetworkFilesystem://host/path/?ROLE=Primary&STOREUUID=…".
        details: driver-specific; CHAP secrets in it are `Secret`.
        full_clone: VMware: full instead of linked clones.
        disk_provisioning_strictness: VMware: refuse instead of changing the provisioning type.
        managed: a volume is a LUN of its own.
    """

    identified_by: ClassVar[tuple[str, ...]] = ("uuid", "url")

    uuid: StoreUuid = _DERIVE
    name: Name | None = None
    id: Int64 = 0
    pool_type: StoragePoolType | None = None
    host: Label | None = None
    path: Path | None = None
    port: Port = 0
    url: Url | None = None
    details: Mapping[str, str | Secret] = Details()
    full_clone: bool | None = None
    disk_provisioning_strictness: bool | None = None
    managed: bool = False

    @property
    def role(self) -> DataStoreRole:
        """Always PRIMARY."""
        return DataStoreRole.PRIMARY

    def _address(self) -> str:
        url = self.url or ""
        scheme, _, rest = url.partition("://")
        if rest.startswith("/") or {scheme.lower(), str(self.pool_type).lower()} & _PATH_IS_NO_IDENTITY:
            raise DecodeError("is required: the same path on another host is another pool", "uuid")
        return identity.canonical_pool(url)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageStoreTO(_Store):
    """A secondary store of no particular kind; CloudStack defines it and sends the three above instead.

    Attributes:
        protocol: `type` on CloudStack's wire.
    """

    identified_by: ClassVar[tuple[str, ...]] = ("uuid", "uri")

    uuid: StoreUuid = _DERIVE
    protocol: Label | None = None
    uri: Url | None = None
    provider_name: Name | None = None
    role: DataStoreRole | None = None

    def _address(self) -> str:
        return identity.canonical_url(self.uri or "")


DataStoreTO: TypeAlias = NfsTO | SwiftTO | S3TO | PrimaryDataStoreTO | ImageStoreTO
