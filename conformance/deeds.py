"""What a driver does to its backend, as crash and fault checks need it: one deed for each mutating call.

    prepare ──> scene ──> act (may be cut short anywhere) ──> act again ──> judge
                             └─ or: give up, and delete instead ──> nothing is left
    applied   asks the backend whether the deed was done, undone (False) or is half done (None)

Each deed is tiny: it is done a hundred times over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..core.spi import (
    Call,
    ClonesVolume,
    Host,
    NotFound,
    Resizes,
    Reverts,
    Snapshots,
    VolumeFromSnapshot,
    VolumeSpec,
)
from ..transfer_objects.ids import SnapshotId, VolumeId, new_id
from .lab import MIB, Lab, expected, must

SIZE = 2 * MIB
Applied = bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a deed is done to; each time with new ids.

    Attributes:
        volume: there already, save for what creates it.
        target: the volume that a clone or restore makes.
    """

    volume: VolumeId
    target: VolumeId
    snapshot: SnapshotId
    host: Host


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """One mutating call.

    Attributes:
        method: of the SPI.
        needs: capability mix-ins.
        prepare: makes what the call needs.
        act: the call itself, on whichever driver instance.
        judge: fails unless the deed was done, exactly once.
        applied: what the backend says: done, not done, or in between.
        makes: whether giving up leaves something to delete.
    """

    method: str
    prepare: Callable[[Lab], Scene]
    act: Callable[[Any, Scene, Call], object]
    judge: Callable[[Lab, Scene], None]
    applied: Callable[[Lab, Scene], Applied]
    needs: tuple[type, ...] = field(default=())
    kinds: tuple[str, ...] = ("managed", "host")
    makes: bool = False


# -- scenes --------------------------------------------------------------------------------------------


def _empty(lab: Lab) -> Scene:
    return Scene(
        volume=lab.new_id(), target=lab.new_id(), snapshot=SnapshotId(new_id(lab.prefix)), host=lab.host()
    )


def _with_volume(lab: Lab) -> Scene:
    scene = _empty(lab)
    volume = lab.pool.volumes.create(VolumeSpec(id=scene.volume, size=SIZE))
    lab.write(volume, 1)
    return scene


def _with_snapshot(lab: Lab) -> Scene:
    scene = _with_volume(lab)
    lab.pool.snapshots.create(scene.volume, scene.snapshot)
    return scene


def _rewritten(lab: Lab) -> Scene:
    scene = _with_snapshot(lab)
    lab.write(lab.pool.volumes.get(scene.volume), 2)
    return scene


def _granted(lab: Lab) -> Scene:
    scene = _with_volume(lab)
    lab.pool.volumes.grant(scene.volume, scene.host)
    return scene


# -- what the backend says -----------------------------------------------------------------------------


def _there(lab: Lab, volume: VolumeId) -> bool:
    try:
        lab.pool.volumes.get(volume)
    except NotFound:
        return False
    return True


def _cut(lab: Lab, snapshot: SnapshotId) -> bool:
    try:
        lab.pool.snapshots.get(snapshot)
    except NotFound:
        return False
    return True


def _size(lab: Lab, scene: Scene) -> Applied:
    return {SIZE: False, 2 * SIZE: True}.get(lab.pool.volumes.get(scene.volume).size)


def _grants(lab: Lab, scene: Scene) -> list[str]:
    return [grant.host for grant in lab.pool.volumes.grants(scene.volume)]


def _generation(lab: Lab, scene: Scene) -> Applied:
    """Return whether the volume is wholly as its snapshot, wholly as before, or torn."""
    for generation, answer in ((1, True), (2, False)):
        try:
            lab.verify(scene.volume, expected(SIZE, generation))
        except AssertionError:
            continue
        return answer
    return None


# -- what must be so at the end --------------------------------------------------------------------------


def _listed_once(lab: Lab, volume: VolumeId) -> None:
    count = [v.id for v in lab.pool.volumes.list()].count(volume)
    must(count == 1, f"{volume} is listed {count} times")


def _is_created(lab: Lab, scene: Scene) -> None:
    must(lab.pool.volumes.get(scene.volume).size == SIZE, "the volume has another size")
    _listed_once(lab, scene.volume)
    lab.verify(scene.volume, expected(SIZE, None))


def _is_deleted(lab: Lab, scene: Scene) -> None:
    must(not _there(lab, scene.volume), "the volume is still there")
    must(scene.volume not in {v.id for v in lab.pool.volumes.list()}, "the volume is still listed")


def _is_filled(lab: Lab, scene: Scene) -> None:
    _listed_once(lab, scene.target)
    lab.verify(scene.target, expected(SIZE, 1), owner=scene.volume)
    lab.verify(scene.volume, expected(SIZE, 1))


def _is_cut(lab: Lab, scene: Scene) -> None:
    listed = [s.id for s in lab.pool.snapshots.list(scene.volume)]
    must(listed == [scene.snapshot], f"the volume's snapshots are {listed}")
    lab.verify_snapshot(scene.snapshot, scene.volume, expected(SIZE, 1))


