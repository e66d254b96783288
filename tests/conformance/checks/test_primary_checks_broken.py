"""Each check fails on a driver with one method wrong, and says so in words; ours passes (see _pass)."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bollard.conformance.lab import Lab
from bollard.core.spi import (
    Call,
    Capability,
    Capacity,
    FileLocation,
    Grant,
    Guest,
    Host,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfCapacity,
    PoolInfo,
    PrimaryDriver,
    Qos,
    QuiescedSnapshots,
    Snapshot,
    Traits,
    Unauthenticated,
    VmRef,
    VmSnapshotTaken,
    Volume,
    VolumeSpec,
)
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.primary.qcow2 import Qcow2Driver
from bollard.transfer_objects.ids import HostId, SnapshotId, VolumeId, new_id

OnDriver = Callable[[type[PrimaryDriver[Any]]], Lab]
Verdict = Callable[[str, Lab], str]


class _CopiesKeepTheirSize(ArrayDriver):
    """A volume made of a snapshot is no larger than it."""

    def create_volume_from_snapshot(self, snapshot: SnapshotId, spec: VolumeSpec, call: Call) -> Volume:
        size = self.get_snapshot(snapshot, call).size
        return super().create_volume_from_snapshot(snapshot, replace(spec, size=size), call)


class _DiesWithItsSnapshot(ArrayDriver):
    """A volume made of a snapshot cannot be reached without it."""

    made: ClassVar[dict[VolumeId, SnapshotId]] = {}

    def create_volume_from_snapshot(self, snapshot: SnapshotId, spec: VolumeSpec, call: Call) -> Volume:
        self.made[spec.id] = snapshot
        return super().create_volume_from_snapshot(snapshot, spec, call)

    def grant(self, volume: VolumeId, host: Host, call: Call, *, read_only: bool = False) -> Any:
        if volume in self.made:
            self.get_snapshot(self.made[volume], call)
        return super().grant(volume, host, call, read_only=read_only)


class _LimitIsToldTooSmall(ArrayDriver):
    """The traits allow three snapshots, the array takes more."""

    def traits(self) -> Traits:
        return replace(super().traits(), max_snapshots_per_volume=3)


class _RevokesByVolume(ArrayDriver):
    """A revoke takes the volume from every host."""

    def revoke(self, volume: VolumeId, host: HostId, call: Call) -> None:  # noqa: ARG002 - the SPI's
        with suppress(NotFound):
            for grant in self.list_grants(volume, call):
                super().revoke(volume, grant.host, call)


class _RevokesByHost(ArrayDriver):
    """A revoke takes every volume from the host."""

    def revoke(self, volume: VolumeId, host: HostId, call: Call) -> None:  # noqa: ARG002 - the SPI's
        for each in self.list_volumes(call).items:
            super().revoke(each.id, host, call)


class _RevokeLies(ArrayDriver):
    """A revoke does nothing and says that it did."""

    def revoke(self, volume: VolumeId, host: HostId, call: Call) -> None:
        """Lie."""


class _ShortHostNames(ArrayDriver):
    """A host is registered under the beginning of its id."""

    def grant(self, volume: VolumeId, host: Host, call: Call, *, read_only: bool = False) -> Any:
        return super().grant(volume, replace(host, id=_short(host.id)), call, read_only=read_only)

    def revoke(self, volume: VolumeId, host: HostId, call: Call) -> None:
        super().revoke(volume, _short(host), call)


def _short(host: HostId) -> HostId:
    return HostId(host[:32].strip("-"))


class _ListsItsOwnGrants(ArrayDriver):
    """The list of grants is what this instance remembers."""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._mine: list[Grant] = []

    def grant(self, volume: VolumeId, host: Host, call: Call, *, read_only: bool = False) -> Any:
        self._mine.append(Grant(volume=volume, host=host.id, read_only=read_only))
        return super().grant(volume, host, call, read_only=read_only)

    def list_grants(self, volume: VolumeId, call: Call) -> Sequence[Grant]:  # noqa: ARG002 - the SPI's
        return [grant for grant in self._mine if grant.volume == volume]


class _CloseRevokes(ArrayDriver):
    """Closing takes back what this instance has granted."""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._holds: list[tuple[VolumeId, HostId]] = []

    def grant(self, volume: VolumeId, host: Host, call: Call, *, read_only: bool = False) -> Any:
        self._holds.append((volume, host.id))
        return super().grant(volume, host, call, read_only=read_only)

    def close(self) -> None:
        # The base class closes before it opens.
        for volume, host in getattr(self, "_holds", ()):
            self.revoke(volume, host, Call.within(10))
        self._holds = []
        super().close()


class _TotalGrows(ArrayDriver):
    """Each look at the capacity finds more."""

    looks: ClassVar = itertools.count(1)

    def capacity(self, call: Call) -> Capacity:
        found = super().capacity(call)
        return replace(found, total=found.total * next(self.looks))


class _NoSpaceIsInternal(ArrayDriver):
    """A full pool is an internal error."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        try:
            return super().create_volume(spec, call)
        except OutOfCapacity as error:
            raise Internal("the array failed") from error


