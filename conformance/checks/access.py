"""Access control: who may read and write a volume of a managed pool."""

from __future__ import annotations

import dataclasses

from ...core.dataplane import open_sink, open_source
from ...core.spi import (
    Chap,
    Conflict,
    Host,
    InUse,
    IscsiLocation,
    Location,
    NbdLocation,
    NotFound,
    PermissionDenied,
    StorageError,
    Unauthenticated,
    Unavailable,
)
from ...transfer_objects.ids import HostId, new_id
from ...transfer_objects.secret import Secret
from .. import pattern
from ..lab import ContractBroken, Lab, must, refused
from ..model import Tier
from ..registry import check

MANAGED = ("managed",)
# What a host meets that is not let in: the export hides, or says no, or hangs up.
_CLOSED = (NotFound, PermissionDenied, Unauthenticated, Unavailable)


def cannot_read(location: Location, whose: str) -> None:
    """Fail if a location leads to bytes; `whose` begins the sentence."""
    try:
        with open_source(location, timeout=10) as source:
            source.read_into(0, memoryview(bytearray(pattern.BLOCK)))
    except _CLOSED:
        return
    raise ContractBroken(f"{whose} can read the volume")


@check("acl.only_that_host", rule="acl.only-that-host", kinds=MANAGED)
def check_only_that_host(lab: Lab) -> None:
    """A granted host reads and writes; one that holds no grant on this volume gets in nowhere.

    Also not one that is known to the storage, has another volume, and proves itself rightly: a LUN that
    is granted to one host and open to all is found by such a host only.
    """
    volume, other = lab.volume(), lab.volume()
    friend, stranger = lab.host(), lab.host()
    theirs = lab.pool.volumes.grant(other.id, stranger)
    # Its own true name and proof for this volume, from a grant that has ended.
    former = lab.pool.volumes.grant(volume.id, stranger)
    lab.pool.volumes.revoke(volume.id, stranger.id)
    location = lab.pool.volumes.grant(volume.id, friend)
    with open_sink(location) as sink:
        sink.write(0, pattern.block(volume.id, 0, 1))
        sink.flush()
    cannot_read(former, "a host that has another volume, and no longer this one,")
    lab.pool.volumes.revoke(other.id, stranger.id)
    cannot_read(theirs, "a host whose grant on another volume ended")
    for forged in _forgeries(friend, stranger, location):
        cannot_read(forged, "a host without a grant")


def _forgeries(friend: Host, stranger: Host, location: Location) -> list[Location]:
    """Return what a stranger could try: the friend's address with its own name, or a guessed proof."""
    if isinstance(location, IscsiLocation):
        return [
            dataclasses.replace(
                location,
                initiator=stranger.iqn,
                chap_user=stranger.chap_user,
                chap_secret=stranger.chap_secret,
            )
        ]
    if not isinstance(location, NbdLocation):
        return []
    export = location.export.reveal()
    changed = [export.replace(friend.iqn, stranger.iqn), export[:-4] + "0000"]
    return [dataclasses.replace(location, export=Secret(e)) for e in changed if e != export]


@check("acl.grant_twice", rule="acl.grant-twice", kinds=MANAGED)
def check_grant_twice(lab: Lab) -> None:
    """Granting again gives a location that works, and one grant; read-only on top is a conflict."""
    volume, host = lab.volume(), lab.host()
    for _ in range(2):
        with open_source(lab.pool.volumes.grant(volume.id, host)) as source:
            must(source.size == volume.size, f"the host sees {source.size} bytes")
    grants = [g.host for g in lab.pool.volumes.grants(volume.id)]
    must(grants == [host.id], f"the array lists the grants {grants}")
    with refused(Conflict):
        lab.pool.volumes.grant(volume.id, host, read_only=True)


