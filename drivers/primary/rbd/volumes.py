"""Volumes: create, clone, resize, delete, take over, give back."""

from __future__ import annotations

import re

from ....core.spi import (
    Adopts,
    Call,
    ClonesVolume,
    InvalidArgument,
    Page,
    Resizes,
    Volume,
    VolumeSpec,
    checked_id,
)
from ....transfer_objects.ids import VolumeId
from .names import own_volume
from .pool import RbdPool, refuse_qos, volume_of

_IMAGE = re.compile(r"[^@/\x00-\x1f\x7f]{1,96}")  # librbd's own rules


class RbdVolumes(RbdPool, ClonesVolume, Resizes, Adopts):
    """A volume is an image; nobody reaches it before it is granted."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        """See `PrimaryDriver.create_volume`."""
        return self._created(spec, "empty", None, call)

    def clone_volume(self, source: VolumeId, spec: VolumeSpec, call: Call) -> Volume:
        """See `ClonesVolume.clone_volume`; the clone shares what neither has written since."""
        if own_volume(source) == spec.id:
            raise InvalidArgument(f"volume {source} cannot be cloned onto itself")
        return self._created(spec, f"volume:{source}", {"volume": source}, call)

    def delete_volume(self, volume: VolumeId, call: Call) -> None:
        """See `PrimaryDriver.delete_volume`; what clones still need of it goes with the last of them."""
        self._agents.ask("delete", call, volume=own_volume(volume))

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        """See `PrimaryDriver.get_volume`; the seed of a template is one too."""
        return volume_of(self._agents.ask("get", call, volume=checked_id("volume", volume)))

    def list_volumes(self, call: Call, *, after: str | None = None, limit: int = 1000) -> Page[Volume]:
        """See `PrimaryDriver.list_volumes`."""
        page = self._agents.ask("list", call, after=after or "", limit=page_size(limit))
        return Page(items=[volume_of(shown) for shown in page["items"]], after=page["after"])

    def resize_volume(self, volume: VolumeId, size: int, call: Call) -> Volume:
        """See `Resizes.resize_volume`. A host that has it open sees the new size at once."""
        size = self._traits.rounded(size)
        return volume_of(self._agents.ask("resize", call, volume=own_volume(volume), size=size))

    def adopt_volume(self, native_name: str, spec: VolumeSpec, call: Call) -> Volume:
        """See `Adopts.adopt_volume`; `native_name` is the name of an image in the pool."""
        if not _IMAGE.fullmatch(native_name):
            raise InvalidArgument(
                f"{native_name!r} is no name of an image: 1 to 96 characters without @ and /"
            )
        refuse_qos(spec.qos)
        shown = self._agents.ask(
            "adopt", call, native=native_name, volume=own_volume(spec.id), size=spec.size, name=spec.name
        )
        return volume_of(shown)

    def release_volume(self, volume: VolumeId, call: Call) -> str:
        """See `Adopts.release_volume`; the image keeps its name."""
        return str(self._agents.ask("release", call, volume=own_volume(volume)))

    def _created(self, spec: VolumeSpec, origin: str, source: dict[str, str] | None, call: Call) -> Volume:
        """Make a volume unless it is there; `source` as agent/volumes.py has it."""
        own_volume(spec.id)
        return self._made(spec, origin, source, call)

    def _made(self, spec: VolumeSpec, origin: str, source: dict[str, str] | None, call: Call) -> Volume:
        refuse_qos(spec.qos)
        size = self._traits.rounded(spec.size)
        shown = self._agents.ask(
            "create", call, volume=spec.id, size=size, name=spec.name, origin=origin, source=source
        )
        return volume_of(shown)


def page_size(limit: int) -> int:
    """Return how many objects to ask for: at most 1000 at a time."""
    if limit < 1:
        raise InvalidArgument(f"limit must be at least 1, got {limit}")
    return min(limit, 1000)
