"""Backups: one disk at one instant, served over NBD, with what has changed since a checkpoint.

    begin     record ── cut: copy, checkpoint ── serve        end   stop serving ── checkpoint ── record

The guest stops for the instant of the copy. A job dies with the process that serves it, or with the power
of its VM; what it has left is cleared away by the next beginning, or by its end.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from .checkpoints import GRANULE, Checkpoints, number_in, text_of
from .copying import copy_sparse
from .defects import HypervisorDefects
from .errors import Refused, conflict, failed, not_found
from .guests import DEFAULT_FREEZE_S, Guests
from .machines import Machines
from .media import FileAddress, parse_address
from .personality import Personality
from .point_in_time import PointInTime
from .records import Body, Records

_NAME = re.compile(r"[a-z0-9-]{1,64}")
_ROUNDED = 2**20  # what a server that rounds sizes up rounds them to


class Backups:
    """Backups of VMs' file disks, and their checkpoints; one job per VM at a time, as with QEMU.

    Args:
        records: the durable state.
        machines: the VMs.
        guests: what runs in them.
        checkpoints: what they have written.
        rules: of the hypervisor family; only KVM has backups.
        defects: what goes wrong.
        store: directory of the copies.
    """

    def __init__(
        self,
        records: Records,
        machines: Machines,
        guests: Guests,
        checkpoints: Checkpoints,
        rules: Personality,
        defects: HypervisorDefects,
        store: Path,
    ) -> None:
        self._records = records
        self._machines = machines
        self._guests = guests
        self._checkpoints = checkpoints
        self._rules = rules
        self._defects = defects
        self._store = store
        self._served: dict[str, PointInTime] = {}

    def recover(self) -> None:
        """Removes the copies of a killed process."""
        shutil.rmtree(self._store, ignore_errors=True)

    def close(self) -> None:
        """Ends all servers of this process."""
        for vm in list(self._served):
            self.power_lost(vm)

    def power_lost(self, vm: str) -> None:
        """The VM is off: its job has died with it."""
        served = self._served.pop(vm, None)
        if served is not None:
            served.end()

    def begin(self, vm: str, device: str, name: str, since: str | None, *, quiesce: bool) -> Body:
        """Cuts now, and serves that instant; the same backup again returns it."""
        self._check(name, since)
        with self._machines.task(vm):
            disk = self._disk(vm, device)
            wanted = {"vm": vm, "disk": disk["id"], "device": device, "checkpoint": name, "since": since}
            job = self._records.get("backup", vm)
            if job is not None:
                if self._runs(vm):
                    if job == wanted and not self._defects.backup_begun_again:
                        return self._shown(job)
                    if job != wanted and not self._defects.backup_second_job:
                        raise Refused(409, "busy", f"{job['device']} of VM {vm} is being backed up")
                self._end(job, keep=False)
            self._machines.look_at_images(vm)
            if self._checkpoints.known(vm, name):
                raise conflict(f"VM {vm} has a checkpoint {name}")
            self._check_since(vm, disk, name, since)
            self._records.put(wanted, "backup", vm)
            try:
                self._served[vm].frozen_s = self._cut(wanted, _file(disk), quiesce=quiesce)
            except BaseException:
                self._end(wanted, keep=False)
                raise
            return self._shown(wanted)

    def _check(self, name: str, since: str | None) -> None:
        if self._rules.name != "KVM":
            raise Refused(501, "unsupported", f"{self._rules.name} has no backups of its own")
        if not _NAME.fullmatch(name) or (since is not None and not _NAME.fullmatch(since)) or name == since:
            raise Refused(400, "bad_request", "checkpoint and since are two names of [a-z0-9-], at most 64")

    def _check_since(self, vm: str, disk: Body, name: str, since: str | None) -> None:
        whole = any((one["name"], one["disk"]) == (since, disk["id"]) for one in self._checkpoints.whole(vm))
        if since is None or whole or self._defects.backup_lost_is_empty:
            return
        if self._defects.backup_refused_leaves_checkpoint:
            self._checkpoints.begin(vm, disk["id"], name)
            self._machines.images_rest(vm)
        raise not_found("checkpoint", f"{since} of {disk['device']}, or its bitmap is lost")

    def _runs(self, vm: str) -> bool:
        served = self._served.get(vm)
        return served is not None and served.served

    def _cut(self, job: Body, path: Path, *, quiesce: bool) -> float:
        """Copies, begins the checkpoint and serves; returns how many seconds the guest was frozen."""
        vm, disk, since = job["vm"], job["disk"], job["since"]
        made = PointInTime(self._store / hashlib.sha256(vm.encode()).hexdigest()[:12])
        made.require()
        self._served[vm] = made
        guest = self._guests.find(vm)
        begun = time.monotonic()
        with self._frozen(vm, quiesce=quiesce), nullcontext() if guest is None else guest.paused():
            self._copy(path, made.copy)
            dirty = self._dirty(vm, disk, since, path.stat().st_size)
            self._checkpoints.begin(vm, disk, job["checkpoint"])
        seconds = time.monotonic() - begun
        self._machines.images_rest(vm)
        made.serve(job["device"], since, dirty, writable=self._defects.backup_writable)
        return seconds if quiesce and guest is not None else 0.0

    @contextmanager
    def _frozen(self, vm: str, *, quiesce: bool) -> Iterator[None]:
        """Inside, the guest's file systems are frozen if asked; it always thaws, unless another froze it."""
        guest = self._guests.find(vm)
        if not quiesce or guest is None or guest.frozen:
            yield
            return
        try:
            try:
                self._guests.freeze(vm, DEFAULT_FREEZE_S)
            except Refused as error:
                raise Refused(503, "unavailable", str(error)) from error
            yield
        finally:
            if self._guests.state(vm)["frozen"] and not self._defects.backup_leaves_frozen:
                self._guests.thaw(vm)

    def _copy(self, path: Path, copy: Path) -> None:
        if self._defects.backup_served_live:
            copy.symlink_to(path)
            return
        copy_sparse(path, copy)
        if self._defects.backup_size_rounded:
            with copy.open("ab") as file:
                file.truncate((path.stat().st_size // _ROUNDED + 1) * _ROUNDED)

    def _dirty(self, vm: str, disk: str, since: str | None, size: int) -> Sequence[int]:
        if since is None:
            return ()
        if self._defects.backup_reports_all:
            return range(-(-size // GRANULE))
        if self._defects.backup_other_bitmap:
            since = next(one["name"] for one in reversed(self._checkpoints.whole(vm)) if one["disk"] == disk)
        return self._checkpoints.dirty(vm, disk, since)

    def _shown(self, job: Body) -> Body:
        served = self._served[job["vm"]]
        size = self._machines.get(job["vm"])["disks"][job["disk"]]["size"]
        return {
            "socket": str(served.address),
            "export": job["device"],
            "size": size,
            "bitmap": job["since"] or "",
            "frozen_s": served.frozen_s,
        }

    def end(self, vm: str, device: str, *, keep: bool) -> None:
        """Stops serving; without `keep` its checkpoint goes, too. Fine if there is no such backup."""
        with self._machines.task(vm):
            job = self._records.get("backup", vm)
            if job is not None and job["device"] == device:
                self._end(job, keep=keep or self._defects.backup_keeps_checkpoint)
            elif self._defects.backup_end_missing_fails:
                raise failed(f"no backup of {device} runs on VM {vm}")

    def _end(self, job: Body, *, keep: bool) -> None:
        self.power_lost(job["vm"])
        if not keep:
            self._checkpoints.delete(job["vm"], job["checkpoint"])
        self._records.delete("backup", job["vm"])

    # checkpoints

    def all(self, vm: str) -> list[Body]:
        """The checkpoints that count, oldest first."""
        disks = self._machines.get(vm)["disks"]
        self._machines.look_at_images(vm)
        return [
            {"name": one["name"], "device": disks[one["disk"]]["device"], "text": text_of(one)}
            for one in self._checkpoints.whole(vm)
        ]

    def restore(self, vm: str, told: Sequence[Body]) -> Body:
        """Registers again those whose bitmaps are there; {"gone": the names of the others}."""
        with self._machines.task(vm):
            self._machines.look_at_images(vm)
            gone = []
            for one in told:
                name, disk = str(one.get("name")), self._find(vm, str(one.get("device")))
                there = disk is not None and self._checkpoints.has_bitmap(vm, disk["id"], name)
                if disk is not None and (there or self._defects.checkpoint_restored_unverified):
                    if not there:
                        self._checkpoints.begin(vm, disk["id"], name)
                    self._checkpoints.register(vm, disk["id"], name, number_in(str(one.get("text"))))
                else:
                    gone.append(name)
            return {"gone": gone}

    def delete(self, vm: str, device: str, name: str) -> None:
        """Takes a checkpoint away, whole or not; fine if it is not there."""
        with self._machines.task(vm):
            if self._defects.checkpoint_delete_missing_fails and not self._checkpoints.known(vm, name):
                raise failed(f"bitmap {name!r} not found in backing chain of {device!r}")
            self._checkpoints.delete(vm, name)

    def _find(self, vm: str, device: str) -> Body | None:
        disks = self._machines.get(vm)["disks"].values()
        return next((disk for disk in disks if disk["device"] == device), None)

    def _disk(self, vm: str, device: str) -> Body:
        disk = self._find(vm, device)
        if disk is None:
            raise not_found("device", f"{device} of VM {vm}")
        return disk


def _file(disk: Body) -> Path:
    address = parse_address(disk["address"])
    if not isinstance(address, FileAddress) or address.format != "raw":
        raise Refused(501, "unsupported", f"disk {disk['id']} is no raw file: what is written is not tracked")
    return Path(address.path)