@check("acl.revoke_cuts_off", rule="acl.revoke-proven", kinds=MANAGED, tier=Tier.STANDARD)
def check_revoke_cuts_off(lab: Lab) -> None:
    """After revoke returns, an open connection of the old host can no longer write, nor a new one."""
    volume, host = lab.volume(), lab.host()
    location = lab.pool.volumes.grant(volume.id, host)
    with open_sink(location, timeout=10) as sink:
        sink.write(0, pattern.block(volume.id, 0, 1))
        sink.flush()
        lab.pool.volumes.revoke(volume.id, host.id)
        try:
            sink.write(0, pattern.block(volume.id, 0, 2))
            sink.flush()
        except StorageError:
            pass
        else:
            raise ContractBroken("the old host's open connection still writes after revoke returned")
    cannot_read(location, "the old host")
    lab.verify(volume.id, {0: 1})


@check("acl.revoke_twice_and_unknown", rule="acl.revoke-unknown", kinds=MANAGED)
def check_revoke_twice_and_unknown(lab: Lab) -> None:
    """Revoking again, an unknown host, or a volume that is not there succeeds (cloudstack#6739)."""
    volume, host = lab.volume(), lab.host()
    lab.pool.volumes.grant(volume.id, host)
    for _ in range(2):
        lab.pool.volumes.revoke(volume.id, host.id)
    lab.pool.volumes.revoke(volume.id, HostId(new_id(lab.prefix)[:40]))
    lab.pool.volumes.revoke(lab.new_id(), host.id)
    must(not lab.pool.volumes.grants(volume.id), "the array still lists a grant")


@check("acl.read_only", rule="acl.only-that-host", kinds=MANAGED)
def check_read_only(lab: Lab) -> None:
    """A read-only grant reads, and cannot write whatever the client tries."""
    volume, host = lab.volume(), lab.host()
    lab.write(volume, 1)
    location = lab.pool.volumes.grant(volume.id, host, read_only=True)
    try:
        with open_sink(dataclasses.replace(location, read_only=False), timeout=10) as sink:
            sink.write(0, pattern.block(volume.id, 0, 2))
            sink.flush()
    except StorageError:
        pass
    lab.pool.volumes.revoke(volume.id, host.id)
    lab.verify(volume.id, {0: 1})


@check("acl.single_writer", rule="acl.single-writer", kinds=MANAGED)
def check_single_writer(lab: Lab) -> None:
    """A second writer is refused, unless the traits say that volumes may be shared."""
    volume, first, second = lab.volume(), lab.host(), lab.host()
    lab.pool.volumes.grant(volume.id, first)
    if lab.pool.traits.multi_attach:
        lab.pool.volumes.grant(volume.id, second)
    else:
        with refused(InUse):
            lab.pool.volumes.grant(volume.id, second)


@check("acl.delete_granted_refused", rule="vol.delete-granted", kinds=MANAGED)
def check_delete_granted_refused(lab: Lab) -> None:
    """A volume that a host may use cannot be deleted, and keeps its data."""
    volume, host = lab.volume(), lab.host()
    lab.write(volume, 1)
    lab.pool.volumes.grant(volume.id, host)
    with refused(InUse):
        lab.pool.volumes.delete(volume.id)
    lab.pool.volumes.revoke(volume.id, host.id)
    lab.verify(volume.id, {0: 1})


@check("acl.chap_rotated", rule="chap.old-refused", kinds=MANAGED, needs=(Chap,), tier=Tier.STANDARD)
def check_chap_rotated(lab: Lab) -> None:
    """After the secret of a host was changed, the old one no longer logs in and the new one does."""
    volume, host = lab.volume(), lab.host()
    old = lab.pool.volumes.grant(volume.id, host)
    changed = dataclasses.replace(host, chap_secret=lab.chap_secret())
    lab.pool.volumes.rotate_chap(changed)
    cannot_read(old, "a host with the old secret")
    with open_source(lab.pool.volumes.grant(volume.id, changed)) as source:
        must(source.size == volume.size, "the new secret does not work")
