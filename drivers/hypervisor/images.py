"""Overlays of simulated VMs: raw copies of the image below, which no guest changes any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...core.spi import (
    Call,
    Conflict,
    FileLocation,
    InvalidArgument,
    Outcome,
    Overlays,
    Unavailable,
    Unsupported,
)
from ...transfer_objects.ids import VmId
from .answers import member
from .client import path_of
from .machines import SimulatedMachines


class SimulatedImages(SimulatedMachines, Overlays):
    """Adds, switches and merges images."""

    def add_overlays(
        self, vm: VmId, overlays: Mapping[str, FileLocation], call: Call, *, quiesce: bool = False
    ) -> None:
        """See `Overlays.add_overlays`."""
        body = {"overlays": self._by_disk(vm, overlays, call), "quiesce": quiesce}
        try:
            self._client.post(f"{path_of('vms', vm)}/overlays", call, body)
        except Unsupported as error:
            if not quiesce:
                raise
            raise Unavailable(error.message, outcome=Outcome.NOT_APPLIED) from error

    def switch_images(
        self,
        vm: VmId,
        overlays: Mapping[str, FileLocation],
        bases: Mapping[str, FileLocation],
        call: Call,
    ) -> None:
        """See `Overlays.switch_images`."""
        if set(overlays) != set(bases):
            raise InvalidArgument("overlays and bases name other devices")
        below = {device: bases[device] for device in overlays}
        body = {
            "overlays": self._by_disk(vm, overlays, call),
            "bases": self._by_disk(vm, below, call),
        }
        self._client.post(f"{path_of('vms', vm)}/images", call, body)

    def merge_image(
        self,
        vm: VmId,
        device: str,
        top: FileLocation,
        base: FileLocation,
        call: Call,
        *,
        dependents: Sequence[FileLocation] = (),
    ) -> None:
        """See `Overlays.merge_image`."""
        path = f"{path_of('vms', vm, 'disks', self._disk_name(vm, device, call))}/merge"
        others = [str(one.path) for one in dependents]
        body = {"top": str(top.path), "base": str(base.path), "dependents": others}
        self._client.post(path, call, body)

    def note_run(self, vm: VmId, note: str, call: Call) -> bool:
        """See `Overlays.note_run`."""
        try:
            self._client.put(path_of("vms", vm, "note"), call, {"text": note})
        except Conflict:  # it does not run
            return False
        return True

    def run_note(self, vm: VmId, call: Call) -> str:
        """See `Overlays.run_note`."""
        return member(self._client.get(path_of("vms", vm), call), "note", str)

    def _by_disk(self, vm: VmId, images: Mapping[str, FileLocation], call: Call) -> dict[str, str]:
        if any(image.format != "raw" for image in images.values()):
            raise Unsupported("images of the simulated hypervisor are raw")
        return {self._disk_name(vm, device, call): str(image.path) for device, image in images.items()}
