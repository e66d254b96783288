"""Volumes: create, copy, resize, limit, delete.

A copy is a job of the array. Until it is done the new volume carries the label FILLING and does not
exist for anybody; a retry that finds such remains deletes them and copies anew:

    clone ──> [FILLING, job runs] ──> job done ──> label READY          <- the commit
                     │
                     └── failed, reply lost, we were killed ──> the retry deletes and begins again
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from ....core.spi import (
    Busy,
    Call,
    ClonesVolume,
    Conflict,
    HasQos,
    Internal,
    InvalidArgument,
    NotFound,
    Outcome,
    Page,
    Qos,
    Resizes,
    StorageError,
    Volume,
    VolumeSpec,
)
from ....transfer_objects.ids import VolumeId
from .answers import Json, member
from .client import Conversation, path_of
from .names import Kind
from .objects import FILLING, READY, ArrayVolume, qos_to_array
from .pool import ArrayPool, refuse_seed

_ATTEMPTS = 2  # of a copy whose job fails
_PAUSE = 0.1  # seconds between looks at a volume that a job still works on


class ArrayVolumes(ArrayPool, ClonesVolume, Resizes, HasQos):
    """A volume of ours is a volume of the array, found by its name."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        """See `PrimaryDriver.create_volume`."""

        def make(talk: Conversation, body: Json) -> Json:
            labels = self._labels(spec.id, spec.name, "empty", READY)
            limits = {"pool": self.options.pool, "qos": qos_to_array(spec.qos)}
            return talk.post("/volumes", {**body, **limits, "metadata": labels})

        return self._new_volume(spec, "empty", make, call)

    def clone_volume(self, source: VolumeId, spec: VolumeSpec, call: Call) -> Volume:
        """See `ClonesVolume.clone_volume`."""
        if source == spec.id:
            raise InvalidArgument(f"volume {source} cannot be cloned onto itself")
        refuse_seed(source)
        return self._new_copy(
            spec, f"volume:{source}", lambda talk: path_of("volumes", self._volume(talk, source).id), call
        )

    def delete_volume(self, volume: VolumeId, call: Call) -> None:
        """See `PrimaryDriver.delete_volume`; the array refuses what is granted or has snapshots."""
        refuse_seed(volume)
        talk = self._client.talk(call)
        found = self._find_any(talk, volume)
        if found is not None:
            delete_if_there(talk, "volumes", found.id)

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        """See `PrimaryDriver.get_volume`; the seed of a template is one too."""
        return self._volume(self._client.talk(call), volume).to_spi()

    def list_volumes(self, call: Call, *, after: str | None = None, limit: int = 1000) -> Page[Volume]:
        """See `PrimaryDriver.list_volumes`; the cursor is the array's."""
        prefix = f"{self.options.owner}.{Kind.VOLUME}."
        shown, following = self._client.talk(call).page(
            "/volumes", name_prefix=prefix, pool=self.options.pool, cursor=after, limit=page_size(limit)
        )
        found = [ArrayVolume.of(one) for one in shown]
        ours = [one.to_spi() for one in found if one.is_of(self.options.owner) and one.state != FILLING]
        return Page(items=ours, after=following)

    def resize_volume(self, volume: VolumeId, size: int, call: Call) -> Volume:
        """See `Resizes.resize_volume`. To shrink is refused here already: no array is trusted with it."""
        refuse_seed(volume)
        wanted, talk = self._rounded(size), self._client.talk(call)
        found = self._volume(talk, volume)
        if wanted < found.size:
            raise InvalidArgument(f"volume {volume} has {found.size} bytes and cannot shrink to {wanted}")
        if wanted > found.size:
            found = ArrayVolume.of(talk.patch(path_of("volumes", found.id), {"size": wanted}))
        return found.to_spi()

    def set_qos(self, volume: VolumeId, qos: Qos | None, call: Call) -> Volume:
        """See `HasQos.set_qos`."""
        refuse_seed(volume)
        talk = self._client.talk(call)
        path = path_of("volumes", self._volume(talk, volume).id)
        return ArrayVolume.of(talk.patch(path, {"qos": qos_to_array(qos)})).to_spi()

    # -- making ---------------------------------------------------------------------------------------

    def _new_volume(
        self, spec: VolumeSpec, origin: str, make: Callable[[Conversation, Json], Json], call: Call
    ) -> Volume:
        """Make a volume unless it is there; remains of an attempt that failed go first.

        Args:
            spec: what is wanted.
            origin: what it is made from.
            make: makes it; is given what all requests for a new volume have in common. Returns what the
                array showed then: a second look might find what others have done to the volume since.
            call: the call.
        """
        refuse_seed(spec.id)
        talk, size = self._client.talk(call), self._rounded(spec.size)
        found = self._find_any(talk, spec.id)
        if found is not None and found.state != FILLING:
            return self._expect_same(found, size, origin).to_spi()
        if found is not None:
            _discard(talk, found)
        try:
            return ArrayVolume.of(make(talk, {"name": self._name(spec.id), "size": size})).to_spi()
        except Conflict as error:
            raise self._why_taken(talk, spec.id) from error

    def _new_copy(
        self, spec: VolumeSpec, origin: str, locate: Callable[[Conversation], str], call: Call
    ) -> Volume:
        """Make a copy of what stands at the path that `locate` returns."""

        def make(talk: Conversation, body: Json) -> Json:
            filling = {**body, "metadata": self._labels(spec.id, spec.name, origin, FILLING)}
            target = path_of("volumes", self._filled(talk, f"{locate(talk)}/clone", filling))
            ready = self._labels(spec.id, spec.name, origin, READY)
            try:
                return talk.patch(target, {"metadata": ready, "qos": qos_to_array(spec.qos)})
            except NotFound as error:  # another caller took it for remains
                raise Busy(f"volume {spec.id} is made by two callers", outcome=Outcome.UNKNOWN) from error

        return self._new_volume(spec, origin, make, call)

    def _filled(self, talk: Conversation, path: str, body: Json) -> str:
        """Copy, and return the array's id of the complete volume; one that failed is removed."""
        for _ in range(_ATTEMPTS):
            job = talk.post(path, body)
            target = member(member(job, "target", dict), "id", str)
            if self._await_job(talk, job):
                return target
            delete_if_there(talk, "volumes", target)
        raise Internal(f"the array failed {_ATTEMPTS} times to copy", outcome=Outcome.NOT_APPLIED)

    def _why_taken(self, talk: Conversation, volume: VolumeId) -> StorageError:
        """Say why the array has a volume of our name although we had not found ours."""
        found = self._named(talk, self._name(volume))
        if found is None or found.is_of(self.options.owner):
            return Busy(f"volume {volume} is being made, or was just deleted, by another caller")
        return Conflict(f"a volume of the name {self._name(volume)} that is not ours is in the pool")


def _discard(talk: Conversation, found: ArrayVolume) -> None:
    """Remove a copy that was never finished, as soon as no job works on it."""
    with contextlib.suppress(NotFound):
        while found.busy:
            talk.wait(_PAUSE)
            found = ArrayVolume.of(talk.get(path_of("volumes", found.id)))
        talk.delete(path_of("volumes", found.id))


def delete_if_there(talk: Conversation, *parts: str) -> None:
    """Delete an object; what is gone already is fine."""
    with contextlib.suppress(NotFound):
        talk.delete(path_of(*parts))


def page_size(limit: int) -> int:
    """Return how many objects to ask for; the array gives at most 1000 at a time."""
    if limit < 1:
        raise InvalidArgument(f"limit must be at least 1, got {limit}")
    return min(limit, 1000)
