"""VM snapshots: a tree per VM with exactly one current, copies of all disks at one instant.

    creating --copies done--> ready --revert--> ready, current
                                +-----delete--> gone

On start a "creating" of a killed process is removed and a half-done revert is finished.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from .checkpoints import Checkpoints
from .copying import copy_sparse, sync_directory
from .defects import HypervisorDefects
from .errors import Refused, conflict, failed, not_found
from .guests import DEFAULT_FREEZE_S, Guests
from .machines import Machines
from .media import FileAddress, parse_address
from .personality import Personality
from .records import Body, Records

MAX_PER_VM = 10  # CloudStack's vmsnapshot.max


class VmSnapshots:
    """Creates, reverts to and deletes snapshots of VMs.

    Args:
        records: the durable state.
        machines: the VMs.
        guests: what runs in them.
        checkpoints: what is known of their disks' changes.
        rules: of the hypervisor family.
        defects: what goes wrong.
        store: directory of the copies: <vm>/<snapshot>/<disk>.
        stopping: set when the server ends.
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
        stopping: threading.Event,
    ) -> None:
        self._records = records
        self._machines = machines
        self._guests = guests
        self._checkpoints = checkpoints
        self._rules = rules
        self._defects = defects
        self._store = store
        self._stopping = stopping

    def recover(self) -> None:
        """Removes half-made and half-deleted snapshots, finishes half-done reverts of a killed process."""
        for snapshot in self._records.all("snapshot"):
            if snapshot["state"] == "creating":
                self._remove(snapshot)
        for machine in self._records.all("vm"):
            if machine.get("reverting"):
                self._put_back(machine, self.get(machine["id"], machine["reverting"]))
        for directory in self._store.glob("*/*"):
            if self._records.get("snapshot", directory.parent.name, directory.name) is None:
                shutil.rmtree(directory)

    def get(self, vm: str, name: str) -> Body:
        """One snapshot."""
        found = self._records.get("snapshot", vm, name)
        if found is None:
            raise not_found("snapshot", f"{name} of VM {vm}")
        return found

    def all(self, vm: str) -> list[Body]:
        """All snapshots of a VM."""
        self._machines.get(vm)
        return self._records.all("snapshot", vm)

    def create(self, vm: str, name: str, *, memory: bool, quiesce: bool) -> Body:
        """Takes a snapshot of all disks at one instant, with memory if asked; a repeat returns it."""
        with self._machines.task(vm):
            old = self._records.get("snapshot", vm, name)
            if old is not None:
                if old["memory"] != memory:
                    raise conflict(f"snapshot {name} of VM {vm} exists with another memory option")
                if not self._defects.snapshot_retaken:
                    return old
                self._remove(old)
            machine = self._machines.get(vm)
            self._check_create(machine, memory=memory)
            snapshot = self._begin(machine, name, memory=memory)
            self._hang()
            try:
                with self._cut(machine, quiesce=quiesce) as generation:
                    self._copy_disks(machine, snapshot)
            except BaseException:
                if not self._defects.snapshot_failure_leaves_part:
                    self._remove(snapshot)
                raise
            return self._finish(snapshot, generation)

    def _check_create(self, machine: Body, *, memory: bool) -> None:
        if memory and machine["state"] != "running":
            raise Refused(409, "not_running", "memory can only be saved of a running VM")
        if len(self.all(machine["id"])) >= MAX_PER_VM:
            raise Refused(409, "limit", f"a VM has at most {MAX_PER_VM} snapshots")
        for disk in machine["disks"].values():
            if not isinstance(parse_address(disk["address"]), FileAddress):
                raise Refused(501, "unsupported", f"disk {disk['id']} is a LUN: its array takes the snapshot")

    def _begin(self, machine: Body, name: str, *, memory: bool) -> Body:
        vm = machine["id"]
        parents = [one["id"] for one in self.all(vm) if one["current"] and one["registered"]]
        snapshot = {
            "id": name,
            "vm": vm,
            "state": "creating",
            "memory": memory,
            "content": machine["memory"] if memory else "",
            "registered": True,
            "current": False,
            "parent": parents[-1] if parents else None,
            "generation": None,
            "disks": sorted(machine["disks"]),
        }
        self._records.put(snapshot, "snapshot", vm, name)
        return snapshot

    def _hang(self) -> None:
        while self._defects.snapshot_hangs and not self._stopping.wait(0.02):
            pass

    @contextmanager
    def _cut(self, machine: Body, *, quiesce: bool) -> Iterator[int | None]:
        """Inside, no guest write happens; yields the newest generation. Always thaws."""
        vm = machine["id"]
        if machine["state"] != "running":
            yield None
            return
        guest = self._guests.get(vm)
        # XenServer ignores the wish; a guest that somebody else froze is theirs to thaw.
        frozen = quiesce and self._rules.can_quiesce and not guest.frozen
        if frozen:
            self._guests.freeze(vm, DEFAULT_FREEZE_S)
        try:
            with nullcontext() if self._defects.snapshot_without_cut else guest.paused():
                yield guest.generation
        finally:
            if frozen or self._defects.snapshot_thaws:
                self._guests.thaw(vm)

    def _copy_disks(self, machine: Body, snapshot: Body) -> None:
        directory = self._directory(snapshot)
        directory.mkdir(parents=True, exist_ok=True)
        for name, disk in machine["disks"].items():
            copy_sparse(_path(disk), directory / name)
            if self._defects.snapshot_without_cut and machine["state"] == "running":
                self._guests.get(machine["id"]).write(len(machine["disks"]) + 1)

    def _finish(self, snapshot: Body, generation: int | None) -> Body:
        """The commit: ready and current in one step."""
        vm, name = snapshot["vm"], snapshot["id"]
        with self._records.together():
            if not self._defects.two_current_snapshots:
                self._clear_current(vm)
            done = {**snapshot, "state": "ready", "current": True, "generation": generation}
            self._records.put(done, "snapshot", vm, name)
        if self._rules.moves_disk_on_snapshot:
            self._move_disks(vm, name)
        return done

    def _clear_current(self, vm: str) -> None:
        for other in self.all(vm):
            if other["current"]:
                self._records.put({**other, "current": False}, "snapshot", vm, other["id"])

    def _move_disks(self, vm: str, name: str) -> None:
        """The live disks continue under new names, as VMware's deltas do; the bytes do not move."""
        with self._machines.stopped_guest(vm):
            machine = self._machines.get(vm)
            old_paths = []
            for disk in _movable(machine):
                old = _path(disk)
                new = _renamed(old, name)
                new.unlink(missing_ok=True)
                new.hardlink_to(old)
                sync_directory(new.parent)
                disk["address"]["path"] = str(new)
                old_paths.append(old)
            self._machines.save(machine)
            for path in old_paths:
                path.unlink()

    def revert(self, vm: str, name: str) -> Body:
        """Puts all disks back, and with memory the running state; the snapshot becomes current."""
        with self._machines.task(vm):
            if self._defects.revert_missing_succeeds and self._records.get("snapshot", vm, name) is None:
                return {}
            snapshot = self.get(vm, name)
            if not snapshot["registered"]:
                raise not_found("snapshot", f"{name} in the register of VM {vm}")
            machine = self._machines.get(vm)
            if snapshot["memory"] != (machine["state"] == "running"):
                wanted = "running" if snapshot["memory"] else "stopped"
                raise Refused(409, "wrong_state", f"the VM must be {wanted} for this snapshot")
            if self._defects.revert_does_nothing:
                return snapshot
            with self._machines.stopped_guest(vm):
                if not self._defects.checkpoints_survive_revert:
                    self._checkpoints.forget(vm)
                self._machines.save({**machine, "reverting": name})
                self._put_back(self._machines.get(vm), snapshot)
            if self._defects.checkpoints_survive_revert:
                self._machines.images_rest(vm)
            return self.get(vm, name)

    def _put_back(self, machine: Body, snapshot: Body) -> None:
        """Repeatable from the start until its last step, which is one commit."""
        movable = [disk["id"] for disk in _movable(machine)]
        replaced = []
        for name, disk in list(machine["disks"].items())[: 1 if self._defects.revert_partial else None]:
            live = _path(disk)
            staged = live.with_name(live.name + ".reverting")
            copy_sparse(self._directory(snapshot) / name, staged)
            if self._rules.moves_disk_on_revert and name in movable:
                target = _renamed(live, snapshot["id"], other_than=live)
                replaced.append(live)
            else:
                target = live
            staged.rename(target)
            sync_directory(target.parent)
            disk["address"]["path"] = str(target)
            disk["size"] = parse_address(disk["address"]).size()
        machine["memory"] = snapshot["content"]
        machine.pop("reverting", None)
        with self._records.together():
            self._machines.save(machine)
            self._clear_current(machine["id"])
            self._records.put({**snapshot, "current": True}, "snapshot", machine["id"], snapshot["id"])
        for path in replaced:
            path.unlink(missing_ok=True)

    def register(self, vm: str, known: Sequence[Body]) -> list[Body]:
        """Sets what the hypervisor knows about the snapshots that it holds; their data stay.

        Args:
            vm: the VM.
            known: {"id", "parent", "current"} of each, parents first; nothing makes it forget all.
        """
        with self._machines.task(vm), self._records.together():
            wanted = {str(one.get("id")): one for one in known}
            for name in wanted:
                self.get(vm, name)
            for snapshot in self.all(vm):
                one = wanted.get(snapshot["id"])
                if one is None and self._defects.metadata_drop_deletes:
                    self._remove(snapshot)
                    continue
                told: Body = {"registered": one is not None, "current": bool(one and one.get("current"))}
                if one is not None:
                    told["parent"] = None if self._defects.metadata_loses_parents else one.get("parent")
                self._records.put({**snapshot, **told}, "snapshot", vm, snapshot["id"])
            return self.all(vm)

    def delete(self, vm: str, name: str) -> None:
        """Removes a snapshot; its children and the mark "current" move to its parent."""
        if self._records.get("snapshot", vm, name) is None:
            if self._defects.snapshot_delete_missing_fails:
                raise failed(f"VM {vm} has no snapshot {name}")
            return
        with self._machines.task(vm):
            if self._defects.snapshot_delete_takes_children:
                self._remove_under(vm, name)
            self._remove(self.get(vm, name))

    def _remove_under(self, vm: str, name: str) -> None:
        for child in [one for one in self.all(vm) if one["parent"] == name]:
            self._remove_under(vm, child["id"])
            self._remove(child)

    def _remove(self, snapshot: Body) -> None:
        vm, name, parent = snapshot["vm"], snapshot["id"], snapshot["parent"]
        with self._records.together():
            for other in self.all(vm):
                if other["parent"] == name:
                    self._records.put({**other, "parent": parent}, "snapshot", vm, other["id"])
            if snapshot["current"] and parent is not None:
                self._records.put({**self.get(vm, parent), "current": True}, "snapshot", vm, parent)
            self._records.delete("snapshot", vm, name)
        shutil.rmtree(self._directory(snapshot), ignore_errors=True)

    def _directory(self, snapshot: Body) -> Path:
        return self._store.joinpath(snapshot["vm"], snapshot["id"])


def _path(disk: Body) -> Path:
    return Path(str(disk["address"]["path"]))


def _movable(machine: Body) -> list[Body]:
    """Disks whose path is the hypervisor's own; an introduced object stays where its storage has it."""
    return [disk for disk in machine["disks"].values() if disk["object"] is None]


def _renamed(path: Path, snapshot: str, *, other_than: Path | None = None) -> Path:
    """``disk.raw`` becomes ``disk@snapshot.raw``; the part behind @ is replaced each time."""
    stem = path.stem.partition("@")[0]
    new = path.with_name(f"{stem}@{snapshot}{path.suffix}")
    return new if new != other_than else path.with_name(f"{stem}@{snapshot}+{path.suffix}")
