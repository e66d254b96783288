"""Checkpoints of the VMs' disks: what the guest has written since each of them, in blocks of 4 KiB.

    registered   in the records           forgotten when the disk leaves the VM; can be told again
    bitmap       in memory while the VM   lost with the process, as those of a QEMU that is killed
                 runs, else in the records

Either can be there without the other. A checkpoint counts when it has both.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .defects import HypervisorDefects
from .records import Body, Records

GRANULE = 4096


@dataclass(slots=True)
class _Disk:
    """What is known of a disk.

    Attributes:
        bitmaps: numbers of dirty blocks by the checkpoint's name.
        image: what its image was like when the last guest let go of it; "" if nobody looked.
    """

    bitmaps: dict[str, set[int]] = field(default_factory=dict)
    image: str = ""


class Checkpoints:
    """Checkpoints by VM, disk and name. Safe to use from any thread: guests mark what they write.

    Args:
        records: the durable state.
        defects: what goes wrong.
    """

    def __init__(self, records: Records, defects: HypervisorDefects) -> None:
        self._records = records
        self._defects = defects
        self._lock = threading.RLock()
        self._live: dict[str, dict[str, _Disk]] = {}
        self._missed: dict[tuple[str, str, str], int] = {}
        self._ends: dict[tuple[str, str], int] = {}

    # what happens to a VM

    def load(self, vm: str) -> None:
        """Its guest starts: from now on its process alone knows what is dirty."""
        with self._lock:
            self._live[vm] = self._stored(vm)
            if self._live[vm]:  # each change of the records waits for the disk
                self._records.delete("bitmaps", vm)

    def save(self, vm: str) -> None:
        """Its guest has ended, in order: what is dirty is kept."""
        with self._lock:
            disks = self._live.pop(vm, None)
            if disks is None:
                return
            if self._defects.checkpoints_cleared_at_stop:
                disks = {name: _Disk({key: set() for key in one.bitmaps}) for name, one in disks.items()}
            self._store(vm, disks)

    def mark(self, vm: str, disk: str, offset: int, length: int) -> None:
        """The guest is about to write there."""
        with self._lock:
            end = min(-(-(offset + length) // GRANULE), self._ends.get((vm, disk), 2**63))
            blocks = set(range(offset // GRANULE, end))
            for name, dirty in self._live.get(vm, {}).get(disk, _Disk()).bitmaps.items():
                dirty |= blocks
                if self._defects.backup_misses_block and blocks:
                    dirty.discard(self._missed.setdefault((vm, disk, name), min(blocks)))

    def leave(self, vm: str, disk: str, image: str) -> None:
        """The disk leaves the VM: its bitmaps go along with its image."""
        for one in self._registered(vm):
            if one["disk"] == disk:
                self._records.delete("checkpoint", vm, one["name"])
        self.rest(vm, disk, image)

    def rest(self, vm: str, disk: str, image: str) -> None:
        """No guest has the disk now; `image` tells what its image is like."""
        with self._disks(vm) as disks:
            if disk in disks:
                disks[disk].image = image

    def look(self, vm: str, disk: str, image: str) -> None:
        """Drops the bitmaps of a disk that no guest had, if somebody has changed its image meanwhile."""
        with self._disks(vm) as disks:
            known = disks.get(disk, _Disk()).image
            if (not image or known != image) and not self._defects.checkpoint_change_unnoticed:
                disks.pop(disk, None)

    def lose(self, vm: str) -> None:
        """The VM's process died: its bitmaps are gone."""
        with self._disks(vm) as disks:
            disks.clear()

    def end_at(self, vm: str, disk: str, size: int) -> None:
        """A defect: what lies behind these bytes is not marked."""
        self._ends[vm, disk] = size // GRANULE

    def forget(self, vm: str) -> None:
        """Nothing that is known of the VM's disks is true any more."""
        self.lose(vm)
        for one in self._registered(vm):
            self._records.delete("checkpoint", vm, one["name"])

    # what is asked for

    def whole(self, vm: str) -> list[Body]:
        """Those that count, oldest first."""
        return [one for one in self._registered(vm) if self.has_bitmap(vm, one["disk"], one["name"])]

    def has_bitmap(self, vm: str, disk: str, name: str) -> bool:
        """Whether there is a bitmap, registered or not."""
        with self._disks(vm) as disks:
            return name in disks.get(disk, _Disk()).bitmaps

    def known(self, vm: str, name: str) -> bool:
        """Whether the name is taken, by a whole one or not."""
        with self._disks(vm) as disks:
            taken = any(name in one.bitmaps for one in disks.values())
        return taken or self._records.get("checkpoint", vm, name) is not None

    def dirty(self, vm: str, disk: str, name: str) -> list[int]:
        """Numbers of the blocks that were written since then; none where nothing is known."""
        with self._disks(vm) as disks:
            return sorted(disks.get(disk, _Disk()).bitmaps.get(name, ()))

    def begin(self, vm: str, disk: str, name: str) -> None:
        """From now on the guest's writes are marked in it; no guest may write meanwhile."""
        with self._disks(vm) as disks:
            disks.setdefault(disk, _Disk()).bitmaps[name] = set()
        self.register(vm, disk, name)

    def register(self, vm: str, disk: str, name: str, number: int | None = None) -> None:
        """Makes it known; `number` tells its age, the youngest's by default."""
        if number is None:
            number = max((int(one["number"]) for one in self._registered(vm)), default=0) + 1
        self._records.put({"name": name, "disk": disk, "number": number}, "checkpoint", vm, name)

    def delete(self, vm: str, name: str) -> None:
        """Takes it away with its bitmap, also of a disk that has left; fine if either is not there."""
        with self._disks(vm) as disks:
            for disk in disks.values():
                if disk.bitmaps.pop(name, None) is not None and self._defects.checkpoint_delete_takes_others:
                    disk.bitmaps.clear()
        self._records.delete("checkpoint", vm, name)

    def _registered(self, vm: str) -> list[Body]:
        found = self._records.all("checkpoint", vm)
        return sorted(found, key=lambda one: int(one["number"]), reverse=self._defects.checkpoints_reversed)

    @contextmanager
    def _disks(self, vm: str) -> Iterator[dict[str, _Disk]]:
        """What is known of a VM's disks; changes inside are kept."""
        with self._lock:
            live = self._live.get(vm)
            if live is not None:
                yield live
                return
            stored = self._stored(vm)
            before = _plain(stored)
            yield stored
            if _plain(stored) != before:
                self._store(vm, stored)

    def _stored(self, vm: str) -> dict[str, _Disk]:
        body: Mapping[str, Any] = self._records.get("bitmaps", vm) or {}
        return {
            name: _Disk({one: set(dirty) for one, dirty in disk["bitmaps"].items()}, disk["image"])
            for name, disk in body.items()
        }

    def _store(self, vm: str, disks: Mapping[str, _Disk]) -> None:
        plain = _plain(disks)
        if plain:
            self._records.put(plain, "bitmaps", vm)
        elif self._records.get("bitmaps", vm) is not None:
            self._records.delete("bitmaps", vm)


def text_of(checkpoint: Body) -> str:
    """The hypervisor's own form: what restoring needs."""
    return json.dumps({"number": checkpoint["number"]})


def number_in(text: str) -> int | None:
    """The age in that form; None in what is none."""
    try:
        number = json.loads(text)["number"]
    except (ValueError, KeyError, TypeError):
        return None
    return number if isinstance(number, int) else None


def _plain(disks: Mapping[str, _Disk]) -> dict[str, Any]:
    return {
        name: {
            "bitmaps": {one: sorted(dirty) for one, dirty in disk.bitmaps.items()},
            "image": disk.image,
        }
        for name, disk in disks.items()
        if disk.bitmaps
    }