class _AcceptsAnyLimits(ArrayDriver):
    """Limits that make no sense are accepted."""

    def set_qos(self, volume: VolumeId, qos: Qos | None, call: Call) -> Volume:
        try:
            return super().set_qos(volume, qos, call)
        except InvalidArgument:
            return self.get_volume(volume, call)


class _GrowingLiftsLimits(ArrayDriver):
    """A volume that grows loses its limits."""

    def resize_volume(self, volume: VolumeId, size: int, call: Call) -> Volume:
        super().resize_volume(volume, size, call)
        return self.set_qos(volume, None, call)


class _CutsOneByOne(ArrayDriver):
    """A VM's volumes are cut one after the other, until one is missing."""

    def take_vm_snapshot(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call) -> VmSnapshotTaken:  # noqa: ARG002 - the SPI's
        cut = {v: self.create_snapshot(v, SnapshotId(new_id("one")), call).id for v in volumes}
        return VmSnapshotTaken(need_unquiesce=False, members=cut)


class _RevertsOneByOne(ArrayDriver):
    """A VM's volumes are put back one after the other, until one is in use."""

    def revert_vm_snapshot(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call) -> None:
        for volume in volumes:
            super().revert_vm_snapshot([volume], vm, call)


class _DeletesAllSnapshots(ArrayDriver):
    """Deleting a VM's snapshot deletes every snapshot of its volumes."""

    def delete_vm_snapshot(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call) -> None:  # noqa: ARG002 - the SPI's
        for volume in volumes:
            for snapshot in self.list_snapshots(volume, call).items:
                self.delete_snapshot(snapshot.id, call)


class _OpensAnyway(ArrayDriver):
    """Wrong credentials are noticed with the first volume."""

    def open(self, call: Call) -> PoolInfo:
        try:
            return super().open(call)
        except Unauthenticated:
            return PoolInfo(identity="unknown", name="unknown")


class _RemembersVolumes(ArrayDriver):
    """A volume that was seen once is there for ever."""

    seen: ClassVar[dict[VolumeId, Volume]] = {}

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        if volume not in self.seen:
            self.seen[volume] = super().get_volume(volume, call)
        return self.seen[volume]


class _OpenLeavesAMark(ArrayDriver):
    """Each opening tries whether a volume can be made, and leaves it."""

    def open(self, call: Call) -> PoolInfo:
        info = super().open(call)
        self.create_volume(VolumeSpec(id=VolumeId(new_id("probe")), size=512), call)
        return info


class _ReleaseDoesNothing(ArrayDriver):
    """A released volume is still ours."""

    def release_volume(self, volume: VolumeId, call: Call) -> str:  # noqa: ARG002 - the SPI's
        return f"native-{volume}"


