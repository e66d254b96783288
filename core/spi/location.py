"""Where the bytes of a volume or snapshot can be read and written from a host.

    driver.locate_* / driver.grant  ->  Location  ->  core.dataplane.open_source / open_sink

A driver says *where*; how to move bytes from there is the data plane's business, once for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ...transfer_objects.secret import Secret

DiskFormat: TypeAlias = Literal["raw", "qcow2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLocation:
    """A file that the host reaches by path. `format` is stated, never probed (CVE-2024-32498)."""

    path: Path
    format: DiskFormat
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NbdLocation:
    """An NBD export.

    Attributes:
        address: (host, port) for TCP or the path of a unix socket.
        export: its name; a Secret, because arrays put a proof of the grant into it.
        size: bytes that the export must have: a stale size cache is refused, not read.
    """

    address: tuple[str, int] | Path
    export: Secret
    size: int | None = None
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IscsiLocation:
    """A LUN behind an iSCSI portal."""

    portal: tuple[str, int]
    target: str
    lun: int
    initiator: str
    chap_user: str = ""
    chap_secret: Secret | None = None
    size: int | None = None
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RbdLocation:
    """An image in a Ceph pool, or a snapshot of one.

    Attributes:
        monitors: where the cluster is found, as `mon_host` of ceph.conf has it.
        image: a name; that it is still the image which was granted is what `user` may open decides.
        snapshot: its name, or nothing for the image as it is now.
        user: the cephx user, without "client.", and `key`, its key.
        size: bytes that the image must have.
    """

    monitors: str
    pool: str
    image: str
    user: str
    key: Secret
    snapshot: str = ""
    size: int | None = None
    read_only: bool = False


Location: TypeAlias = FileLocation | NbdLocation | IscsiLocation | RbdLocation