def _is_uncut(lab: Lab, scene: Scene) -> None:
    must(not _cut(lab, scene.snapshot), "the snapshot is still there")
    listed = [s.id for s in lab.pool.snapshots.list(scene.volume)]
    must(listed == [], f"the volume still lists {listed}")
    lab.verify(scene.volume, expected(SIZE, 1))


def _is_grown(lab: Lab, scene: Scene) -> None:
    seen = lab.size_seen(scene.volume)
    must(seen == 2 * SIZE, f"a host sees {seen} bytes")
    lab.verify(scene.volume, expected(SIZE, 1) | {2 * SIZE - MIB: None})


def _is_reverted(lab: Lab, scene: Scene) -> None:
    lab.verify(scene.volume, expected(SIZE, 1))
    must(_cut(lab, scene.snapshot), "the snapshot went with the revert")


def _is_granted(lab: Lab, scene: Scene) -> None:
    must(_grants(lab, scene) == [scene.host.id], f"the backend lists the grants {_grants(lab, scene)}")


def _is_revoked(lab: Lab, scene: Scene) -> None:
    must(_grants(lab, scene) == [], f"the backend lists the grants {_grants(lab, scene)}")


def spec_of(volume: VolumeId) -> VolumeSpec:
    """Return what every deed creates."""
    return VolumeSpec(id=volume, size=SIZE, name="bollard conformance")


CREATE = Deed(
    method="create_volume",
    prepare=_empty,
    act=lambda driver, s, call: driver.create_volume(spec_of(s.volume), call),
    judge=_is_created,
    applied=lambda lab, s: _there(lab, s.volume),
    makes=True,
)
DELETE = Deed(
    method="delete_volume",
    prepare=_with_volume,
    act=lambda driver, s, call: driver.delete_volume(s.volume, call),
    judge=_is_deleted,
    applied=lambda lab, s: not _there(lab, s.volume),
)
CLONE = Deed(
    method="clone_volume",
    needs=(ClonesVolume,),
    prepare=_with_volume,
    act=lambda driver, s, call: driver.clone_volume(s.volume, spec_of(s.target), call),
    judge=_is_filled,
    applied=lambda lab, s: _there(lab, s.target),
    makes=True,
)
RESTORE = Deed(
    method="create_volume_from_snapshot",
    needs=(Snapshots, VolumeFromSnapshot),
    prepare=_with_snapshot,
    act=lambda driver, s, call: driver.create_volume_from_snapshot(s.snapshot, spec_of(s.target), call),
    judge=_is_filled,
    applied=lambda lab, s: _there(lab, s.target),
    makes=True,
)
RESIZE = Deed(
    method="resize_volume",
    needs=(Resizes,),
    prepare=_with_volume,
    act=lambda driver, s, call: driver.resize_volume(s.volume, 2 * SIZE, call),
    judge=_is_grown,
    applied=_size,
)
SNAPSHOT = Deed(
    method="create_snapshot",
    needs=(Snapshots,),
    prepare=_with_volume,
    act=lambda driver, s, call: driver.create_snapshot(s.volume, s.snapshot, call),
    judge=_is_cut,
    applied=lambda lab, s: _cut(lab, s.snapshot),
    makes=True,
)
DELETE_SNAPSHOT = Deed(
    method="delete_snapshot",
    needs=(Snapshots,),
    prepare=_with_snapshot,
    act=lambda driver, s, call: driver.delete_snapshot(s.snapshot, call),
    judge=_is_uncut,
    applied=lambda lab, s: not _cut(lab, s.snapshot),
)
REVERT = Deed(
    method="revert_volume",
    needs=(Snapshots, Reverts),
    prepare=_rewritten,
    act=lambda driver, s, call: driver.revert_volume(s.volume, s.snapshot, call),
    judge=_is_reverted,
    applied=_generation,
)
GRANT = Deed(
    method="grant",
    kinds=("managed",),
    prepare=_with_volume,
    act=lambda driver, s, call: driver.grant(s.volume, s.host, call),
    judge=_is_granted,
    applied=lambda lab, s: bool(_grants(lab, s)),
    makes=True,
)
REVOKE = Deed(
    method="revoke",
    kinds=("managed",),
    prepare=_granted,
    act=lambda driver, s, call: driver.revoke(s.volume, s.host.id, call),
    judge=_is_revoked,
    applied=lambda lab, s: not _grants(lab, s),
)
DEEDS: tuple[Deed, ...] = (
    CREATE,
    DELETE,
    CLONE,
    RESTORE,
    RESIZE,
    SNAPSHOT,
    DELETE_SNAPSHOT,
    REVERT,
    GRANT,
    REVOKE,
)


def give_up(lab: Lab, scene: Scene) -> None:
    """Delete whatever a deed may have made, as an orchestrator does that no longer wants it."""
    volumes = lab.pool.volumes
    if lab.pool.managed:
        volumes.revoke(scene.volume, scene.host.id)
    if isinstance(lab.pool.driver, Snapshots):
        lab.pool.snapshots.delete(scene.snapshot)
    for volume in (scene.target, scene.volume):
        volumes.delete(volume)
    must(not _there(lab, scene.volume), "the volume is still there after its delete")
    must(not _there(lab, scene.target), "the target is still there after its delete")