class _LacksWithoutReason(ArrayDriver):
    """A capability is not available, and nobody knows why."""

    def unavailable(self, call: Call) -> Mapping[Capability, str]:  # noqa: ARG002 - the SPI's
        return {Capability.CHAP: ""}


class _WritableSnapshots(Qcow2Driver):
    """The location of a snapshot may be written to."""

    def locate_snapshot(self, snapshot: SnapshotId, call: Call) -> FileLocation:
        return replace(super().locate_snapshot(snapshot, call), read_only=False)


class _PathOfTheInstance(Qcow2Driver):
    """Each instance finds volumes at another path."""

    def locate_volume(self, volume: VolumeId, call: Call) -> FileLocation:
        place = super().locate_volume(volume, call)
        link = place.path.with_name(f"link-{id(self)}-{place.path.name}")
        link.unlink(missing_ok=True)
        link.symlink_to(place.path)
        return replace(place, path=link)


class _RelativePaths(Qcow2Driver):
    """The path of a volume is relative to the process's directory."""

    def locate_volume(self, volume: VolumeId, call: Call) -> FileLocation:
        place = super().locate_volume(volume, call)
        return replace(place, path=Path(os.path.relpath(place.path)))


class _LinkedClones(Qcow2Driver):
    """A clone is a file that refers to its source."""

    def clone_volume(self, source: VolumeId, spec: VolumeSpec, call: Call) -> Volume:
        made = super().clone_volume(source, spec, call)
        base, clone = (self.locate_volume(v, call).path for v in (source, spec.id))
        command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base), str(clone)]
        subprocess.run(command, check=True, timeout=30)
        return made


class _FormatIsMistold(Qcow2Driver):
    """All files are said to be raw."""

    def locate_volume(self, volume: VolumeId, call: Call) -> FileLocation:
        return replace(super().locate_volume(volume, call), format="raw")


class _DeletesKeepACopy(Qcow2Driver):
    """A deleted volume leaves its file under another name."""

    def delete_volume(self, volume: VolumeId, call: Call) -> None:
        with suppress(NotFound):
            path = self.locate_volume(volume, call).path
            shutil.copyfile(path, path.with_name(f"{path.name}.deleted"))
        super().delete_volume(volume, call)


class _DeletesByPattern(Qcow2Driver):
    """Deleting a volume removes every file whose name begins with its id."""

    def delete_volume(self, volume: VolumeId, call: Call) -> None:
        path = self.locate_volume(volume, call).path
        for each in path.parent.glob(f"{volume}*"):
            each.unlink()


class _Quiesces(ArrayDriver, QuiescedSnapshots):
    """Right: freeze, cut, and thaw whatever happens."""

    def create_quiesced_snapshot(
        self, volume: VolumeId, snapshot: SnapshotId, guest: Guest, call: Call
    ) -> Snapshot:
        guest.freeze()
        try:
            return self.create_snapshot(volume, snapshot, call)
        finally:
            guest.thaw()


class _NeverThaws(ArrayDriver, QuiescedSnapshots):
    """The guest is left to core."""

    def create_quiesced_snapshot(
        self, volume: VolumeId, snapshot: SnapshotId, guest: Guest, call: Call
    ) -> Snapshot:
        guest.freeze()
        return self.create_snapshot(volume, snapshot, call)


class _NeverFreezes(ArrayDriver, QuiescedSnapshots):
    """The guest runs on."""

    def create_quiesced_snapshot(
        self,
        volume: VolumeId,
        snapshot: SnapshotId,
        guest: Guest,  # noqa: ARG002 - the SPI's
        call: Call,
    ) -> Snapshot:
        return self.create_snapshot(volume, snapshot, call)


