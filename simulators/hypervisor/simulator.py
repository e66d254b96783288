"""The hypervisor simulator as an object: in threads of this process, or as the process itself."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..serving import HttpSimulator
from .app import HypervisorApp
from .backups import Backups
from .checkpoints import Checkpoints
from .defects import HypervisorDefects
from .exports import DESIGNS, Exports
from .guests import Guests
from .hosts import Hosts
from .machines import Machines
from .overlays import Overlays
from .personality import PERSONALITIES
from .records import Records
from .snapshots import VmSnapshots

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class HypervisorSimulator(HttpSimulator):
    """A cluster of hosts of one family with VMs that write real blocks; durable in a directory.

        with HypervisorSimulator(state, personality="KVM") as cluster:
            httpx.put(f"{cluster.url}/hosts/h1", json={"initiator": "iqn..."})

    Args:
        state: directory of the durable state.
        personality: KVM, VMware, XenServer or Hyperv.
        export: when Hyper-V exports VMs with snapshots, "stop" or "snapshot"; the others never do.
        port: TCP port; 0 takes a free one.
        clock: seconds since the epoch; frozen guests thaw by it.

    Raises:
        ValueError: for another personality or export.
    """

    def __init__(
        self,
        state: str | os.PathLike[str],
        *,
        personality: str = "KVM",
        export: str = "stop",
        port: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(state, port)
        if personality not in PERSONALITIES:
            raise ValueError(f"a personality is one of {', '.join(PERSONALITIES)}, not {personality!r}")
        if export not in DESIGNS:
            raise ValueError(f"an export is one of {', '.join(DESIGNS)}, not {export!r}")
        self.defects = HypervisorDefects()
        self._export = export if personality == "Hyperv" else "none"
        self._rules = PERSONALITIES[personality]
        self._clock = clock
        self._records: Records | None = None
        self._guests: Guests | None = None
        self._backups: Backups | None = None
        self._stopping = threading.Event()

    def application(self) -> WSGIApplication:
        """Opens the records, finishes what a killed process left, lets running VMs go on."""
        self._stopping.clear()
        self._records = Records(self.state / "cluster.sqlite")
        hosts = Hosts(self._records, self._rules, self.defects, self.state / "decoys")
        checkpoints = Checkpoints(self._records, self.defects)
        guests = Guests(self._records, self._rules, self.defects, self._clock, checkpoints)
        machines = Machines(self._records, hosts, guests, checkpoints, self._rules, self.defects)
        store = self.state / "snapshots"
        snapshots = VmSnapshots(
            self._records, machines, guests, checkpoints, self._rules, self.defects, store, self._stopping
        )
        snapshots.recover()
        overlays = Overlays(self._records, machines, guests, checkpoints, self.defects)
        overlays.recover()
        exports = Exports(self._records, machines, store, self.state / "exports", self._export)
        exports.recover()
        backups = self._open_backups(machines, guests, checkpoints)
        self._guests, self._backups = guests, backups
        machines.resume()
        return HypervisorApp(
            self._rules, hosts, machines, guests, snapshots, overlays, exports, backups, self.defects
        ).flask()

    def _open_backups(self, machines: Machines, guests: Guests, checkpoints: Checkpoints) -> Backups:
        assert self._records is not None  # noqa: S101 - opened just before
        backups = Backups(
            self._records,
            machines,
            guests,
            checkpoints,
            self._rules,
            self.defects,
            self.state / "backups",
        )
        backups.recover()
        return backups

    def stop(self) -> None:
        """Ends hanging requests too."""
        self._stopping.set()
        super().stop()

    def close_state(self) -> None:
        """Ends the servers and guests of this process and closes the records."""
        if self._backups is not None:
            self._backups.close()
            self._backups = None
        if self._guests is not None:
            self._guests.close()
            self._guests = None
        if self._records is not None:
            self._records.close()
            self._records = None

    def ready(self) -> dict[str, object]:
        """The family."""
        return {"personality": self._rules.name}
