"""A guest that is frozen for a cut and no longer, and thawed on every path.

    look ── thawed ──> freeze ──> cut ──> still frozen? ──> thaw ──> look
              │          │ fails            │ no: the cut is not clean, it goes
              │          v                  v
            busy       thaw               thaw        <── each failure, each exception

The founding text ANDs what the drivers answer to "must the guest be unquiesced?": one that says no leaves
it frozen for all. Here any yes is enough, and since thawing a thawed guest is fine by contract, nobody's no
is waited for. A killed process thaws nobody: the driver's own time limit does, and `sync` looks again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ...transfer_objects.ids import VmId
from ..spi import Busy, Call, DeadlineExceeded, GuestState, Internal, Outcome, StorageError
from .hypervisor import Hypervisor

_log = logging.getLogger("bollard.vm_snapshots")

DEFAULT_WINDOW = 10.0  # seconds: fsfreeze in the guest agent has the same limit
_RESCUE = 10.0  # seconds for a thaw; on top of whatever deadline has passed


@dataclass(slots=True, kw_only=True)
class FrozenGuest:
    """The guest of a VM while it is frozen.

    Attributes:
        call: for the cut: it ends before the guest thaws by itself.
        seconds: how long it was frozen, from before the freeze to after the thaw.
    """

    call: Call
    seconds: float = 0.0
    _state: Callable[[], GuestState]

    def check(self) -> None:
        """Make sure that it is still frozen; what was cut since may hold half a write.

        Raises:
            DeadlineExceeded: it has thawed meanwhile.
        """
        if self._state() is not GuestState.FROZEN:
            raise DeadlineExceeded("the guest thawed before the cut was made", outcome=Outcome.APPLIED)


@contextmanager
def frozen(
    hypervisor: Hypervisor, vm: VmId, call: Call, window: float = DEFAULT_WINDOW
) -> Iterator[FrozenGuest]:
    """Freeze a running guest for the block.

    Args:
        window: seconds after which it thaws by itself; the block's call ends then, too.

    Raises:
        Busy: somebody else has it frozen.
        Internal: it cannot be thawed (the outcome of the block is applied).
    """
    if guest_state(hypervisor, vm, call) is GuestState.FROZEN:
        raise Busy(f"the guest of VM {vm} is frozen by somebody else")
    begun = call.clock()
    inner = _until(call, begun + window)
    guest = FrozenGuest(call=inner, _state=lambda: guest_state(hypervisor, vm, inner))
    try:
        hypervisor.run("vm.freeze", lambda c: hypervisor.driver.freeze(vm, c), _until(call, begun + window))
        yield guest
    except BaseException:
        with _quietly():
            thaw(hypervisor, vm)
        raise
    thaw(hypervisor, vm)
    guest.seconds = call.clock() - begun


def thaw(hypervisor: Hypervisor, vm: VmId) -> None:
    """Thaw, and ask the guest whether that is so; it may take some seconds more than any deadline.

    Raises:
        Internal: the guest says that it is still frozen.
    """
    call = Call.within(_RESCUE)
    hypervisor.run("vm.thaw", lambda c: hypervisor.driver.thaw(vm, c), call)
    if guest_state(hypervisor, vm, call) is GuestState.FROZEN:
        raise Internal(f"the guest of VM {vm} is still frozen after a thaw", outcome=Outcome.APPLIED)


def guest_state(hypervisor: Hypervisor, vm: VmId, call: Call) -> GuestState:
    """Ask the guest."""
    return hypervisor.run(
        "vm.guest_state",
        lambda c: hypervisor.driver.guest_state(vm, c),
        Call(deadline=call.deadline, cancel=call.cancel, clock=call.clock),
    )


def _until(call: Call, end: float) -> Call:
    deadline = end if call.deadline is None else min(end, call.deadline)
    return Call(deadline=deadline, cancel=call.cancel, clock=call.clock)


@contextmanager
def _quietly() -> Iterator[None]:
    """Log a failed rescue: why it was needed matters more."""
    try:
        yield
    except StorageError as error:
        _log.warning("a guest could not be thawed, its own time limit is left: %s", error)