# driver -> check, words of the verdict
ON_ARRAY: dict[type[ArrayDriver], tuple[str, str]] = {
    _CopiesKeepTheirSize: ("snap.volume_from_snapshot_larger", ""),
    _DiesWithItsSnapshot: ("snap.volume_from_snapshot_outlives_it", "does not exist"),
    _LimitIsToldTooSmall: ("snap.limit_reached_typed", "the call succeeded"),
    _RevokesByVolume: ("acl.revoke_one_of_two_hosts", ""),
    _RevokesByHost: ("acl.revoke_keeps_other_volumes", ""),
    _RevokeLies: ("acl.export_removed_when_last_grant_goes", "still lists a grant"),
    _ShortHostNames: ("acl.host_group_names_never_collide", "the array lists"),
    _ListsItsOwnGrants: ("acl.grants_listable_and_match_array", "another instance lists []"),
    _CloseRevokes: ("acl.grant_survives_driver_restart", ""),
    _TotalGrows: ("cap.same_from_other_instance", "several totals"),
    _NoSpaceIsInternal: ("cap.too_large_typed_and_clean", "Internal"),
    _AcceptsAnyLimits: ("qos.bad_value_refused", "the call succeeded"),
    _GrowingLiftsLimits: ("qos.survives_resize_revert", "after resize"),
    _CutsOneByOne: ("group.one_or_none", "keeps"),
    _RevertsOneByOne: ("group.revert_granted_changes_none", "older than the expected 2"),
    _DeletesAllSnapshots: ("group.delete_again_ok", "has []"),
    _OpensAnyway: ("pool.attach_wrong_credentials", ""),
    _RemembersVolumes: ("pool.two_instances_isolated", "still shows what another one deleted"),
    _OpenLeavesAMark: ("pool.open_creates_nothing", "opening the pool made"),
    _ReleaseDoesNothing: ("pool.foreign_not_listed", "listed under its former id"),
    _LacksWithoutReason: ("pool.unavailable_only_narrows", "without a reason"),
    _NeverThaws: ("group.quiesce_failure_thaws", "left the guest frozen"),
    _NeverFreezes: ("group.quiesced_cut", "never frozen"),
}
ON_IMAGES: dict[type[Qcow2Driver], tuple[str, str]] = {
    _WritableSnapshots: ("snap.readonly", "not read-only"),
    _PathOfTheInstance: ("hostpool.two_hosts_see_same_bytes", "another at"),
    _RelativePaths: ("hostpool.location_is_stable", "no absolute path"),
    _LinkedClones: ("hostpool.volume_is_self_contained", "has a backing file"),
    _FormatIsMistold: ("hostpool.format_is_stated", "as raw"),
    _DeletesKeepACopy: ("hostpool.delete_leaves_no_file", ".deleted"),
    _DeletesByPattern: ("hostpool.bystanders_survive", ""),
}


@pytest.mark.parametrize("broken", list(ON_ARRAY), ids=lambda cls: cls.__name__[1:])
def test_broken_driver_of_an_array_is_found(
    on_array: OnDriver, verdict: Verdict, broken: type[ArrayDriver]
) -> None:
    """The check fails on the broken driver."""
    check, words = ON_ARRAY[broken]
    found = verdict(check, on_array(broken))
    assert found
    assert words in found


@pytest.mark.real
@pytest.mark.parametrize("broken", list(ON_IMAGES), ids=lambda cls: cls.__name__[1:])
def test_broken_driver_of_images_is_found(
    on_images: OnDriver, verdict: Verdict, broken: type[Qcow2Driver]
) -> None:
    """The check fails on the broken driver."""
    check, words = ON_IMAGES[broken]
    found = verdict(check, on_images(broken))
    assert found
    assert words in found


@pytest.mark.parametrize("check", ["group.quiesced_cut", "group.quiesce_failure_thaws"])
def test_quiescing_driver_passes(on_array: OnDriver, verdict: Verdict, check: str) -> None:
    """A driver that thaws on every path is conformant: none of ours quiesces, so here is one that does."""
    assert not verdict(check, on_array(_Quiesces))
