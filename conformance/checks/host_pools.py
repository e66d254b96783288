"""Pools that hosts mount: each host finds the same file, of the stated format, that needs no other."""

from __future__ import annotations

import shutil
import stat

from ...core.dataplane import open_sink, open_source, probe, refuse_hostile
from ...core.spi import (
    ClonesVolume,
    FileLocation,
    InvalidArgument,
    ReportsCapacity,
    Snapshots,
    Volume,
    VolumeFromSnapshot,
    VolumeSpec,
)
from ...transfer_objects.ids import VolumeId
from .. import pattern
from ..lab import ContractBroken, Lab, expected, must, not_applicable
from ..model import Level, Tier
from ..registry import check
from ._bytes import whole
from ._operations import SIZE, spec, written

HOST = ("host",)


def _file(lab: Lab, volume: VolumeId) -> FileLocation:
    """Return where a volume's file is."""
    location = lab.pool.volumes.locate(volume)
    if not isinstance(location, FileLocation):
        not_applicable(f"volumes of this pool are no files: {type(location).__name__}")
    return location


@check("hostpool.two_hosts_see_same_bytes", rule="host.same-place", kinds=HOST, tier=Tier.STANDARD)
def check_two_hosts_see_same_bytes(lab: Lab) -> None:
    """Two instances, as on two hosts, give a volume the same location, and one reads what the other wrote.

    A failure of the bytes after a flush means that the mount caches what it should not (NFS without
    close-to-open).
    """
    volume = lab.volume(SIZE)
    with lab.second() as other:
        here, there = lab.pool.volumes.locate(volume.id), other.volumes.locate(volume.id)
        must(here == there, f"one instance finds the volume at {here}, another at {there}")
        for generation in (1, 2):
            with open_sink(here if generation == 1 else there) as sink:
                sink.write(0, pattern.block(volume.id, 0, generation))
                sink.flush()
            with open_source(there if generation == 1 else here) as source:
                block = whole(source)[: pattern.BLOCK]
            must(block == pattern.block(volume.id, 0, generation), "one host does not see the other's write")


@check("hostpool.location_is_stable", rule="host.same-place", kinds=HOST, tier=Tier.STANDARD)
def check_location_is_stable(lab: Lab) -> None:
    """A volume's location is an absolute path that exists, and stays the same as long as the volume does.

    Hypervisors keep the path in the definitions of their VMs.
    """
    volume = written(lab)
    first = _file(lab, volume.id)
    must(first.path.is_absolute() and first.path.is_file(), f"{first.path} is no absolute path of a file")
    native = lab.pool.capabilities().native
    if Snapshots.provides in native:
        snapshot = lab.snapshot(volume.id)
        must(_file(lab, volume.id) == first, "taking a snapshot moved the volume")
        lab.pool.snapshots.delete(snapshot.id)
    must(_file(lab, volume.id) == first, "the volume has moved")


@check(
    "hostpool.volume_is_self_contained",
    rule="host.self-contained",
    kinds=HOST,
    tier=Tier.STANDARD,
    field_bug="CVE-2024-32498: an image that refers to another file opens it for the guest",
)
def check_volume_is_self_contained(lab: Lab) -> None:
    """The file of a volume, a clone or a copy refers to no other file.

    Bollard refuses to open one that does, for a guest could write such a reference itself. A failure
    shows a linked clone: it also breaks when its base is deleted.
    """
    source = written(lab)
    for volume in (source, *_copies(lab, source)):
        place = _file(lab, volume.id)
        try:
            refuse_hostile(probe(place.path, place.format), place.path)
        except InvalidArgument as error:
            raise ContractBroken(f"{place.path}: {error}") from error


