"""Taking over volumes that others made on the array, and giving ours back."""

from __future__ import annotations

from ....core.spi import (
    Adopts,
    Call,
    Conflict,
    HasDependents,
    InUse,
    InvalidArgument,
    NotFound,
    Volume,
    VolumeSpec,
)
from ....transfer_objects.ids import VolumeId
from .client import Conversation, path_of
from .names import MAX_NAME, Kind
from .objects import ID, KIND, MARK, NAME, ORIGIN, OWNER, READY, STATE, ArrayVolume
from .pool import refuse_seed
from .volumes import ArrayVolumes

_OURS = {MARK, OWNER, KIND, ID, NAME, ORIGIN, STATE}


class ArrayAdoption(ArrayVolumes, Adopts):
    """Adopting is one request: the volume gets our name and our labels, and keeps the labels it had."""

    def adopt_volume(self, native_name: str, spec: VolumeSpec, call: Call) -> Volume:
        """See `Adopts.adopt_volume`; `native_name` is the volume's name in our pool."""
        refuse_seed(spec.id)
        if not 0 < len(native_name) <= MAX_NAME:
            raise InvalidArgument(f"native_name must have 1 to {MAX_NAME} characters")
        talk, origin = self._client.talk(call), f"adopted:{native_name}"
        present = self._find_any(talk, spec.id)
        if present is not None:
            return self._expect_same(present, spec.size, origin).to_spi()
        native = self._named(talk, native_name)
        if native is None:
            raise self._why_missing(talk, native_name)
        if native.is_of(self.options.owner):
            raise InUse(f"{native_name} is our volume {native.labels.get(ID)}")
        if native.size != spec.size:
            raise Conflict(f"{native_name} has {native.size} bytes, not {spec.size}")
        labels = {**native.labels, **self._labels(spec.id, spec.name, origin, READY)}
        body = {"name": self._name(spec.id), "metadata": labels}
        return ArrayVolume.of(talk.patch(path_of("volumes", native.id), body)).to_spi()

    def release_volume(self, volume: VolumeId, call: Call) -> str:
        """See `Adopts.release_volume`. The volume keeps its name on the array and loses our labels."""
        refuse_seed(volume)
        talk = self._client.talk(call)
        found = self._named(talk, self._name(volume))
        if found is None:
            raise NotFound(f"volume {volume} does not exist")
        if found.is_of(self.options.owner):
            if found.snapshots:
                raise HasDependents(f"volume {volume} has snapshots")
            if found.grants:
                raise InUse(f"volume {volume} is granted to a host")
            kept = {key: value for key, value in found.labels.items() if key not in _OURS}
            talk.patch(path_of("volumes", found.id), {"metadata": kept})
        return found.name

    def _why_missing(self, talk: Conversation, native_name: str) -> InUse | NotFound:
        """Tell apart what we adopted before and what never was; looks at all of our volumes."""
        prefix = f"{self.options.owner}.{Kind.VOLUME}."
        for shown in talk.items("/volumes", name_prefix=prefix, pool=self.options.pool):
            volume = ArrayVolume.of(shown)
            if volume.is_of(self.options.owner) and volume.origin == f"adopted:{native_name}":
                return InUse(f"{native_name} is our volume {volume.labels.get(ID)}")
        return NotFound(f"there is no volume {native_name} in the pool")
