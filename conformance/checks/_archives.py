"""A volume in the archive, in several parts: what the archive checks work on."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.archive import Archive, CreateOptions, Manifest
from ...core.paging import all_pages
from ...core.spi import Call, Volume
from ...transfer_objects.ids import SnapshotId, VolumeId
from .. import pattern
from ..lab import MIB, Lab, must

SIZE = 8 * MIB
_OPTIONS = CreateOptions(window_size=MIB)  # several parts, of a small volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """A volume and a snapshot of it in the archive, in several parts."""

    volume: Volume
    snapshot: SnapshotId
    manifest: Manifest
    archive: Archive


def archive_snapshot(
    lab: Lab, archive: Archive, volume: VolumeId, snapshot: SnapshotId, call: Call
) -> Manifest:
    with lab.mover.reading_snapshot(lab.pool, snapshot) as source:
        return archive.create(source, call, volume=volume, snapshot=snapshot, options=_OPTIONS)


def cut(lab: Lab) -> tuple[Volume, SnapshotId]:
    volume = lab.volume(SIZE)
    with lab.mover.writing_volume(lab.pool, volume.id) as sink:
        sink.write(0, pattern.blocks(volume.id, 0, SIZE, 1))
        sink.flush()
    return volume, lab.snapshot(volume.id).id


def archived(lab: Lab) -> Archived:
    (volume, snapshot), archive = cut(lab), Archive(lab.archive_store)
    manifest = archive_snapshot(lab, archive, volume.id, snapshot, lab.call())
    parts = list(manifest.parts())
    must(len(parts) == SIZE // MIB, f"{SIZE // MIB} windows hold data, {len(parts)} parts were archived")
    return Archived(volume=volume, snapshot=snapshot, manifest=manifest, archive=archive)


def parts_of(of: Archived) -> list[str]:
    return [of.manifest.key_of(window, part) for window, part in of.manifest.parts()]


def read_object(lab: Lab, key: str) -> bytes:
    return b"".join(lab.archive_store.get(key, lab.call()))


def stored_keys(lab: Lab, volume: VolumeId) -> set[str]:
    prefix = f"v1/{volume}/"
    pages = all_pages(lambda after: lab.archive_store.list(prefix, lab.call(), after=after))
    return {stored.key for stored in pages}


def dense() -> dict[int, int | None]:
    """Return what `_cut` wrote, at some places."""
    return dict.fromkeys(range(0, SIZE, 256 * 1024), 1)
