"""Images above images: the guest goes on in a new file, the old one keeps what it held.

    add       base <- guest              becomes   base <- overlay <- guest
    switch    base <- old <- guest       becomes   base <- overlay <- guest    (base <- old stays)
    merge     base <- top <- guest       becomes   base <- guest               (top is left to the caller)

An overlay is a sparse copy, not copy-on-write, so that the guest's plain writes are enough. That would hide
every mistake with a chain; so a file that another one stands on must be there and must not change, and a
file whose backing file was taken away is broken, as with qcow2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .checkpoints import Checkpoints
from .copying import copy_sparse
from .defects import HypervisorDefects
from .errors import Refused, not_found
from .guests import DEFAULT_FREEZE_S, Guests
from .machines import Machines
from .media import FileAddress, parse_address, store_address
from .records import Body, Records


class Overlays:
    """Overlays of VMs' file disks. `chains` in a VM's record says which file stands on which.

    Args:
        records: the durable state.
        machines: the VMs.
        guests: what runs in them.
        checkpoints: what is known of their disks' changes.
        defects: what goes wrong.
    """

    def __init__(
        self,
        records: Records,
        machines: Machines,
        guests: Guests,
        checkpoints: Checkpoints,
        defects: HypervisorDefects,
    ) -> None:
        self._records = records
        self._machines = machines
        self._guests = guests
        self._checkpoints = checkpoints
        self._defects = defects

    def recover(self) -> None:
        """Removes the overlays that a killed process was about to put in place."""
        for making in self._records.all("making"):
            self._drop_unused(making)

    def add(self, vm: str, wanted: Mapping[str, str], *, quiesce: bool) -> Body:
        """Puts an overlay on each of these disks at one instant; those that are in place are fine."""
        with self._machines.task(vm):
            machine = self._machines.get(vm)
            bases = {name: _path(_disk(machine, name)) for name in wanted}
            if self._in_place(machine, wanted):
                return self._machines.show(vm)
            frozen = quiesce and machine["state"] == "running" and self._freeze(vm)
            try:
                self._put_on_at_once(vm, wanted, bases)
            finally:
                if frozen and not self._defects.overlay_leaves_frozen:
                    self._guests.thaw(vm)
            return self._machines.show(vm)

    def _in_place(self, machine: Body, wanted: Mapping[str, str]) -> bool:
        if any(_path(_disk(machine, name)) != path for name, path in wanted.items()):
            return False
        if self._defects.overlay_again_remakes:
            for path in wanted.values():
                copy_sparse(Path(machine["chains"][path]), Path(path))
        return True

    def _freeze(self, vm: str) -> bool:
        try:
            self._guests.freeze(vm, DEFAULT_FREEZE_S)
        except Refused:
            if self._defects.overlay_quiesce_skipped:
                return False
            raise
        return True

    def _put_on_at_once(self, vm: str, wanted: Mapping[str, str], bases: Mapping[str, str]) -> None:
        steps = [dict([one]) for one in wanted.items()] if self._defects.overlay_without_cut else [wanted]
        for step in steps:
            with self._machines.stopped_guest(vm):
                self._put_on(vm, step, bases)
            if len(steps) > 1 and (guest := self._guests.find(vm)) is not None:
                guest.write(len(wanted) + 1)

    def switch(self, vm: str, wanted: Mapping[str, str], bases: Mapping[str, str]) -> Body:
        """Puts a stopped VM's disks on new overlays over other images."""
        with self._machines.task(vm):
            machine = self._machines.get(vm)
            if machine["state"] == "running" and not self._defects.switch_running_allowed:
                raise Refused(409, "wrong_state", f"VM {vm} runs: stop it first")
            if set(wanted) != set(bases):
                raise Refused(400, "bad_request", "overlays and bases name other disks")
            if not self._in_place(machine, wanted):
                self._checkpoints.forget(vm)
                for step in self._steps(wanted):
                    self._put_on(vm, step, bases)
            return self._machines.show(vm)

    def _steps(self, wanted: Mapping[str, str]) -> list[Mapping[str, str]]:
        """What is switched in one commit: all, if nothing is wrong."""
        each = [dict([one]) for one in wanted.items()]
        if self._defects.switch_first_only:
            return list(each[:1])
        return list(each) if self._defects.switch_one_by_one else [wanted]

    def _put_on(self, vm: str, wanted: Mapping[str, str], bases: Mapping[str, str]) -> None:
        """All of them, in one commit; a failure leaves no new file."""
        machine = self._machines.get(vm)
        new = {name: path for name, path in wanted.items() if _path(_disk(machine, name)) != path}
        taken = [path for path in new.values() if Path(path).exists()]
        if taken:
            raise Refused(409, "conflict", f"{taken[0]} exists")
        making = {"vm": vm, "paths": list(new.values())}
        self._records.put(making, "making", vm)
        try:
            for name, path in new.items():
                disk = _disk(machine, name)
                _whole(machine, bases[name])
                try:
                    copy_sparse(Path(bases[name]), Path(path))
                except OSError as error:
                    raise Refused(500, "storage_failed", f"{path} cannot be made") from error
                machine["chains"][path] = bases[name]
                _set_image(disk, path, machine)
            self._machines.save(machine)
        finally:
            if not self._defects.overlay_failure_leaves_files:
                self._drop_unused(making)

    def _drop_unused(self, making: Body) -> None:
        chains = self._machines.get(making["vm"])["chains"]
        for path in making["paths"]:
            if path not in chains:
                Path(path).unlink(missing_ok=True)
        self._records.delete("making", making["vm"])

    def merge(self, vm: str, name: str, top: str, base: str, dependents: Sequence[str]) -> Body:
        """Brings all from top down to base into base; fine when top is gone or was merged."""
        with self._machines.task(vm):
            machine = self._machines.get(vm)
            disk = _disk(machine, name)
            chains = machine["chains"]
            between = _between(chains, top, base)
            if between is None or not Path(top).exists():
                if self._defects.merge_again_copies and Path(top).exists():
                    copy_sparse(Path(top), Path(base))
                return self._machines.show(vm)
            if self._defects.merge_side_ignored and base not in _live_chain(machine, disk):
                return self._machines.show(vm)
            _refuse_others(chains, base, between)
            with self._machines.stopped_guest(vm):
                if not self._defects.merge_loses_bytes:
                    staged = Path(f"{base}.merging")
                    copy_sparse(Path(top), staged)
                    staged.rename(base)
                others = () if self._defects.merge_forgets_dependents else dependents
                _move_up(chains, top, base, {*others, *_live_chain(machine, disk)})
                if _path(disk) == top:
                    _set_image(disk, base, machine)
                for merged in between:
                    chains.pop(merged, None)
                self._machines.save(machine)
            if self._defects.merge_stops_guest:
                self._guests.end(vm)
            return self._machines.show(vm)


