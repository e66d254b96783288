"""Templates: sealed volumes that others are reflinked from."""

from __future__ import annotations

from ....core.spi import Call, TemplateCache, TemplateSpec, Volume, VolumeSpec
from ....transfer_objects.ids import TemplateId
from .names import seed_id
from .volumes import IscsiVolumes


class IscsiTemplates(IscsiVolumes, TemplateCache):
    """The seed of a template is a volume that `list_volumes` does not show."""

    def prepare_template(self, template: TemplateSpec, call: Call) -> Volume:
        """See `TemplateCache.prepare_template`."""
        spec = VolumeSpec(id=seed_id(template.id), size=template.size, name=template.name)
        return self._created(spec, "seed", None, call, kind="template")

    def seal_template(self, template: TemplateId, call: Call) -> None:
        """See `TemplateCache.seal_template`. A seed that a host still has is `InUse`."""
        self._array.ask("seal", call, volume=seed_id(template))

    def create_volume_from_template(self, template: TemplateId, spec: VolumeSpec, call: Call) -> Volume:
        """See `TemplateCache.create_volume_from_template`."""
        source = f"template:{seed_id(template)}"
        return self._created(spec, f"template:{template}", source, call)

    def evict_template(self, template: TemplateId, call: Call) -> None:
        """See `TemplateCache.evict_template`; copies need no source."""
        self._array.ask("delete", call, volume=seed_id(template))
