"""The rbd driver with one thing wrong each, in its agent, which is given a line more to begin with."""

from __future__ import annotations

from typing import ClassVar

from bollard.drivers.primary.rbd import RbdDriver, RbdOptions, agents

_PLAIN = agents._START


class _WithAgent(RbdDriver):
    # Runs in the agent before its first request. A process has one driver, so a global is good enough.
    patch: ClassVar[str]

    def __init__(self, options: RbdOptions) -> None:
        super().__init__(options)
        agents._START = _PLAIN.removesuffix("main()") + f"exec({self.patch!r}); main()"


class RevokeOnlyTakesTheKey(_WithAgent):
    """A revoke removes the user, and whoever is connected goes on."""

    patch = "from agent import access; access._users = lambda *_: set()"


class DiffMissesDiscards(_WithAgent):
    """What reads zeros is left out of the difference."""

    patch = """
from agent import images, snapshots, volumes
from agent.main import _ACTS
def changed(pool, base, target, start, _real=snapshots.changed):
    page = _real(pool, base, target, start)
    name = volumes.ready(pool, snapshots.record_of(pool, target)["volume"])["image"]
    with images.opened(pool.cluster, name, snapshot=target) as image:
        held = [extent for extent in page["extents"] if any(image.read(*extent[:2]))]
    return {**page, "extents": held}
_ACTS["changed"] = changed
"""


class DiffOfTheFirstObjects(_WithAgent):
    """The difference ends after the first object of the image."""

    patch = """
from agent import snapshots
from agent.main import _ACTS
def changed(*args, _real=snapshots.changed, **kwargs):
    page = _real(*args, **kwargs)
    return {**page, "extents": [extent for extent in page["extents"] if extent[0] < 4 << 20]}
_ACTS["changed"] = changed
"""


class ClonesAreEmpty(_WithAgent):
    """A clone is a new image of the right size."""

    patch = """
from agent import images
images.create_clone = lambda cluster, source, snapshot, name, size: images.create_empty(cluster, name, size)
"""


class SnapshotsAreReadAsTheVolumeIs(_WithAgent):
    """The location of a snapshot is that of the volume."""

    patch = """
from agent import access
from agent.main import _ACTS
def locate(*args, _real=access.locate_snapshot, **kwargs):
    return {**_real(*args, **kwargs), "snapshot": ""}
_ACTS["locate-snapshot"] = locate
"""


class ReadersMayWrite(_WithAgent):
    """Every grant is one for writing."""

    patch = """
from agent import access
def caps(*args, _real=access._osd_caps, **kwargs):
    return _real(*args, read_only=False)
access._osd_caps = caps
"""


class ListShowsForeignImages(_WithAgent):
    """All images of the pool are listed."""

    patch = """
from agent import volumes
from agent.main import _ACTS
def listed(pool, after, limit, _real=volumes.list_page):
    page, ours = _real(pool, after, limit), {r["image"] for _, r in pool.records.scan("v/")}
    foreign = [name for name in pool.cluster.rbd.list(pool.cluster.io) if name not in ours]
    shown = [{"id": n, "size": 1 << 20, "name": n, "identity": n, "image": n} for n in foreign]
    return {**page, "items": sorted([*page["items"], *shown], key=lambda item: item["id"])}
_ACTS["list"] = listed
"""


class RevertsHalf(_WithAgent):
    """A revert says that it is done, and is not."""

    patch = """
from agent import snapshots, volumes
def roll_back(pool, volume, record):
    del record["revert"]
    pool.records.put({volumes.key_of(volume): record})
    return record
snapshots.roll_back = volumes.roll_back = roll_back
"""
