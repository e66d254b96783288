"""Marks: what was begun with a VM, written down before it is done, so that a repeat can end it.

<state>/<host>/begun/<vm>.<what>
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ....core.dataplane.os_errors import os_errors
from ....core.spi import Call, Outcome, StorageError, VmState
from .drafts import drop_dead_draft
from .machine import Machine
from .register import strike_out, write_whole


class Mark:
    """One thing that may have been begun."""

    def __init__(self, state: Path, machine: Machine, what: str) -> None:
        self._path = state / machine.link.host / "begun" / f"{machine.vm}.{what}"

    def set(self, text: str = "") -> None:
        """Write down that it begins."""
        write_whole(self._path, text.encode())

    def read(self) -> str | None:
        """Return what was written down; None if nothing was begun, then a killed draft goes, too."""
        with os_errors(f"cannot read {self._path}"):
            try:
                return self._path.read_text()
            except FileNotFoundError:
                drop_dead_draft(self._path)
                return None

    def clear(self) -> None:
        """Strike it out: it ended."""
        strike_out(self._path)


@contextmanager
def unknown_if_it_fails() -> Iterator[None]:
    """Let nobody believe that nothing was done, if what is tidied up here could not be.

    libvirtd that is gone is "not applied" for the question which finds that out, and not for what was begun
    before: that has left the VM paused, say, until a repeat.
    """
    try:
        yield
    except StorageError as error:
        error.outcome = Outcome.UNKNOWN
        raise


@contextmanager
def running_again(state: Path, machine: Machine, call: Call, *, pause: bool) -> Iterator[None]:
    """Resume a VM that ran before, on every path out; after a kill -9 the next block like this does.

    Args:
        pause: stop the guest for the time of the block.
    """
    mark = Mark(state, machine, "paused")
    ran = machine.state(call) is VmState.RUNNING or mark.read() is not None
    if not ran:
        yield
        return
    mark.set()
    try:
        if pause and machine.state(call) is VmState.RUNNING:
            machine.act(call, lambda domain: domain.suspend(), "pausing it")
        yield
    finally:
        with unknown_if_it_fails():
            machine.resume(Call.within(max(5.0, _left(call))))
        mark.clear()


def end_pause(state: Path, machine: Machine, call: Call) -> None:
    """Resume a VM that a killed process had paused."""
    if Mark(state, machine, "paused").read() is not None:
        with running_again(state, machine, call, pause=False):
            pass


def _left(call: Call) -> float:
    return 0.0 if call.deadline is None else call.deadline - call.clock()
