"""Access of several hosts and over time: what one has is nobody else's, and ends when it is taken."""

from __future__ import annotations

import dataclasses

from ...core.dataplane import BlockSource, open_sink, open_source
from ...core.spi import Chap, Host, IscsiLocation, Location, NbdLocation, StorageError
from ...transfer_objects.ids import HostId
from ...transfer_objects.secret import Secret
from .. import pattern
from ..lab import Lab, must, not_applicable
from ..model import Tier
from ..registry import check
from ._operations import SIZE, written
from .access import MANAGED, cannot_read


def _block(source: BlockSource) -> bytes:
    data = bytearray(pattern.BLOCK)
    source.read_into(0, memoryview(data))
    return bytes(data)


@check("acl.revoke_one_of_two_hosts", rule="acl.others-stay", kinds=MANAGED, tier=Tier.STANDARD)
def check_revoke_one_of_two_hosts(lab: Lab) -> None:
    """Revoking one of two readers cuts off that one; the other's open connection goes on.

    A failure of the other means that the storage revokes by volume, or by a group that both are in.
    """
    volume, leaves, stays = written(lab), lab.host(), lab.host()
    gone = lab.pool.volumes.grant(volume.id, leaves, read_only=True)
    with open_source(lab.pool.volumes.grant(volume.id, stays, read_only=True), timeout=10) as source:
        lab.pool.volumes.revoke(volume.id, leaves.id)
        cannot_read(gone, "the revoked host")
        must(_block(source) == pattern.block(volume.id, 0, 1), "the other host reads wrong bytes")
    must([g.host for g in lab.pool.volumes.grants(volume.id)] == [stays.id], "the other host's grant is gone")


@check("acl.revoke_keeps_other_volumes", rule="acl.others-stay", kinds=MANAGED, tier=Tier.STANDARD)
def check_revoke_keeps_other_volumes(lab: Lab) -> None:
    """When a host loses one volume, its open connections to others write on, and new ones are let in.

    One session often carries several LUNs: logging the host out for one of them stops the VMs on all.
    """
    first, second, host = lab.volume(SIZE), lab.volume(SIZE), lab.host()
    lab.pool.volumes.grant(first.id, host)
    location = lab.pool.volumes.grant(second.id, host)
    with open_sink(location, timeout=10) as sink:
        sink.write(0, pattern.block(second.id, 0, 1))
        lab.pool.volumes.revoke(first.id, host.id)
        sink.write(0, pattern.block(second.id, 0, 2))
        sink.flush()
    with open_source(location, timeout=10) as source:
        must(_block(source) == pattern.block(second.id, 0, 2), "the second volume lost a write")


@check(
    "acl.host_group_names_never_collide",
    rule="acl.only-that-host",
    kinds=MANAGED,
    tier=Tier.STANDARD,
    field_bug="cloudstack#13578: ONTAP's igroup was named after the truncated host name",
)
def check_host_group_names_never_collide(lab: Lab) -> None:
    """Hosts with the same short name, and ids that differ only at their end, are two hosts.

    Objects on the storage that are named after a shortened host name serve both: then one host has what
    was granted to the other, and a revoke takes it from both.
    """
    east, west = _alike(lab, "east"), _alike(lab, "west")
    one, two = written(lab), written(lab)
    theirs = {host.id: lab.pool.volumes.grant(v.id, host) for v, host in ((one, east), (two, west))}
    for volume, host in ((one, east), (two, west)):
        seen = [g.host for g in lab.pool.volumes.grants(volume.id)]
        must(seen == [host.id], f"{volume.id} was granted to {host.id}, the array lists {seen}")
    lab.pool.volumes.revoke(one.id, east.id)
    cannot_read(theirs[east.id], "the revoked host")
    with open_source(theirs[west.id], timeout=10) as source:
        must(_block(source) == pattern.block(two.id, 0, 1), "its namesake lost its volume by the revoke")


def _alike(lab: Lab, domain: str) -> Host:
    """Return one of several hosts that look the same until the last characters."""
    id = HostId(f"{lab.prefix}-compute-node-in-a-rack-with-a-name-00000000"[:58] + f"-{domain}")  # noqa: A001 - its name
    return dataclasses.replace(
        lab.host(),
        id=id,
        name=f"node1.{domain}.example.org",
        iqn=f"iqn.2026-11.org.example.{domain}:{lab.prefix}-node1",
    )


@check("acl.grants_listable_and_match_array", rule="acl.listed", kinds=MANAGED, tier=Tier.STANDARD)
def check_grants_listable_and_match_array(lab: Lab) -> None:
    """Another instance lists the same grants, and what it revokes is gone from the first one's list.

    A list that is kept in memory misses what another node of the orchestrator did: it leaves access
    that nobody knows of.
    """
    volume, writer, reader = written(lab), lab.host(), lab.host()
    lab.pool.volumes.grant(volume.id, writer, read_only=True)
    lab.pool.volumes.grant(volume.id, reader, read_only=True)
    with lab.second() as other:
        theirs = sorted((g.host, g.read_only) for g in other.volumes.grants(volume.id))
        wanted = sorted((host.id, True) for host in (writer, reader))
        must(theirs == wanted, f"another instance lists {theirs} instead of {wanted}")
        other.volumes.revoke(volume.id, writer.id)
    ours = [g.host for g in lab.pool.volumes.grants(volume.id)]
    must(ours == [reader.id], f"after another instance revoked one, the first lists {ours}")


