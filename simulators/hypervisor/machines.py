"""Virtual machines: their definition, their disks and their power."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .checkpoints import Checkpoints
from .defects import HypervisorDefects
from .errors import Refused, conflict, failed, not_found
from .guest import DEFAULT_SLOTS
from .guests import Guests
from .hosts import Hosts
from .media import Address, FileAddress, check, parse_address, store_address
from .pattern import BLOCK
from .personality import Personality
from .records import Body, Records

_DISK_KEYS = {"address", "object", "offset", "slots"}


class Machines:
    """VMs of the cluster.

    Args:
        records: the durable state.
        hosts: where they run.
        guests: what runs in them.
        checkpoints: what is known of their disks' changes.
        rules: of the hypervisor family.
        defects: what goes wrong.
    """

    def __init__(
        self,
        records: Records,
        hosts: Hosts,
        guests: Guests,
        checkpoints: Checkpoints,
        rules: Personality,
        defects: HypervisorDefects,
    ) -> None:
        self._records = records
        self._hosts = hosts
        self._guests = guests
        self._checkpoints = checkpoints
        self._rules = rules
        self._defects = defects
        self._lock = threading.RLock()
        self._busy: set[str] = set()

    def resume(self) -> None:
        """Running VMs go on after a restart of the simulator, frozen ones stay frozen for their time."""
        for machine in self._records.all("vm"):
            if machine["state"] == "running":
                self._guests.begin(machine)

    # records

    def put(self, vm: str, body: Body) -> Body:
        """Defines a stopped VM; a repeat with the same definition returns it."""
        self._hosts.get(str(body.get("host")))
        disks = body.get("disks", {})
        if not isinstance(disks, dict) or not all(isinstance(disk, dict) for disk in disks.values()):
            raise Refused(400, "bad_request", "disks is an object of disk id to disk")
        wanted = {"host": body["host"], "agent": bool(body.get("agent", True)), "disks": disks}
        with self._lock, self._records.together():
            old = self._records.get("vm", vm)
            if old is not None:
                if old["defined"] != wanted:
                    raise conflict(f"VM {vm} is defined otherwise")
                return self.show(vm)
            machine: Body = {
                "id": vm,
                "defined": wanted,
                "host": wanted["host"],
                "agent": wanted["agent"],
                "state": "stopped",
                "memory": "",
                "note": "",
                "disks": {},
                "chains": {},
                "rate": 0.0,
            }
            for name, disk in disks.items():
                machine["disks"][name] = self._disk(machine, name, disk)
            self._records.put(machine, "vm", vm)
            return self.show(vm)

    def get(self, vm: str) -> Body:
        """The record of a VM."""
        found = self._records.get("vm", vm)
        if found is None:
            raise not_found("VM", vm)
        return found

    def save(self, machine: Body) -> None:
        """Writes the record back."""
        self._records.put(machine, "vm", machine["id"])

    def show(self, vm: str) -> dict[str, Any]:
        """A VM as its API shows it."""
        machine = self.get(vm)
        guest = self._guests.find(vm)
        disks = {
            name: {**_without(disk, "defined"), "address": parse_address(disk["address"]).public()}
            for name, disk in machine["disks"].items()
        }
        if self._defects.disk_size_stale:
            disks = {name: {**disk, "size": disk["size"] // 2} for name, disk in disks.items()}
        return {
            **_without(machine, "defined", "reverting", "chains"),
            "disks": disks,
            "note": machine.get("note", ""),
            "frozen": guest is not None and guest.frozen,
            "io_errors": guest.io_errors if guest else 0,
        }

    def all(self) -> list[Body]:
        """All VMs."""
        return [self.show(machine["id"]) for machine in self._records.all("vm")]

    def delete(self, vm: str) -> None:
        """Undefines a stopped VM without snapshots; its disks' bytes stay."""
        if self._records.get("vm", vm) is None:
            return
        with self.task(vm):
            if self.get(vm)["state"] == "running" or self._records.all("snapshot", vm):
                raise Refused(409, "in_use", f"VM {vm} runs or has snapshots")
            self._checkpoints.forget(vm)
            self._records.delete("vm", vm)

    @contextmanager
    def task(self, vm: str) -> Iterator[None]:
        """One changing task per VM at a time; a second one is told 409, as hypervisors do."""
        self.get(vm)
        with self._lock:
            if vm in self._busy:
                raise Refused(409, "busy", f"VM {vm} has a task under way")
            self._busy.add(vm)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(vm)

    # disks

    def attach(self, vm: str, name: str, body: Body) -> Body:
        """Adds a disk, hot or cold; a repeat returns the same device."""
        with self.task(vm):
            machine = self.get(vm)
            old = machine["disks"].get(name)
            if old is not None:
                if old["defined"] != body:
                    raise conflict(f"disk {name} of VM {vm} is something else")
                if self._defects.attach_again_moves:
                    old["device"] = self._free_device(machine)
                    self.save(machine)
                return self._shown_disk(vm, name)
            self._refuse_with_snapshots(vm)
            machine["disks"][name] = self._disk(machine, name, body)
            self._checkpoints.look(vm, name, _image(machine["disks"][name]))
            self._change_disks(machine)
            return self._shown_disk(vm, name)

    def detach(self, vm: str, name: str) -> None:
        """Removes a disk; when this returns the VM no longer holds it open. Fine when it is not there."""
        with self.task(vm):
            machine = self.get(vm)
            if name not in machine["disks"]:
                if self._defects.detach_missing_fails:
                    raise failed(f"VM {vm} has no disk {name}")
                return
            self._refuse_with_snapshots(vm)
            job = self._records.get("backup", vm)
            if job is not None and job["disk"] == name:
                raise Refused(409, "in_use", f"disk {name} of VM {vm} is being backed up")
            left = machine["disks"].pop(name)
            _forget_images(machine, left)
            if self._defects.detach_returns_early:
                self.save(machine)  # and the guest goes on with the disks that it has
            else:
                self._change_disks(machine)
            self._checkpoints.leave(vm, name, _image(left))

    def resize(self, vm: str, name: str, size: int) -> Body:
        """Grows a file, or sees that a LUN has grown; a running guest sees it, and writes to its new end."""
        with self.task(vm):
            machine = self.get(vm)
            disk = machine["disks"].get(name)
            if disk is None:
                raise not_found("disk", f"{name} of VM {vm}")
            address = parse_address(disk["address"])
            found = check(address, None, None)[1]
            if size < found and not self._defects.resize_shrinks:
                raise Refused(400, "bad_request", f"disk {name} has {found} bytes and does not shrink")
            self.look_at_images(vm)
            if isinstance(address, FileAddress):
                os.truncate(address.path, size)
            elif size != found:
                raise Refused(501, "unsupported", f"disk {name} is a LUN: its array makes it grow")
            disk["size"] = size
            if not self._defects.resize_unseen:
                disk["offset"], disk["slots"] = _region(disk["defined"], size)
            self._change_disks(machine)
            self.images_rest(vm)
            if self._defects.checkpoint_ends_at_old_size:
                self._checkpoints.end_at(vm, name, found)
            return self._shown_disk(vm, name)

    def _refuse_with_snapshots(self, vm: str) -> None:
        if self._records.all("snapshot", vm):
            raise Refused(409, "has_snapshots", f"VM {vm} has snapshots, its disks cannot change")

    def _change_disks(self, machine: Body) -> None:
        if machine["state"] == "running":
            with self.stopped_guest(machine["id"]):
                self.save(machine)
        else:
            self.save(machine)

    def _shown_disk(self, vm: str, name: str) -> Body:
        disk: Body = self.show(vm)["disks"][name]
        return disk

    def _disk(self, machine: Body, name: str, body: Body) -> Body:
        """Checks a disk that is to be attached and gives it a device name."""
        if set(body) - _DISK_KEYS:
            raise Refused(400, "bad_request", f"a disk has {', '.join(sorted(_DISK_KEYS))}")
        address = self._address(machine["host"], body)
        size = check(address, None, None)[1]
        offset, slots = _region(body, size)
        self._refuse_shared(machine["id"], name, address)
        return {
            "id": name,
            "device": self._free_device(machine),
            "address": store_address(address),
            "object": body.get("object"),
            "offset": offset,
            "slots": slots,
            "size": size,
            "overlay": False,
            "defined": body,
        }

    def _free_device(self, machine: Body) -> str:
        used = {disk["device"] for disk in machine["disks"].values()}
        devices = (self._rules.guest_device(index) for index in range(26))
        device = next((one for one in devices if one not in used), None)
        if device is None:
            raise Refused(409, "limit", f"VM {machine['id']} has no free slot for a disk")
        return device

    def _address(self, host: str, body: Body) -> Address:
        known = body.get("object")
        if known is None:
            return parse_address(body.get("address"))
        if not isinstance(known, dict) or set(known) != {"kind", "id"}:
            raise Refused(400, "bad_request", "object has kind and id")
        return self._hosts.address_of(host, str(known["kind"]), str(known["id"]))

    def _refuse_shared(self, vm: str, name: str, address: Address) -> None:
        stored = store_address(address)
        for machine in self._records.all("vm"):
            for disk in machine["disks"].values():
                if disk["address"] == stored and (machine["id"], disk["id"]) != (vm, name):
                    raise Refused(409, "in_use", f"VM {machine['id']} has it as disk {disk['id']}")

    def uses(self, host: str, kind: str, object_id: str) -> bool:
        """Whether a VM of the host has the object as a disk."""
        wanted = {"kind": kind, "id": object_id}
        on_host = (machine for machine in self._records.all("vm") if machine["host"] == host)
        return any(disk["object"] == wanted for machine in on_host for disk in machine["disks"].values())

    # power

    def start(self, vm: str) -> Body:
        """Boots the guest; fine when it runs."""
        with self.task(vm):
            machine = self.get(vm)
            if machine["state"] == "running":
                if self._defects.start_running_fails:
                    raise conflict(f"VM {vm} is already running")
                return self.show(vm)
            self._hosts.require_up(machine["host"])
            for disk in machine["disks"].values():
                if disk["object"] is not None and not disk["overlay"]:  # it may have been granted anew
                    disk["address"] = store_address(self._address(machine["host"], disk))
                disk["size"] = check(parse_address(disk["address"]), None, None)[1]
            self._power_on(machine)
        return self.show(vm)

    def look_at_images(self, vm: str) -> None:
        """Of a VM that is off: what is known of disks that somebody has changed is not true any more."""
        machine = self.get(vm)
        if machine["state"] != "running":
            for name, disk in machine["disks"].items():
                self._checkpoints.look(vm, name, _image(disk))

    def images_rest(self, vm: str) -> None:
        """Of a VM that is off: its images are now what is known of them."""
        machine = self.get(vm)
        if machine["state"] != "running":
            for name, disk in machine["disks"].items():
                self._checkpoints.rest(vm, name, _image(disk))

    def _power_on(self, machine: Body) -> None:
        self.save(machine)  # with the images that it starts with
        self.look_at_images(machine["id"])
        self.save({**machine, "state": "running", "note": ""})
        self._guests.begin(machine)

    def note(self, vm: str, text: str) -> Body:
        """Keeps a text for as long as the VM runs; it goes along when the VM moves."""
        with self.task(vm):
            machine = self.get(vm)
            if machine["state"] != "running":
                raise conflict(f"VM {vm} is not running")
            self.save({**machine, "note": text})
        return self.show(vm)

    def stop(self, vm: str, *, force: bool = True) -> Body:
        """Powers the VM off; fine when it is off. A frozen guest is 423 unless it is forced."""
        with self.task(vm):
            guest = self._guests.find(vm)
            if self._defects.stop_stopped_fails and guest is None:
                raise conflict(f"VM {vm} is not powered on")
            if self._defects.stop_returns_early and not force:
                return self.show(vm)
            if not force and guest is not None and guest.frozen:
                raise Refused(423, "frozen", f"the guest of VM {vm} is frozen and does not shut down")
            self._power_off(vm)
        return self.show(vm)

    def _power_off(self, vm: str) -> None:
        self._guests.end(vm)
        with self._records.together():
            self.save({**self.get(vm), "state": "stopped", "memory": "", "note": ""})
            self._records.delete("freeze", vm)
        self.images_rest(vm)

    def migrate(self, vm: str, host: str) -> Body:
        """Moves a running VM, with its memory, to a host that knows its disks; fine when it is there."""
        with self.task(vm):
            machine = self.get(vm)
            if machine["host"] != host:
                self._move(machine, host)
            elif self._defects.migrate_again_fails:
                raise conflict(f"VM {vm} is on host {host} already")
            if self._defects.migrate_stops_guest:
                self._guests.end(vm)
            return self.show(vm)

    def _move(self, machine: Body, host: str) -> None:
        vm = machine["id"]
        if machine["state"] != "running":
            raise Refused(409, "not_running", f"VM {vm} is off: there is nothing to move live")
        if self._records.get("backup", vm) is not None:
            raise Refused(409, "busy", f"a disk of VM {vm} is being backed up")
        try:
            self._hosts.require_up(host)
            for disk in machine["disks"].values():
                self._address(host, {**disk, "host": host})
        except Refused:
            if self._defects.migrate_failure_stops:
                self._power_off(vm)
            raise
        with self.stopped_guest(vm):
            self.save({**self.get(vm), "host": host})

    def host_gone(self, host: str, *, lost: bool) -> list[str]:
        """The VMs of a host that went away are off; what their processes alone knew may be lost."""
        running = [
            machine["id"]
            for machine in self._records.all("vm")
            if machine["host"] == host and machine["state"] == "running"
        ]
        for vm in running:
            self._power_off(vm)
            if lost:
                self._checkpoints.lose(vm)
        return running

    def remember(self, vm: str, text: str) -> Body:
        """What the guest holds in its memory: gone with the power, back with a snapshot with memory."""
        with self.task(vm):
            if self.get(vm)["state"] != "running":
                raise Refused(409, "not_running", f"VM {vm} is not running")
            self.save({**self.get(vm), "memory": text})
        return self.show(vm)

    def set_rate(self, vm: str, rate: float) -> Body:
        """How many blocks per second the guest writes by itself, now and after each start."""
        with self.task(vm), self.stopped_guest(vm):
            self.save({**self.get(vm), "rate": rate})
        return self.show(vm)

    @contextmanager
    def stopped_guest(self, vm: str) -> Iterator[None]:
        """The guest holds nothing open inside and continues afterwards, if it was running."""
        self._guests.end(vm)
        try:
            yield
        finally:
            machine = self.get(vm)
            if machine["state"] == "running":
                self._guests.begin(machine)


