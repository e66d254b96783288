"""The array driver with one method wrong each: volumes, clones, templates, adoption."""

# ruff: noqa: D102, ARG002 - the class says what is wrong, and the SPI what the arguments are

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from bollard.core.spi import (
    Call,
    Conflict,
    Host,
    InvalidArgument,
    NbdLocation,
    NotFound,
    Page,
    Qos,
    Snapshot,
    TemplateSpec,
    Traits,
    Volume,
    VolumeSpec,
)
from bollard.drivers.primary.array import ArrayDriver, answers
from bollard.drivers.primary.array.client import Conversation, path_of
from bollard.drivers.primary.array.names import seed_id
from bollard.drivers.primary.array.objects import SEALED, STATE, ArrayVolume
from bollard.drivers.primary.array.options import ArrayOptions
from bollard.transfer_objects.ids import SnapshotId, TemplateId, VolumeId

MIB = 2**20


class ReturnsWhateverExists(ArrayDriver):
    """A second create returns what has the id, of whatever size and origin."""

    def _expect_same(self, found: ArrayVolume, size: int, origin: str) -> ArrayVolume:
        return found


class CloneEmptyOnRetry(ArrayDriver):
    """A retried copy is made anew, of nothing."""

    def _new_copy(
        self, spec: VolumeSpec, origin: str, locate: Callable[[Conversation], str], call: Call
    ) -> Volume:
        found = self._find(self._client.talk(call), spec.id)
        if found is None:
            return super()._new_copy(spec, origin, locate, call)
        self.delete_volume(spec.id, call)
        return self.create_volume(spec, call)


class ClonesShareTheSource(ArrayDriver):
    """A clone reads as zeros behind the first MiB: only that much is copied."""

    def clone_volume(self, source: VolumeId, spec: VolumeSpec, call: Call) -> Volume:
        self._volume(self._client.talk(call), source)
        return self.create_volume(spec, call)


class AsksTheArrayToCloneAgain(ArrayDriver):
    """A copy is asked for each time; "the name exists" is taken for success."""

    def _new_copy(
        self, spec: VolumeSpec, origin: str, locate: Callable[[Conversation], str], call: Call
    ) -> Volume:
        talk = self._client.talk(call)
        if self._find(talk, spec.id) is None:
            return super()._new_copy(spec, origin, locate, call)
        try:
            job = talk.post(f"{locate(talk)}/clone", {"name": self._name(spec.id), "size": spec.size})
            self._await_job(talk, job)
        except Conflict:
            pass
        return self._volume(talk, spec.id).to_spi()


class LetsTheArrayJudgeSizes(ArrayDriver):
    """Shrinking is passed on: the array will know."""

    def resize_volume(self, volume: VolumeId, size: int, call: Call) -> Volume:
        talk = self._client.talk(call)
        found = self._volume(talk, volume)
        if size != found.size:
            talk.patch(path_of("volumes", found.id), {"size": size})
        return self._volume(talk, volume).to_spi()


class ShrinkSaysOk(ArrayDriver):
    """Shrinking is reported as done, and nothing is done."""

    def resize_volume(self, volume: VolumeId, size: int, call: Call) -> Volume:
        found = self._volume(self._client.talk(call), volume).to_spi()
        return found if size < found.size else super().resize_volume(volume, size, call)


class ResizeSameSizeFails(ArrayDriver):
    """Growing to the present size is an error."""

    def resize_volume(self, volume: VolumeId, size: int, call: Call) -> Volume:
        if self._volume(self._client.talk(call), volume).size == size:
            raise InvalidArgument("the volume has that size already")
        return super().resize_volume(volume, size, call)