@check(
    "acl.lun_reuse_shows_other_volume_never",
    rule="vol.identity",
    kinds=MANAGED,
    tier=Tier.STANDARD,
    field_bug="CVE-2023-2088, OSSA-2023-003: a stale LUN showed another tenant's volume",
)
def check_lun_reuse_shows_other_volume_never(lab: Lab) -> None:
    """The address of a volume that was deleted never leads to a later one, not even for the same host.

    A host that missed the removal keeps the device, and its VM would write into somebody else's disk.
    """
    host, stale = lab.host(), list[Location]()
    for _ in range(3):
        volume = written(lab)
        location = lab.pool.volumes.grant(volume.id, host)
        for former in stale:
            cannot_read(former, "by the address of a deleted volume, a host")
        lab.pool.volumes.revoke(volume.id, host.id)
        lab.pool.volumes.delete(volume.id)
        stale.append(location)


def _with_wrong_proof(lab: Lab, location: Location) -> list[Location]:
    if isinstance(location, IscsiLocation):
        wrong = dataclasses.replace(location, chap_secret=lab.chap_secret())
        return [wrong, dataclasses.replace(location, chap_user="", chap_secret=None)]
    if not isinstance(location, NbdLocation):
        not_applicable(f"the proof is not part of a {type(location).__name__}")
    export = location.export.reveal()
    forged = (export[:-1] + ("0" if export[-1] != "0" else "1"), export[: -len(export) // 4])
    return [dataclasses.replace(location, export=Secret(text)) for text in forged]


@check(
    "acl.chap_wrong_secret_refused",
    rule="chap.wrong-refused",
    kinds=MANAGED,
    needs=(Chap,),
    tier=Tier.STANDARD,
)
def check_chap_wrong_secret_refused(lab: Lab) -> None:
    """A host that was granted the volume, and proves itself with a wrong secret, gets in nowhere."""
    volume, host = written(lab), lab.host()
    location = lab.pool.volumes.grant(volume.id, host)
    for wrong in _with_wrong_proof(lab, location):
        cannot_read(wrong, "a host with a wrong secret")
    with open_source(location, timeout=10) as source:
        must(_block(source) == pattern.block(volume.id, 0, 1), "the right secret no longer works")


@check("acl.export_removed_when_last_grant_goes", rule="acl.revoke-proven", kinds=MANAGED, tier=Tier.STANDARD)
def check_export_removed_when_last_grant_goes(lab: Lab) -> None:
    """With its last grant a volume's export goes: no former host gets in or is listed, and delete works."""
    volume, hosts = written(lab), [lab.host(), lab.host()]
    locations = [lab.pool.volumes.grant(volume.id, host, read_only=True) for host in hosts]
    for host in hosts:
        lab.pool.volumes.revoke(volume.id, host.id)
    must(not lab.pool.volumes.grants(volume.id), "the array still lists a grant")
    for location in locations:
        cannot_read(location, "a host whose grant was revoked")
    lab.pool.volumes.delete(volume.id)


@check("acl.grant_survives_driver_restart", rule="acl.listed", kinds=MANAGED, tier=Tier.STANDARD)
def check_grant_survives_driver_restart(lab: Lab) -> None:
    """A grant outlives the driver instance that made it, and another one can take it away.

    VMs run on while the orchestrator is restarted: closing a driver must not cut off their disks.
    """
    volume, host = written(lab), lab.host()
    with lab.second() as other:
        location = other.volumes.grant(volume.id, host)
    with open_source(location, timeout=10) as source:
        must(_block(source) == pattern.block(volume.id, 0, 1), "the host reads wrong bytes")
    must([g.host for g in lab.pool.volumes.grants(volume.id)] == [host.id], "the grant is not listed")
    lab.pool.volumes.revoke(volume.id, host.id)
    cannot_read(location, "the revoked host")


@check("acl.writer_follows_revoked_writer", rule="acl.single-writer", kinds=MANAGED, tier=Tier.STANDARD)
def check_writer_follows_revoked_writer(lab: Lab) -> None:
    """A second host may write as soon as the first was revoked: live failover; and its writes stay.

    The first host's connection stays open throughout, as that of a host that hangs.
    """
    volume, old, new = lab.volume(SIZE), lab.host(), lab.host()
    with open_sink(lab.pool.volumes.grant(volume.id, old), timeout=10) as stale:
        stale.write(0, pattern.block(volume.id, 0, 1))
        stale.flush()
        lab.pool.volumes.revoke(volume.id, old.id)
        with open_sink(lab.pool.volumes.grant(volume.id, new), timeout=10) as sink:
            sink.write(0, pattern.block(volume.id, 0, 2))
            sink.flush()
        try:
            stale.write(0, pattern.block(volume.id, 0, 3))
            stale.flush()
        except StorageError:
            pass
    lab.pool.volumes.revoke(volume.id, new.id)
    lab.verify(volume.id, {0: 2})
