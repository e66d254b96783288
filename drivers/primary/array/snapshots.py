"""Snapshots on the array: single ones and members of VM snapshots, reverts, and what changed."""

from __future__ import annotations

from collections.abc import Iterator

from ....core.spi import (
    Busy,
    Call,
    ChangedBlocks,
    Conflict,
    Extent,
    ExtentKind,
    Internal,
    InvalidArgument,
    NotFound,
    Outcome,
    Page,
    Reverts,
    Snapshot,
    Snapshots,
    Volume,
    VolumeFromSnapshot,
    VolumeSpec,
    checked_id,
)
from ....transfer_objects.ids import SnapshotId, VolumeId
from .answers import Json, member
from .client import Conversation, path_of
from .names import Kind, array_name, group_of_member, member_id
from .objects import ID, KIND, MARK, OWNER, VERSION, ArraySnapshot, ArrayVolume, is_of
from .pool import refuse_seed
from .volumes import ArrayVolumes, delete_if_there, page_size

_EXTENTS = 10_000  # per request; the array's maximum


class ArraySnapshots(ArrayVolumes, Snapshots, Reverts, VolumeFromSnapshot, ChangedBlocks):
    """A snapshot of ours is a snapshot of the array, found by its name."""

    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        """See `Snapshots.create_snapshot`."""
        refuse_seed(volume)
        talk = self._client.talk(call)
        source = self._volume(talk, volume)
        found = self._find_snapshot(talk, snapshot) or self._cut(talk, source, snapshot)
        if found.volume != source.id:
            if self._volume(talk, volume).id != source.id:
                raise Busy(f"volume {volume} is being made anew by another caller")
            raise Conflict(f"snapshot {snapshot} exists, of another volume than {volume}")
        return self._shown(found, volume)

    def delete_snapshot(self, snapshot: SnapshotId, call: Call) -> None:
        """See `Snapshots.delete_snapshot`."""
        talk = self._client.talk(call)
        found = self._find_snapshot(talk, snapshot)
        if found is not None:
            delete_if_there(talk, "snapshots", found.id)

    def get_snapshot(self, snapshot: SnapshotId, call: Call) -> Snapshot:
        """See `Snapshots.get_snapshot`."""
        talk = self._client.talk(call)
        found = self._snapshot(talk, snapshot)
        owner = ArrayVolume.of(talk.get(path_of("volumes", found.volume)))
        return self._shown(found, owner.to_spi().id)

    def list_snapshots(
        self, volume: VolumeId, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[Snapshot]:
        """See `Snapshots.list_snapshots`; a volume that does not exist has none."""
        talk = self._client.talk(call)
        source = self._find(talk, volume)
        if source is None:
            return Page(items=[])
        path = f"{path_of('volumes', source.id)}/snapshots"
        shown, following = talk.page(path, cursor=after, limit=page_size(limit))
        ours = [one for one in map(ArraySnapshot.of, shown) if is_of(one.labels, self.options.owner)]
        return Page(items=[self._shown(one, volume) for one in ours], after=following)

    def revert_volume(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Volume:
        """See `Reverts.revert_volume`; the array refuses it for what is granted."""
        refuse_seed(volume)
        talk = self._client.talk(call)
        target, source = self._volume(talk, volume), self._snapshot(talk, snapshot)
        if source.volume != target.id:
            raise InvalidArgument(f"snapshot {snapshot} is not of volume {volume}")
        self._revert(talk, target, source)
        return self._volume(talk, volume).to_spi()

    def create_volume_from_snapshot(self, snapshot: SnapshotId, spec: VolumeSpec, call: Call) -> Volume:
        """See `VolumeFromSnapshot.create_volume_from_snapshot`."""
        return self._new_copy(
            spec,
            f"snapshot:{snapshot}",
            lambda talk: path_of("snapshots", self._snapshot(talk, snapshot).id),
            call,
        )

    def changed(
        self, base: SnapshotId | None, target: SnapshotId, call: Call, *, start: int = 0
    ) -> Iterator[Extent]:
        """See `ChangedBlocks.changed`. Both snapshots are looked up before the first extent is asked for."""
        talk = self._client.talk(call)
        found = self._snapshot(talk, target)
        base_id = self._snapshot(talk, base).id if base is not None else None
        return _changes(talk, found, base_id, start)

    # -- shared ---------------------------------------------------------------------------------------

    def _find_snapshot(self, talk: Conversation, snapshot: SnapshotId) -> ArraySnapshot | None:
        checked_id("snapshot", snapshot)
        group = group_of_member(snapshot)
        kind, key = (Kind.GROUP, group) if group else (Kind.SNAPSHOT, snapshot)
        named = self._snapshots_named(talk, array_name(self.options.owner, kind, key))
        found = [one for one in named if _id_of(one) == snapshot]
        if len(found) > 1:
            raise Internal(f"the array has {len(found)} snapshots {snapshot} of ours")
        return found[0] if found else None

    def _snapshots_named(self, talk: Conversation, name: str) -> list[ArraySnapshot]:
        """Return our snapshots of that name in our pool."""
        shown = map(ArraySnapshot.of, talk.items("/snapshots", name=name))
        return [s for s in shown if s.pool == self.options.pool and is_of(s.labels, self.options.owner)]

    def _snapshot(self, talk: Conversation, snapshot: SnapshotId) -> ArraySnapshot:
        found = self._find_snapshot(talk, snapshot)
        if found is None:
            raise NotFound(f"snapshot {snapshot} does not exist")
        return found

    def _snapshot_body(self, kind: Kind, key: str) -> Json:
        """Return what a request for a new snapshot of ours says."""
        labels = {MARK: VERSION, OWNER: self.options.owner, KIND: kind.name.lower(), ID: key}
        return {"name": array_name(self.options.owner, kind, key), "metadata": labels}

    def _cut(self, talk: Conversation, source: ArrayVolume, snapshot: SnapshotId) -> ArraySnapshot:
        if group_of_member(snapshot):
            raise InvalidArgument(f"snapshot id {snapshot} is reserved for members of VM snapshots")
        path, body = (
            f"{path_of('volumes', source.id)}/snapshots",
            self._snapshot_body(Kind.SNAPSHOT, snapshot),
        )
        try:
            return ArraySnapshot.of(talk.post(path, body))
        except Conflict as error:  # another caller was faster, or a foreigner took the name
            found = self._find_snapshot(talk, snapshot)
            if found is not None:
                return found
            named = map(ArraySnapshot.of, talk.items("/snapshots", name=body["name"]))
            # One of ours was deleted and made anew between the two looks: no conflict, and worth a repeat.
            if any(one.volume == source.id and not is_of(one.labels, self.options.owner) for one in named):
                raise
            raise Busy(f"snapshot {snapshot} was just deleted by another caller") from error

    def _revert(self, talk: Conversation, target: ArrayVolume, source: ArraySnapshot) -> None:
        job = talk.post(f"{path_of('volumes', target.id)}/revert", {"snapshot": source.id})
        if not self._await_job(talk, job):
            raise Internal("the array failed to revert the volume", outcome=Outcome.UNKNOWN)

    def _shown(self, found: ArraySnapshot, volume: VolumeId) -> Snapshot:
        private = {"version": VERSION, "array_id": found.id}
        return Snapshot(
            id=_id_of(found), volume=volume, size=found.size, created=found.created, private=private
        )


def _id_of(found: ArraySnapshot) -> SnapshotId:
    key = found.labels.get(ID, "")
    if found.labels.get(KIND) == Kind.GROUP.name.lower():
        return member_id(key, found.volume)
    return SnapshotId(key)


def _changes(talk: Conversation, target: ArraySnapshot, base: str | None, start: int) -> Iterator[Extent]:
    path = f"{path_of('snapshots', target.id)}/changes"
    position: int | None = start if start < target.size else None
    while position is not None:
        shown = talk.get(path, base=base, start=position, limit=_EXTENTS)
        for one in member(shown, "extents", list):
            kind = ExtentKind.HOLE if member(one, "zero", bool) else ExtentKind.DATA
            yield Extent(member(one, "offset", int), member(one, "length", int), kind)
        following = member(shown, "next_start", int) if shown.get("next_start") is not None else None
        if following is not None and following <= position:
            raise Internal("the array's list of changes does not go on")
        position = following
