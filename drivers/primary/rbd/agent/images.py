"""Images of the pool: open, mark, remove; what hangs on what.

    bollard.OWNER.VOLUME.SERIAL     the serial is random: an image's name never comes again

An image is opened for writing only under its volume's lock (locks.py), so that one that a dead agent left
open is found and freed.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rbd

from .cluster import FEATURES, Cluster
from .errors import Refused
from .records import Records

_MARK = "bollard.volume"


@contextmanager
def opened(
    cluster: Cluster, name: str, *, snapshot: str | None = None, read_only: bool = False
) -> Iterator[Any]:
    """Open an image, or a snapshot of it."""
    with rbd.Image(cluster.io, name, snapshot=snapshot, read_only=read_only or snapshot is not None) as image:
        yield image


def new_name(cluster: Cluster, volume: str) -> str:
    """Return a name that no image has had."""
    return f"bollard.{cluster.owner}.{volume}.{secrets.token_hex(8)}"


def mark(cluster: Cluster, name: str, volume: str) -> str:
    """Write on an image whose it is; return its id, which no other image of the cluster ever has."""
    with opened(cluster, name) as image:
        image.metadata_set(_MARK, f"{cluster.owner}/{volume}")
        return str(image.id())


def unmark(cluster: Cluster, name: str) -> None:
    """Take the mark away."""
    with opened(cluster, name) as image:
        try:
            image.metadata_remove(_MARK)
        except KeyError:
            return


def marked(image: Any) -> str:
    """Return OWNER/VOLUME, or nothing."""
    try:
        return str(image.metadata_get(_MARK))
    except KeyError:
        return ""


def create_empty(cluster: Cluster, name: str, size: int) -> None:
    """Make an image that reads zeros."""
    cluster.rbd.create(cluster.io, name, size, old_format=False, features=FEATURES)


def create_clone(cluster: Cluster, source: str, snapshot: str, name: str, size: int) -> None:
    """Make an image that starts as a snapshot of another, and may be larger."""
    cluster.rbd.clone(cluster.io, source, snapshot, cluster.io, name, features=FEATURES)
    with opened(cluster, name) as image:
        if image.size() < size:
            image.resize(size)


def cut(cluster: Cluster, name: str, snapshot: str) -> int:
    """Take a snapshot, instead of one of that name; return its size.

    What a crash left is older than the call, and the call's snapshot must hold what was written before it.
    """
    with opened(cluster, name) as image:
        _drop(image, snapshot)
        image.create_snap(snapshot)
        return int(next(s["size"] for s in image.list_snaps() if s["name"] == snapshot))


def drop_snapshot(cluster: Cluster, name: str, snapshot: str) -> None:
    """Remove a snapshot; its clones keep what they need. Succeeds without snapshot or image."""
    try:
        with opened(cluster, name) as image:
            _drop(image, snapshot)
    except rbd.ImageNotFound:
        return


def _drop(image: Any, snapshot: str) -> None:
    try:
        image.remove_snap(snapshot)
    except rbd.ImageNotFound:
        return


def parent_of(image: Any) -> str:
    """Return the id of the image that a clone needs, or nothing."""
    try:
        return str(image.parent_id())
    except rbd.ImageNotFound:
        return ""


def remove(cluster: Cluster, records: Records, name: str) -> None:
    """Remove an image; into the trash where clones need it. Succeeds if it is gone.

    Raises:
        Refused: "in_use": somebody has it open.
    """
    try:
        _remove(cluster, records, name)
    except rbd.ImageNotFound:
        return
    except rbd.ImageBusy as error:
        raise Refused("in_use", f"image {name} is open elsewhere", "unknown") from error


def _remove(cluster: Cluster, records: Records, name: str) -> None:
    try:
        cluster.rbd.remove(cluster.io, name)
    except rbd.ImageHasSnapshots:
        with opened(cluster, name, read_only=True) as image:
            number = str(image.id())
        records.put({f"z/{number}": {"name": name}})
        cluster.rbd.trash_move(cluster.io, name, 0)


def empty_trash(cluster: Cluster, records: Records) -> None:
    """Remove those of our images that no clone needs any more; the last of a chain frees the one before."""
    while any(_emptied(cluster, records, number) for number, _ in list(records.scan("z/"))):
        pass


def _emptied(cluster: Cluster, records: Records, number: str) -> bool:
    try:
        cluster.rbd.trash_remove(cluster.io, number, force=True)
    except rbd.ImageNotFound:
        pass  # a run that died before it said so
    except (rbd.ImageHasSnapshots, rbd.ImageBusy):
        return False
    records.put({f"z/{number}": None})
    return True