def _image(disk: Body) -> str:
    """What tells whether a disk's image is the same and unchanged; "" where nobody knows."""
    address = parse_address(disk["address"])
    if not isinstance(address, FileAddress):
        return ""
    try:
        found = Path(address.path).stat()
    except FileNotFoundError:
        return ""
    return f"{address.path} {found.st_ino} {found.st_mtime_ns}"


def _forget_images(machine: Body, disk: Body) -> None:
    """What stands on what is known of a VM's disks: of those that it does not have nobody asks."""
    root = _lowest(machine["chains"], str(disk["address"].get("path")))
    known = machine["chains"]
    machine["chains"] = {path: below for path, below in known.items() if _lowest(known, path) != root}


def _lowest(chains: Mapping[str, str], path: str) -> str:
    while path in chains:
        path = chains[path]
    return path


def _without(body: Body, *names: str) -> Body:
    return {name: value for name, value in body.items() if name not in names}


def _region(body: Body, size: int) -> tuple[int, int]:
    """(offset, slots) of the part of a disk that the guest writes to; by default the disk's end."""
    slots = min(body.get("slots", DEFAULT_SLOTS), size // BLOCK)
    offset = body.get("offset", size // BLOCK * BLOCK - slots * BLOCK)
    if offset % BLOCK or slots < 0 or not 0 <= offset <= size - slots * BLOCK:
        raise Refused(
            400, "bad_request", f"offset and slots must lie on the disk, in blocks of {BLOCK} bytes"
        )
    return offset, slots