class SizesAreNotChecked(ArrayDriver):
    """Any size is rounded into the array's limits."""

    def _rounded(self, size: int) -> int:
        traits = self._traits
        inside = min(max(size, traits.min_size), traits.max_size)
        return -(-inside // traits.size_granularity) * traits.size_granularity


class MaximumIsToldTooLarge(ArrayDriver):
    """The traits promise more than the array takes."""

    def traits(self) -> Traits:
        return dataclasses.replace(super().traits(), max_size=2 * super().traits().max_size)


class SectorsAreTold4K(ArrayDriver):
    """The traits tell of whole MiB only, and volumes of any size are made."""

    def traits(self) -> Traits:
        return dataclasses.replace(super().traits(), size_granularity=MIB)


class DeleteMissingRaises(ArrayDriver):
    """Deleting what is not there is an error."""

    def delete_volume(self, volume: VolumeId, call: Call) -> None:
        self._volume(self._client.talk(call), volume)
        super().delete_volume(volume, call)


class DeletesByRememberedId(ArrayDriver):
    """The array's id of a volume is remembered, and deleted without looking first."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        made = super().create_volume(spec, call)
        self.__dict__.setdefault("ids", {})[spec.id] = self._volume(self._client.talk(call), spec.id).id
        return made

    def delete_volume(self, volume: VolumeId, call: Call) -> None:
        known = self.__dict__.get("ids", {}).get(volume)
        if known is None:
            super().delete_volume(volume, call)
            return
        try:
            self._client.talk(call).delete(path_of("volumes", known))
        except NotFound:
            return


class DeleteTakesTheSnapshots(ArrayDriver):
    """Deleting a volume deletes its snapshots, too, though the traits say that it is refused."""

    def delete_volume(self, volume: VolumeId, call: Call) -> None:
        for snapshot in self.list_snapshots(volume, call).items:
            self.delete_snapshot(snapshot.id, call)
        super().delete_volume(volume, call)


class DeleteRevokesFirst(ArrayDriver):
    """Deleting takes a volume away from the host that uses it."""

    def delete_volume(self, volume: VolumeId, call: Call) -> None:
        if self._find(self._client.talk(call), volume) is not None:
            for grant in self.list_grants(volume, call):
                self.revoke(volume, grant.host, call)
        super().delete_volume(volume, call)


class MissingIsMade(ArrayDriver):
    """A volume that is asked for and not there is made."""

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        try:
            return super().get_volume(volume, call)
        except NotFound:
            return Volume(id=volume, size=MIB, name="")


class ListsByNumber(ArrayDriver):
    """The cursor of a list is a number of volumes, and a deletion meanwhile shifts them."""

    def list_volumes(self, call: Call, *, after: str | None = None, limit: int = 1000) -> Page[Volume]:
        everything = list(super().list_volumes(call).items)
        start = int(after or 0)
        items = everything[start : start + limit]
        return Page(items=items, after=str(start + limit) if start + limit < len(everything) else None)


class ListsWithoutLimit(ArrayDriver):
    """A page has all volumes, whatever was asked for."""

    def list_volumes(self, call: Call, *, after: str | None = None, limit: int = 1000) -> Page[Volume]:
        return super().list_volumes(call, after=after, limit=1000)


class NamesAreAscii(ArrayDriver):
    """What is not ASCII in a name becomes a question mark."""

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        found = super().get_volume(volume, call)
        return dataclasses.replace(found, name=found.name.encode("ascii", "replace").decode())


class IdentityIsThePool(ArrayDriver):
    """All volumes have one identity."""

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        return dataclasses.replace(super().get_volume(volume, call), identity=self.options.pool)

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        return dataclasses.replace(super().create_volume(spec, call), identity=self.options.pool)


class QosIsKeptToItself(ArrayDriver):
    """Limits are returned as asked for, and never sent."""

    def set_qos(self, volume: VolumeId, qos: Qos | None, call: Call) -> Volume:
        return dataclasses.replace(self.get_volume(volume, call), qos=qos)


class ReleaseDeletes(ArrayDriver):
    """Giving a volume back deletes it."""

    def release_volume(self, volume: VolumeId, call: Call) -> str:
        name = self._volume(self._client.talk(call), volume).name
        self.delete_volume(volume, call)
        return name


class ReleaseOfGranted(ArrayDriver):
    """A granted volume is given away, and its grant with it."""

    def release_volume(self, volume: VolumeId, call: Call) -> str:
        for grant in self.list_grants(volume, call):
            self.revoke(volume, grant.host, call)
        return super().release_volume(volume, call)


class AdoptMakesEmpty(ArrayDriver):
    """What cannot be found is made, empty; what can is copied by nobody."""

    def adopt_volume(self, native_name: str, spec: VolumeSpec, call: Call) -> Volume:
        return self.create_volume(spec, call)


class AdoptTakesAnySize(ArrayDriver):
    """The size of an adopted volume is whatever the object has."""

    def adopt_volume(self, native_name: str, spec: VolumeSpec, call: Call) -> Volume:
        native = self._named(self._client.talk(call), native_name)
        size = native.size if native is not None else spec.size
        return super().adopt_volume(native_name, dataclasses.replace(spec, size=size), call)


class AdoptTwice(ArrayDriver):
    """An object that is ours already is renamed to the new id."""

    def adopt_volume(self, native_name: str, spec: VolumeSpec, call: Call) -> Volume:
        talk, prefix = self._client.talk(call), f"{self.options.owner}.v."
        for shown in talk.items("/volumes", name_prefix=prefix, pool=self.options.pool):
            if shown["metadata"].get("bollard-origin") == f"adopted:{native_name}":
                labels = self._labels(spec.id, spec.name, f"adopted:{native_name}", "ready")
                talk.patch(path_of("volumes", shown["id"]), {"name": self._name(spec.id), "metadata": labels})
                return self.get_volume(spec.id, call)
        return super().adopt_volume(native_name, spec, call)


class TemplatesNeedNoSeal(ArrayDriver):
    """Volumes are made of a template that is still being written."""

    def create_volume_from_template(self, template: TemplateId, spec: VolumeSpec, call: Call) -> Volume:
        def locate(talk: Conversation) -> str:
            return path_of("volumes", self._seed(talk, template).id)

        return self._new_copy(spec, f"template:{template}", locate, call)


class SealDoesNothing(ArrayDriver):
    """A sealed template can still be written to."""

    def grant(self, volume: VolumeId, host: Host, call: Call, *, read_only: bool = False) -> NbdLocation:
        talk = self._client.talk(call)
        found = self._volume(talk, volume)
        if found.state != SEALED:
            return super().grant(volume, host, call, read_only=read_only)
        path = path_of("volumes", found.id)
        talk.patch(path, {"metadata": {**found.labels, STATE: "ready"}})
        try:
            return super().grant(volume, host, call, read_only=read_only)
        finally:
            talk.patch(path, {"metadata": dict(found.labels)})


class TemplateOfAnySize(ArrayDriver):
    """A template that is on the pool is taken for the one that is asked for."""

    def prepare_template(self, template: TemplateSpec, call: Call) -> Volume:
        found = self._find(self._client.talk(call), seed_id(template.id))
        return found.to_spi() if found is not None else super().prepare_template(template, call)


class EvictKeepsTheSeed(ArrayDriver):
    """Evicting a template does nothing."""

    def evict_template(self, template: TemplateId, call: Call) -> None:
        return


class TemplateVolumesAreEmpty(ArrayDriver):
    """A volume of a template is a new one."""

    def create_volume_from_template(self, template: TemplateId, spec: VolumeSpec, call: Call) -> Volume:
        self._seed(self._client.talk(call), template)
        return self.create_volume(spec, call)


class CopiesCutOff(ArrayDriver):
    """A copy that is asked to be smaller is made in the size of its source, and told as asked for."""

    def _new_copy(
        self, spec: VolumeSpec, origin: str, locate: Callable[[Conversation], str], call: Call
    ) -> Volume:
        try:
            return super()._new_copy(spec, origin, locate, call)
        except InvalidArgument:
            return self.create_volume(spec, call)


class SnapshotOfMissing(ArrayDriver):
    """A snapshot of nothing succeeds."""

    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        try:
            return super().create_snapshot(volume, snapshot, call)
        except NotFound:
            made = self.create_volume(VolumeSpec(id=volume, size=MIB), call)
            return super().create_snapshot(made.id, snapshot, call)


class PassesOnWhatItIsTold(ArrayDriver):
    """The array's refusals are repeated word for word."""

    def __init__(self, options: ArrayOptions) -> None:
        """Open nothing."""
        answers._without = lambda secrets, text: text  # noqa: ARG005 - the name is part of its type
        super().__init__(options)
