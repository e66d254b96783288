"""Templates: sealed volumes of the array that others are cloned from."""

from __future__ import annotations

from ....core.spi import Call, Conflict, InUse, NotFound, TemplateCache, TemplateSpec, Volume, VolumeSpec
from ....transfer_objects.ids import TemplateId
from .client import Conversation, path_of
from .names import seed_id
from .objects import READY, SEALED, STATE, ArrayVolume
from .volumes import ArrayVolumes, delete_if_there

_ORIGIN = "seed"


class ArrayTemplates(ArrayVolumes, TemplateCache):
    """The seed of a template is a volume that `list_volumes` does not show."""

    def prepare_template(self, template: TemplateSpec, call: Call) -> Volume:
        """See `TemplateCache.prepare_template`."""
        talk, seed, size = self._client.talk(call), seed_id(template.id), self._rounded(template.size)
        found = self._find(talk, seed)
        if found is None:
            labels = self._labels(seed, template.name, _ORIGIN, READY)
            body = {"name": self._name(seed), "pool": self.options.pool, "size": size, "metadata": labels}
            try:
                found = ArrayVolume.of(talk.post("/volumes", body))
            except Conflict as error:
                raise self._why_taken(talk, seed) from error
        return self._expect_same(found, size, _ORIGIN).to_spi()

    def seal_template(self, template: TemplateId, call: Call) -> None:
        """See `TemplateCache.seal_template`. A seed that a host still has is `InUse`."""
        talk = self._client.talk(call)
        found = self._seed(talk, template)
        if found.grants:
            raise InUse(f"the seed of template {template} is granted to a host")
        if found.state != SEALED:
            talk.patch(path_of("volumes", found.id), {"metadata": {**found.labels, STATE: SEALED}})

    def create_volume_from_template(self, template: TemplateId, spec: VolumeSpec, call: Call) -> Volume:
        """See `TemplateCache.create_volume_from_template`."""

        def locate(talk: Conversation) -> str:
            found = self._seed(talk, template)
            if found.state != SEALED:
                raise NotFound(f"template {template} is not sealed")
            return path_of("volumes", found.id)

        return self._new_copy(spec, f"template:{template}", locate, call)

    def evict_template(self, template: TemplateId, call: Call) -> None:
        """See `TemplateCache.evict_template`; clones of this array need no source."""
        talk = self._client.talk(call)
        found = self._find_any(talk, seed_id(template))
        if found is not None:
            delete_if_there(talk, "volumes", found.id)

    def _seed(self, talk: Conversation, template: TemplateId) -> ArrayVolume:
        found = self._find(talk, seed_id(template))
        if found is None:
            raise NotFound(f"template {template} is not in the pool")
        return found
