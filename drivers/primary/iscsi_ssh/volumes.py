"""Volumes: create, copy, resize, delete, take over, give back."""

from __future__ import annotations

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
from .pool import IscsiPool, refuse_qos, volume_of


class IscsiVolumes(IscsiPool, ClonesVolume, Resizes, Adopts):
    """A volume is a sparse file of the pool; nobody reaches it before it is granted."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        """See `PrimaryDriver.create_volume`."""
        return self._created(spec, "empty", None, call)

    def clone_volume(self, source: VolumeId, spec: VolumeSpec, call: Call) -> Volume:
        """See `ClonesVolume.clone_volume`."""
        if checked_id("volume", source) == spec.id:
            raise InvalidArgument(f"volume {source} cannot be cloned onto itself")
        own_volume(source)
        return self._created(spec, f"volume:{source}", f"volume:{source}", call)

    def delete_volume(self, volume: VolumeId, call: Call) -> None:
        """See `PrimaryDriver.delete_volume`."""
        own_volume(volume)
        self._array.ask("delete", call, volume=volume)

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        """See `PrimaryDriver.get_volume`; the seed of a template is one too."""
        return volume_of(self._array.ask("get", call, volume=checked_id("volume", volume)))

    def list_volumes(self, call: Call, *, after: str | None = None, limit: int = 1000) -> Page[Volume]:
        """See `PrimaryDriver.list_volumes`."""
        page = self._array.ask("list", call, after=after or "", limit=page_size(limit))
        return Page(items=[volume_of(shown) for shown in page["items"]], after=page["after"])

    def resize_volume(self, volume: VolumeId, size: int, call: Call) -> Volume:
        """See `Resizes.resize_volume`.

        tgtd takes the LUN offline for some milliseconds; what is in flight then may fail, so suspend a
        guest that is writing.
        """
        own_volume(volume)
        shown = self._array.ask("resize", call, volume=volume, size=self._traits.rounded(size))
        return volume_of(shown)

    def adopt_volume(self, native_name: str, spec: VolumeSpec, call: Call) -> Volume:
        """See `Adopts.adopt_volume`; `native_name` is the name of a file in the pool's directory."""
        own_volume(spec.id)
        refuse_qos(spec.qos)
        shown = self._array.ask(
            "adopt", call, native=native_name, volume=spec.id, size=spec.size, name=spec.name
        )
        return volume_of(shown)

    def release_volume(self, volume: VolumeId, call: Call) -> str:
        """See `Adopts.release_volume`; the file is OWNER.ID.raw in the pool's directory from then on."""
        own_volume(volume)
        return str(self._array.ask("release", call, volume=volume))

    def _created(
        self, spec: VolumeSpec, origin: str, source: str | None, call: Call, kind: str = "volume"
    ) -> Volume:
        """Make a volume unless it is there.

        Args:
            spec: what is wanted.
            origin: what it is made from; a volume of another origin is a conflict.
            source: what to copy.
            call: the call.
            kind: "volume" or "template".
        """
        checked_id("volume", spec.id)
        if kind == "volume":
            own_volume(spec.id)
        refuse_qos(spec.qos)
        size = self._traits.rounded(spec.size)
        shown = self._array.ask(
            "create", call, volume=spec.id, size=size, name=spec.name, origin=origin, kind=kind, source=source
        )
        return volume_of(shown)


def page_size(limit: int) -> int:
    """Return how many objects to ask for: at most 1000 at a time."""
    if limit < 1:
        raise InvalidArgument(f"limit must be at least 1, got {limit}")
    return min(limit, 1000)
