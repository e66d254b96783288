"""Was the overlay of a cut merged? Asked by whoever finds the guest on its volume, and the overlay beside it.

    mark: this run ── merge ── the guest goes over to the volume ── overlay removed ── mark removed
                         └ kill -9 ──────────┘ and now?

the VM's run is the marked one        merged: within a run only the merge brings it from overlay to volume
another run, or nobody knows          it may have been defined anew, on the volume alone: not proven
VM off, and both show the same bytes  nothing is lost with the overlay, whatever has happened

Whoever defines VMs anew for each start, as CloudStack does, may start one on the volume itself: then what it
wrote before is in the overlay alone. So a mark alone proves nothing: it needs the run that it was made for,
which is a note at the hypervisor that ends with the run (`Overlays.note_run`).
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...transfer_objects.ids import new_id
from ..dataplane import BlockSource, compare, open_source
from ..dataplane.durable import sync
from ..dataplane.os_errors import os_errors
from ..dataplane.qcow2_chain import open_chain_source
from ..spi import Call, FileLocation, Overlays, StorageError, VmState
from ..steps import step
from ..vm_snapshots.chain import remove_file
from ..vm_snapshots.machine import Machine

_log = logging.getLogger("bollard.service")


@dataclass(frozen=True, slots=True)
class MergeMark:
    """A file beside an overlay: a merge of it was begun, and in which run of the VM."""

    machine: Machine
    base: FileLocation
    overlay: FileLocation

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.overlay.path.with_name(f"{self.overlay.path.name}.merging")

    def set(self, call: Call) -> None:
        """Note the run at the hypervisor, then here; only then the merge may begin."""
        note = self._noted(new_id("merge"), call)
        with os_errors(f"cannot note the merge of {self.overlay.path}"):
            self.path.touch(mode=0o600)
            self.path.write_text(note)
            sync(self.path)
            sync(self.path.parent)

    def _noted(self, note: str, call: Call) -> str:
        """Return the note, "" if the hypervisor does not keep it: then only the bytes can tell."""
        hypervisor, driver = self.machine.hypervisor, self.machine.hypervisor.require(Overlays)
        kept = hypervisor.run("overlay.note", lambda c: driver.note_run(self.machine.vm, note, c), step(call))
        return note if kept else ""

    def proves(self, call: Call) -> bool:
        """Tell whether all that the overlay holds is known to be in the volume, which the VM has by now."""
        if not self.path.exists():
            return False
        hypervisor, driver = self.machine.hypervisor, self.machine.hypervisor.require(Overlays)
        with os_errors(f"cannot read {self.path}"):
            marked = self.path.read_text()
        now = hypervisor.run("overlay.noted", lambda c: driver.run_note(self.machine.vm, c), step(call))
        if marked and marked == now:
            return True
        return hypervisor.vm_state(self.machine.vm, step(call)) is VmState.STOPPED and self._shows_the_same()

    def _shows_the_same(self) -> bool:
        try:
            with self._upper() as upper, open_source(self.base) as lower:
                return compare(upper, lower) is None
        except StorageError as error:
            _log.warning("%s cannot be compared with its volume: %s", self.overlay.path, error)
            return False

    def _upper(self) -> BlockSource:
        if self.overlay.format == "raw":  # a copy of what is below, of hypervisors with overlays of their own
            return open_source(self.overlay)
        return open_chain_source([self.overlay.path, self.base.path])

    def clear(self, call: Call) -> None:
        """Remove it, once the overlay is gone; the note, which does no harm, as far as that is possible."""
        if self.path.exists():
            with suppress(StorageError):
                self._noted("", call)
        remove_file(self.path)
