"""The guests of running VMs: starting and ending them, letting them write, freezing and thawing them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from .checkpoints import Checkpoints
from .defects import HypervisorDefects
from .errors import Refused, failed, not_found
from .guest import Guest, GuestDisk
from .media import parse_address
from .personality import Personality
from .records import Body, Records

MAX_FREEZE_S = 300.0
DEFAULT_FREEZE_S = 10.0
_FOR_EVER = 1e9  # seconds


class Guests:
    """Guests by VM.

    Args:
        records: the durable state; freezes are in it, so that they outlive this process.
        rules: of the hypervisor family.
        defects: what goes wrong.
        clock: seconds; the same after a restart.
        checkpoints: what is told where guests write.
    """

    def __init__(
        self,
        records: Records,
        rules: Personality,
        defects: HypervisorDefects,
        clock: Callable[[], float],
        checkpoints: Checkpoints,
    ) -> None:
        self._records = records
        self._rules = rules
        self._defects = defects
        self._clock = clock
        self._checkpoints = checkpoints
        self._guests: dict[str, Guest] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Ends all guests of this process; their VMs stay "running" in the records."""
        for vm in list(self._guests):
            self.end(vm)

    def find(self, vm: str) -> Guest | None:
        """The guest of a VM, if it runs."""
        with self._lock:
            return self._guests.get(vm)

    def begin(self, machine: Body) -> None:
        """Starts the guest of a VM over its raw disks; it stays frozen if it was."""
        disks = [
            GuestDisk(disk["id"], parse_address(disk["address"]), disk["offset"], disk["slots"])
            for disk in machine["disks"].values()
            if disk["slots"] > 0 and parse_address(disk["address"]).guest_may_write
        ]
        freeze = self._records.get("freeze", machine["id"])
        guest = Guest(
            machine["id"],
            disks,
            rate=machine["rate"],
            frozen_until=freeze["until"] if freeze else None,
            clock=self._clock,
            mark=partial(self._checkpoints.mark, machine["id"]),
        )
        self._checkpoints.load(machine["id"])
        with self._lock:
            self._guests[machine["id"]] = guest
        guest.start()

    def end(self, vm: str) -> None:
        """Ends the guest, if there is one: no write of it happens after the return."""
        with self._lock:
            guest = self._guests.pop(vm, None)
        if guest is not None:
            guest.stop()
            self._checkpoints.save(vm)

    def get(self, vm: str) -> Guest:
        """The guest of a running VM, else 409."""
        self._machine(vm)
        with self._lock:
            guest = self._guests.get(vm)
        if guest is None:
            raise Refused(409, "not_running", f"VM {vm} is not running")
        return guest

    def write(self, vm: str, blocks: int) -> dict[str, int | None]:
        """The guest writes so many blocks now."""
        guest = self.get(vm)
        try:
            return {"generation": guest.write(blocks)}
        except OSError as error:
            raise Refused(502, "storage_failed", f"the guest of VM {vm} got an I/O error") from error

    def put_file(self, vm: str, disk: str, name: str, text: str) -> dict[str, str]:
        """The guest writes a file and syncs it."""
        guest = self.get(vm)
        try:
            guest.put_file(disk, name, text)
        except OSError as error:
            raise Refused(502, "storage_failed", f"the guest of VM {vm} got an I/O error") from error
        return {"name": name}

    def files(self, vm: str, disk: str) -> dict[str, str]:
        """The guest reads all files of a disk."""
        guest = self.get(vm)
        try:
            return guest.files(disk)
        except OSError as error:
            raise Refused(502, "storage_failed", f"the guest of VM {vm} got an I/O error") from error

    def freeze(self, vm: str, timeout_s: float) -> dict[str, Any]:
        """Freezes the guest's file systems for at most ``timeout_s`` seconds; a repeat changes nothing."""
        guest = self._agent(vm)
        if not 0 < timeout_s <= MAX_FREEZE_S:
            raise Refused(400, "bad_request", f"a freeze lasts at most {MAX_FREEZE_S:g} seconds")
        if self._defects.freeze_says_ok_does_nothing:
            return {"frozen": True, "generation": guest.generation}
        if not guest.frozen:
            until = self._clock() + (_FOR_EVER if self._defects.freeze_never_ends else timeout_s)
            self._records.put({"until": until}, "freeze", vm)
            guest.freeze(until)
        if self._defects.failed_freeze_stays:
            raise failed(f"the agent of VM {vm} froze the guest and then failed")
        if self._defects.take("agent_timeout"):
            raise Refused(504, "agent_timeout", f"the agent of VM {vm} did not answer in time")
        return self.state(vm)

    def thaw(self, vm: str) -> dict[str, Any]:
        """Thaws the guest; fine when it is not frozen."""
        guest = self._agent(vm)
        if self._defects.thaw_ignored or self._defects.failed_freeze_stays:
            return {"frozen": False, "generation": guest.generation}
        if self._defects.thaw_unfrozen_fails and not guest.frozen:
            raise failed("fsfreeze is limited up to 10 seconds")
        guest.thaw()
        self._records.delete("freeze", vm)
        return self.state(vm)

    def state(self, vm: str) -> dict[str, Any]:
        """Whether the guest is frozen, as the guest itself says, and its newest generation."""
        guest = self.get(vm)
        freeze = self._records.get("freeze", vm)
        frozen = freeze is not None if self._defects.guest_state_remembered else guest.frozen
        until = freeze["until"] if frozen and freeze else None
        return {"frozen": frozen, "thaws_at": until, "generation": guest.generation}

    def _agent(self, vm: str) -> Guest:
        guest = self.get(vm)
        if not self._rules.can_quiesce:
            raise Refused(501, "unsupported", f"{self._rules.name} cannot freeze guests")
        if not self._machine(vm)["agent"]:
            raise Refused(409, "agent_missing", f"the guest agent of VM {vm} is not connected")
        return guest

    def _machine(self, vm: str) -> Body:
        machine = self._records.get("vm", vm)
        if machine is None:
            raise not_found("VM", vm)
        return machine
