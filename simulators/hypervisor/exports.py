"""Hyper-V's two ways to keep a VM's snapshots over a stop: what each exports, when, and what that costs.

    design      export happens               a stop is             a VM snapshot is
    stop        when a VM with snapshots     slow                  fast
                stops
    snapshot    after each VM snapshot       fast                  slow, and slower the more there are

A VM that is being exported is busy: it cannot start. An export that a killed process left is made again
when the simulator starts, before anything else happens to the VM.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from .copying import copy_sparse
from .machines import Machines
from .media import FileAddress, parse_address
from .records import Body, Records

DESIGNS = ("none", "stop", "snapshot")


class Exports:
    """Exports of VMs with their snapshots.

    Args:
        records: the durable state.
        machines: the VMs.
        copies: directory of the snapshots: <vm>/<snapshot>/<disk>.
        store: directory of the exports: <vm>/...
        design: "stop", "snapshot", or "none" for families that need no export.
    """

    def __init__(self, records: Records, machines: Machines, copies: Path, store: Path, design: str) -> None:
        self._records = records
        self._machines = machines
        self._copies = copies
        self._store = store
        self._design = design

    def recover(self) -> None:
        """Finishes the exports of a killed process."""
        for export in self._records.all("export"):
            if export["state"] == "running":
                self._export(export["vm"], export["when"])

    def after(self, what: str, vm: str) -> None:
        """Exports, if the design does so after a "stop" or a "snapshot"."""
        if what == self._design and self._records.all("snapshot", vm):
            with self._machines.task(vm):
                self._export(vm, what)

    def costs(self, vm: str) -> list[Body]:
        """What each export of the VM read and wrote: {"when", "bytes", "seconds"}, oldest first."""
        self._machines.get(vm)
        export = self._records.get("export", vm)
        return [] if export is None else list(export["costs"])

    def _export(self, vm: str, when: str) -> None:
        old = self._records.get("export", vm)
        costs: list[dict[str, Any]] = [] if old is None else old["costs"]
        self._records.put({"vm": vm, "state": "running", "when": when, "costs": costs}, "export", vm)
        begun, target = time.monotonic(), self._store / vm
        shutil.rmtree(target, ignore_errors=True)
        copied = sum(self._copy(source, target / name) for name, source in self._sources(vm))
        seconds = round(time.monotonic() - begun, 6)
        costs = [*costs, {"when": when, "bytes": copied, "seconds": seconds}]
        self._records.put({"vm": vm, "state": "done", "when": when, "costs": costs}, "export", vm)

    def _sources(self, vm: str) -> list[tuple[str, Path]]:
        live = []
        for name, disk in self._machines.get(vm)["disks"].items():
            address = parse_address(disk["address"])
            if isinstance(address, FileAddress):
                live.append((f"live/{name}", Path(address.path)))
        return live + [
            (f"{snapshot['id']}/{name}", self._copies / vm / snapshot["id"] / name)
            for snapshot in self._records.all("snapshot", vm)
            for name in snapshot["disks"]
        ]

    def _copy(self, source: Path, target: Path) -> int:
        target.parent.mkdir(parents=True, exist_ok=True)
        copy_sparse(source, target)
        return target.stat().st_blocks * 512
