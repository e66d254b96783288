"""The files of a volume on a pool that hosts mount: its own, and the overlays that VM snapshots made.

<pool>/volumes/vol-1.qcow2          the volume's own, named by its pool
<pool>/volumes/vol-1.<name>         an overlay: a command may name it, but never out of this directory,
                                    and never another volume's
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...transfer_objects.ids import VolumeId
from ..checks import check_name
from ..dataplane import probe
from ..dataplane.os_errors import os_errors
from ..pool import Pool
from ..spi import Call, FileLocation, HasDependents, InvalidArgument, Unsupported
from ..steps import step


def own_image(pool: Pool, volume: VolumeId, call: Call) -> FileLocation:
    """Return the volume's own file.

    Raises:
        Unsupported: it is no file.
    """
    where = pool.volumes.locate(volume, step(call))
    if not isinstance(where, FileLocation):
        raise Unsupported(f"volume {volume} is no file: it has no overlays")
    return where


def image_at(own: FileLocation, volume: VolumeId, path: str | None) -> FileLocation:
    """Return the image that a command's path means: the last part of it counts."""
    name = (path or "").rpartition("/")[2]
    if name in ("", volume, own.path.name):
        return own
    return overlay_at(own, volume, name)


def overlay_at(own: FileLocation, volume: VolumeId, name: str) -> FileLocation:
    """Return an overlay by its name, beside the volume's own file.

    It is qcow2, unless its name ends with ".raw": some hypervisors have overlays of their own kind.
    """
    check_name("path", name)
    mark = f"{volume}."
    whole = name if name.startswith(mark) else mark + name
    if whole == own.path.name:
        raise InvalidArgument(f"{whole} is the volume's own file, not an overlay")
    return FileLocation(path=own.path.with_name(whole), format="raw" if whole.endswith(".raw") else "qcow2")


def image_below(overlay: FileLocation) -> FileLocation | None:
    """Return what an overlay stands on; None where the file does not say so, as a raw one."""
    below = _backing(overlay.path)
    return None if below is None else FileLocation(path=below, format="qcow2" if _is_qcow2(below) else "raw")


def remove_overlay(own: FileLocation, volume: VolumeId, image: FileLocation) -> None:
    """Remove an overlay that nothing stands on; one that is gone is fine.

    Raises:
        InvalidArgument: it is the volume's own file.
        HasDependents: another image stands on it.
    """
    if image.path == own.path:
        raise InvalidArgument(f"{image.path.name} is the volume's own file: delete the volume")
    for other in _images(own, volume):
        if other != image.path and _backing(other) == image.path:
            raise HasDependents(f"{other.name} stands on {image.path.name}")
    with os_errors(f"cannot remove the image {image.path}"):
        image.path.unlink(missing_ok=True)


def _images(own: FileLocation, volume: VolumeId) -> Iterator[Path]:
    yield own.path
    yield from (path for path in own.path.parent.glob(f"{volume}.*") if path != own.path)


def _backing(image: Path) -> Path | None:
    if not image.is_file():
        return None
    backing = probe(image, "qcow2").backing if _is_qcow2(image) else None
    return (image.parent / backing) if backing else None


def _is_qcow2(image: Path) -> bool:
    with image.open("rb") as file:
        return file.read(4) == b"QFI\xfb"
