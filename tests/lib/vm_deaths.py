"""A management server that dies at its n-th step: before or after any driver call, record or removed file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from bollard.core.pool import Pool
from bollard.core.vm_snapshots.records import Records
from bollard.drivers.hypervisor.driver import SimulatedHypervisorDriver
from vm_cloud import SimulatedCloud

_HYPERVISOR = (
    "create_vm_snapshot",
    "revert_vm_snapshot",
    "delete_vm_snapshot",
    "vm_snapshot_metadata",
    "freeze",
    "thaw",
    "guest_state",
    "add_overlays",
    "switch_images",
    "merge_image",
    "vm_disks",
    "start_vm",
    "stop_vm",
)
_POOL = ("take_vm_snapshot", "revert_vm_snapshot", "delete_vm_snapshot", "list_grants")
_RECORDS = ("allocate", "step", "created", "reverted", "expunged", "moved")


class Death(BaseException):
    """Nothing of the process runs any more: not even what stands in a finally."""


class Mortal:
    """Counts steps, and dies at one of them; dead, it can do nothing at all."""

    def __init__(self, at: int) -> None:
        self._left = at
        self.dead = False

    def border(self) -> None:
        """Between two steps."""
        self._left -= 1
        self.dead = self.dead or self._left == 0
        if self.dead:
            raise Death

    def step(self, act: Callable[..., Any]) -> Callable[..., Any]:
        """An act with a border on each side."""

        def both(*args: Any, **kwargs: Any) -> Any:
            self.border()
            result = act(*args, **kwargs)
            self.border()
            return result

        return both


class Server(Protocol):
    """A management server, as far as it takes steps; it removes image files with `remove`."""

    driver: SimulatedHypervisorDriver
    pools: dict[str, Pool]
    remove: Callable[[Path], None]


def mortals(mortal: Mortal, server: Server, patch: Any) -> None:
    """Put a border before and after each step of a management server."""
    for name in _HYPERVISOR:
        patch.setattr(server.driver, name, mortal.step(getattr(server.driver, name)))
    for pool in server.pools.values():
        for name in _POOL:
            if hasattr(pool.driver, name):
                patch.setattr(pool.driver, name, mortal.step(getattr(pool.driver, name)))
    for name in _RECORDS:
        patch.setattr(Records, name, mortal.step(getattr(Records, name)))
    patch.setattr(server, "remove", mortal.step(server.remove))


@contextmanager
def dying(cloud: SimulatedCloud, monkeypatch: Any, at: int) -> Iterator[Mortal]:
    """Let the cloud's management server die at its n-th border; a new one is there afterwards."""
    mortal = Mortal(at)
    with monkeypatch.context() as patch:
        mortals(mortal, cloud, patch)
        try:
            yield mortal
        except Death:
            assert mortal.dead
    if mortal.dead:
        cloud.open_manager()