@check("hostpool.format_is_stated", rule="host.format", kinds=HOST, tier=Tier.STANDARD)
def check_format_is_stated(lab: Lab) -> None:
    """A location states the format that the file has: seen through it, the file has the volume's size.

    The stated format is what the hypervisor is told. A wrong one shows the guest the image's own
    header, and lets it choose what the next reader opens (CVE-2024-32498).
    """
    source = lab.volume(SIZE)
    for volume in (source, *_copies(lab, source)):
        place = _file(lab, volume.id)
        seen = probe(place.path, place.format).virtual_size
        must(seen == volume.size, f"as {place.format}, {place.path} has {seen} of {volume.size} bytes")


def _copies(lab: Lab, source: Volume) -> list[Volume]:
    """Return what the pool can make of a volume."""
    native, made = lab.pool.capabilities().native, []
    if ClonesVolume.provides in native:
        made.append(lab.pool.volumes.clone(source.id, spec(lab)))
    if Snapshots.provides in native and VolumeFromSnapshot.provides in native:
        made.append(lab.pool.volumes.from_snapshot(lab.snapshot(source.id).id, spec(lab)))
    return made


@check("hostpool.delete_leaves_no_file", rule="any.gone", kinds=HOST, tier=Tier.STANDARD)
def check_delete_leaves_no_file(lab: Lab) -> None:
    """When a volume and its snapshots are deleted, no file that bears its id is left around its place.

    Files that nobody lists fill the pool, and belong to nobody who could delete them.
    """
    volume = written(lab)
    root = _file(lab, volume.id).path.parent
    native = lab.pool.capabilities().native
    if Snapshots.provides in native:
        lab.pool.snapshots.delete(lab.snapshot(volume.id).id)
    lab.pool.volumes.delete(volume.id)
    left = [str(path) for path in root.rglob("*") if volume.id in path.name]
    must(not left, f"deleting the volume left {left}")


@check(
    "hostpool.file_mode_usable", rule="host.same-place", kinds=HOST, level=Level.SHOULD, tier=Tier.STANDARD
)
def check_file_mode_usable(lab: Lab) -> None:
    """A volume's file is readable and writable for its owner, and writable for nobody who is a stranger."""
    place = _file(lab, lab.volume(SIZE).id)
    mode = stat.S_IMODE(place.path.stat().st_mode)
    must(mode & 0o600 == 0o600, f"{place.path} has mode {mode:o}: its owner cannot use it")
    must(not mode & 0o002, f"{place.path} has mode {mode:o}: everybody on the host can write to it")


@check(
    "hostpool.capacity_from_host_matches",
    rule="cap.sane",
    kinds=HOST,
    needs=(ReportsCapacity,),
    level=Level.SHOULD,
    tier=Tier.STANDARD,
)
def check_capacity_from_host_matches(lab: Lab) -> None:
    """The pool's total is what the host sees of the file system, give or take five percent.

    A larger figure promises space that writes will not find.
    """
    path = _file(lab, lab.volume(SIZE).id).path
    seen, told = shutil.disk_usage(path.parent).total, lab.pool.capacity().total
    must(abs(told - seen) <= seen // 20, f"the driver says {told} bytes, the host sees {seen}")


@check("hostpool.bystanders_survive", rule="any.gone", kinds=HOST, tier=Tier.STANDARD)
def check_bystanders_survive(lab: Lab) -> None:
    """Deleting a volume removes that volume's files alone, also where another's id begins with its id.

    A failure shows a driver that deletes by pattern.
    """
    volume = lab.volume(SIZE)
    other = lab.pool.volumes.create(VolumeSpec(id=VolumeId(f"{volume.id}-2"), size=SIZE))
    lab.write(other, 1)
    kept = lab.snapshot(other.id) if Snapshots.provides in lab.pool.capabilities().native else None
    lab.pool.volumes.delete(volume.id)
    lab.verify(other.id, expected(SIZE, 1))
    if kept is not None:
        must([s.id for s in lab.pool.snapshots.list(other.id)] == [kept.id], "the other's snapshot is gone")
        lab.verify_snapshot(kept.id, other.id, expected(SIZE, 1))
