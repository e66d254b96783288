"""Guests: frozen for a cut, thawed, asked.

    freeze   watch is set ── guest-fsfreeze-freeze ── "frozen"?      else thaw, and call the watch off
    thaw     guest-fsfreeze-thaw ── watch is called off
    still    freeze ── a cut ── thaw: how many file systems?         none: it was not frozen any more

The agent is asked directly, with a time limit for each answer: libvirt's own fsFreeze has none, and a
guest that hangs in it would hang the caller.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import libvirt_qemu  # type: ignore[import-untyped, unused-ignore]  # libvirt-python ships no type information

from ....core.spi import (
    Call,
    DeadlineExceeded,
    GuestState,
    Internal,
    InvalidArgument,
    Outcome,
    StorageError,
    Unavailable,
    Unsupported,
    VmState,
)
from ....transfer_objects.ids import VmId
from .machine import Machine
from .power import KvmPower
from .watch import FreezeWatch

_AGENT = "org.qemu.guest_agent.0"
_OF_WHAT_IS_LEFT = 0.9  # so much earlier the watch thaws, that its way to the guest does not matter
_LONGEST_FREEZE = 300.0  # seconds; a guest's own watchdogs fire after that
_RESCUE = 1.5  # seconds for a thaw after a failure; they may come on top of the deadline
_WINDOW = 10.0  # seconds that a guest stands still for a cut at most, unless its agent is given more for that


@dataclass(slots=True)
class Stillness:
    """How long a guest stood still for a cut; known when the cut is over."""

    seconds: float = 0.0


class KvmGuests(KvmPower):
    """The VMs' guests."""

    def freeze(self, vm: VmId, call: Call) -> None:
        """See `HypervisorDriver.freeze`; a process that outlives us thaws before the call's deadline.

        Raises:
            Unsupported: the VM has no channel for a guest agent.
            InvalidArgument: it does not run.
            Busy: it is frozen already.
        """
        self._freeze(self._machine(vm, call), call)

    def _freeze(self, machine: Machine, call: Call) -> float:
        """Freeze; return the moment from which on it may have stood still."""
        _check_agent(machine, call)
        ask_agent(machine, "guest-ping", self._patience(call), call)  # before anything is set in motion
        watch = FreezeWatch(self.options.state, machine)
        watch.set(_OF_WHAT_IS_LEFT * call.remaining(_LONGEST_FREEZE), call)
        begun = call.clock()
        try:
            act_agent(machine, "guest-fsfreeze-freeze", self._patience(call), call)
            if _state(machine, self._patience(call), call) is not GuestState.FROZEN:
                raise Internal(f"the guest of VM {machine.vm} did not freeze", outcome=Outcome.UNKNOWN)
        except StorageError as error:
            if _rescued(machine, watch):
                error.outcome = Outcome.NOT_APPLIED
            raise
        except BaseException:
            _rescued(machine, watch)
            raise
        return begun

    @contextmanager
    def _standing_still(self, machine: Machine, call: Call) -> Iterator[Stillness]:
        """Freeze a guest for the block, which is a cut and no more: all checks come before.

        Raises:
            Unavailable: its agent does not answer, or it has none (not applied).
            DeadlineExceeded: it was thawed before the block ended, so the cut may hold half a write.
        """
        still = Stillness()
        window = call.remaining(max(_WINDOW, self.options.agent_timeout))
        short = Call(deadline=call.clock() + window, cancel=call.cancel, clock=call.clock)
        try:
            begun = self._freeze(machine, short)
        except (Unsupported, InvalidArgument) as error:
            raise Unavailable(error.message, outcome=Outcome.NOT_APPLIED) from error
        try:
            yield still
        finally:
            thawed = self._thaw_now(machine)
            still.seconds = short.clock() - begun
            FreezeWatch(self.options.state, machine).call_off()
        if not thawed:
            gone = f"the guest of VM {machine.vm} thawed before the cut was made"
            raise DeadlineExceeded(gone, outcome=Outcome.APPLIED)

    def _thaw_now(self, machine: Machine) -> int:
        """Thaw without a question before it; return how many file systems stood still until then."""
        call = Call.within(self.options.agent_timeout)
        try:
            return int(act_agent(machine, "guest-fsfreeze-thaw", self._patience(call), call))
        except StorageError:
            if machine.state(call) is not VmState.STOPPED:
                raise
            return 0

    def thaw(self, vm: VmId, call: Call) -> None:
        """See `HypervisorDriver.thaw`; a VM that is off has nothing that could be frozen."""
        machine = self._machine(vm, call)
        if machine.state(call) is not VmState.STOPPED:
            if not _has_agent(machine, call):
                return
            act_agent(machine, "guest-fsfreeze-thaw", self._patience(call), call)
        FreezeWatch(self.options.state, machine).call_off()

    def guest_state(self, vm: VmId, call: Call) -> GuestState:
        """See `HypervisorDriver.guest_state`."""
        machine = self._machine(vm, call)
        _check_agent(machine, call)
        return _state(machine, self._patience(call), call)

    def _patience(self, call: Call) -> float:
        return call.remaining(self.options.agent_timeout)


def ask_agent(machine: Machine, command: str, seconds: float, call: Call) -> Any:
    """Ask the agent something that changes nothing."""
    return _answer(machine.ask(call, lambda domain: _send(domain, command, seconds), command))


def act_agent(machine: Machine, command: str, seconds: float, call: Call) -> Any:
    """Have the agent do something."""
    return _answer(machine.act(call, lambda domain: _send(domain, command, seconds), command))


def _send(domain: Any, command: str, seconds: float) -> str:
    text = json.dumps({"execute": command})
    return str(libvirt_qemu.qemuAgentCommand(domain, text, max(1, int(seconds)), 0))


def _answer(text: str) -> Any:
    return json.loads(text)["return"]


def _state(machine: Machine, seconds: float, call: Call) -> GuestState:
    said = ask_agent(machine, "guest-fsfreeze-status", seconds, call)
    return GuestState.FROZEN if said == "frozen" else GuestState.THAWED


def _has_agent(machine: Machine, call: Call) -> bool:
    channels = machine.definition(call).iterfind("devices/channel/target")
    return any(channel.get("name") == _AGENT for channel in channels)


def _check_agent(machine: Machine, call: Call) -> None:
    if not _has_agent(machine, call):
        raise Unsupported(f"VM {machine.vm} has no channel for a guest agent")
    if machine.state(call) is not VmState.RUNNING:
        raise InvalidArgument(f"VM {machine.vm} does not run")


def _rescued(machine: Machine, watch: FreezeWatch) -> bool:
    """Try to thaw; tell whether the guest says that it is thawed. Else the watch goes on."""
    with suppress(StorageError):
        call = Call.within(_RESCUE)
        act_agent(machine, "guest-fsfreeze-thaw", 1, call)
        if _state(machine, 1, call) is GuestState.THAWED:
            watch.call_off()
            return True
    return False