def _disk(machine: Body, name: str) -> Body:
    found: Body | None = machine["disks"].get(name)
    if found is None:
        raise not_found("disk", f"{name} of VM {machine['id']}")
    if not isinstance(parse_address(found["address"]), FileAddress):
        raise Refused(501, "unsupported", f"disk {name} is a LUN: it has no images")
    return found


def _path(disk: Body) -> str:
    return str(disk["address"]["path"])


def _set_image(disk: Body, path: str, machine: Body) -> None:
    address = FileAddress(path=path)
    disk["address"] = store_address(address)
    disk["size"] = address.size()
    disk["overlay"] = path in machine["chains"]


def _live_chain(machine: Body, disk: Body) -> list[str]:
    line = [_path(disk)]
    while line[-1] in machine["chains"]:
        line.append(machine["chains"][line[-1]])
    return line


def _whole(machine: Body, path: str) -> None:
    """422 when a file below this one is gone."""
    while True:
        if not Path(path).exists():
            raise Refused(422, "wrong_identity", f"{path} is gone, and an image needs it")
        if path not in machine["chains"]:
            return
        path = machine["chains"][path]


def _between(chains: Mapping[str, str], top: str, base: str) -> list[str] | None:
    """The files from top down to base, without base; None when top does not stand on base."""
    line = [top]
    while line[-1] in chains:
        below = chains[line[-1]]
        if below == base:
            return line
        line.append(below)
    return None


def _refuse_others(chains: Mapping[str, str], base: str, merged: Sequence[str]) -> None:
    """What stands on a file that changes would be destroyed."""
    lost = {base, *merged[1:]}
    for path, below in chains.items():
        if below in lost and path not in merged and Path(path).exists():
            raise Refused(409, "has_dependents", f"{path} stands on {below}, too")


def _move_up(chains: dict[str, str], top: str, base: str, told: set[str]) -> None:
    """Those that stand on top stand on base; one that nobody told of keeps its name, and is broken."""
    for path, below in list(chains.items()):
        if below == top and path in told:
            chains[path] = base
