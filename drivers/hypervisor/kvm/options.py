"""Options of the driver, and the list of hosts that one of them holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ....core.spi import InvalidArgument, option
from ....transfer_objects.ids import ID_RULE, HostId, is_valid_id


@dataclass(frozen=True, slots=True, kw_only=True)
class KvmOptions:
    """Where the hosts are, and where the driver may keep files.

    An option is one value, so several hosts are one text: `kvm-1=URI kvm-2=URI`. A libvirt URI has
    neither spaces nor passwords in it.
    """

    hosts: str = option(
        help="The hosts as ID=URI, separated by spaces; the URIs are libvirt's",
        example="kvm-1=qemu:///system kvm-2=qemu+ssh://kvm-2/system",
    )
    state: Path = option(
        help="Directory for the register of introduced objects, freeze watches and served backups; "
        "it must survive a restart and be the same for every process that uses these hosts",
        default=Path("/var/lib/bollard/kvm"),
    )
    scratch: Path = option(
        help="Directory, on the hosts, for what guests overwrite while a backup is read",
        default=Path("/var/lib/bollard/kvm-scratch"),
    )
    cache: str = option(
        help="QEMU's cache mode of attached disks",
        default="none",
        choices=("none", "directsync", "writethrough"),
    )
    migration: str = option(
        help="Where VMs are migrated to, as libvirt's migration URI; empty: the target's host name",
        default="",
        example="tcp:10.0.0.2",
    )
    agent_timeout: float = option(
        help="Seconds for one answer of a guest agent", default=10.0, minimum=1.0, maximum=300.0
    )
    keepalive: int = option(
        help="Seconds between two questions whether libvirtd is still there; it is given up after three",
        default=5,
        minimum=1,
        maximum=300,
    )


def hosts_of(options: KvmOptions) -> Mapping[HostId, str]:
    """Return the URI of each host.

    Raises:
        InvalidArgument: the text is not a list of ID=URI, or names a host twice.
    """
    hosts: dict[HostId, str] = {}
    for entry in options.hosts.split():
        name, _, uri = entry.partition("=")
        if not is_valid_id(name) or ":" not in uri:
            raise InvalidArgument(f"option 'hosts': {entry!r} is not ID=URI; an id is {ID_RULE}")
        if name in hosts:
            raise InvalidArgument(f"option 'hosts': host {name!r} is there twice")
        hosts[HostId(name)] = uri
    if not hosts:
        raise InvalidArgument("option 'hosts' names no host")
    return hosts
