"""Snapshots of volumes of KVM in chains: fulls and deltas (docs/incremental-snapshots.md).

site = Site(catalog=..., journal=..., settings=..., stores=..., backups=driver, ...)
take(site, place, "snap-2", call)          full or delta, as the rules say
delete(site, "snap-1", call)               kept on its store as long as others are based on it
revert(site, "vol-1", "snap-2", image, call)
free(site, "vol-1", call)                  the space of what was deleted, on stores that list late
sync(site, call)                           after a crash
"""

from .archived import ChainArchive
from .deletion import delete, free
from .directory import ChainDirectory
from .moving import copy, migrate
from .reading import end_chain, opened, restore, revert, size_of, template
from .rules import check_move
from .settling import settle_entry, sync
from .site import Site, VolumePlace
from .stores import ChainStore, Link, Stored
from .taking import recreate_checkpoints, take
from .tracking import Disk, ImageTracker, Tracker

__all__ = [
    "ChainArchive",
    "ChainDirectory",
    "ChainStore",
    "Disk",
    "ImageTracker",
    "Link",
    "Site",
    "Stored",
    "Tracker",
    "VolumePlace",
    "check_move",
    "copy",
    "delete",
    "end_chain",
    "free",
    "migrate",
    "opened",
    "recreate_checkpoints",
    "restore",
    "revert",
    "settle_entry",
    "size_of",
    "sync",
    "take",
    "template",
]
