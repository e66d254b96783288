"""The fence drivers with one method wrong each."""

# ruff: noqa: D102, ARG002 - the class says what is wrong, and the driver what the arguments are

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

from bollard.core.spi import (
    Call,
    Conflict,
    Internal,
    Outcome,
    PowerState,
    StorageError,
    Unauthenticated,
    Unavailable,
)
from bollard.drivers.fence.child import Exchange
from bollard.drivers.fence.ipmi.driver import IpmiFence
from bollard.drivers.fence.redfish.driver import RedfishFence

_READ = "read"


class BelievesYes(IpmiFence):
    """What the BMC agreed to counts as done."""

    def _confirm(self, wanted: PowerState, call: Call) -> None:
        return


class BelievesYesToOn(IpmiFence):
    """A host that the BMC has agreed to switch on counts as on."""

    def _confirm(self, wanted: PowerState, call: Call) -> None:
        if wanted is PowerState.OFF:
            super()._confirm(wanted, call)


class BelievesOneReading(IpmiFence):
    """A host that reads off is off; nobody looks a second time."""

    def _confirm(self, wanted: PowerState, call: Call) -> None:
        self._reach(wanted, call)


class CyclesPower(IpmiFence):
    """Fences by a power cycle, after which the host runs again."""

    def power_off(self, call: Call) -> None:
        super().power_off(call)
        super().power_on(call)


class RemembersState(IpmiFence):
    """The state is read once."""

    _known: PowerState | None = None

    def power_state(self, call: Call) -> PowerState:
        self._known = self._known or super().power_state(call)
        return self._known


class SecondTimeIsConflict(IpmiFence):
    """What is as it should be already cannot be asked for."""

    def _switch(self, wanted: PowerState, call: Call) -> None:
        if self.power_state(call) is wanted:
            raise Conflict(f"the host is {wanted} already")
        super()._switch(wanted, call)


class PressesTheButton(IpmiFence):
    """Both commands press the power button: what was on is off, and what was off is on."""

    def power_off(self, call: Call) -> None:
        self._press(call)

    def power_on(self, call: Call) -> None:
        self._press(call)

    def _press(self, call: Call) -> None:
        now = self.power_state(call)
        self._switch(PowerState.ON if now is PowerState.OFF else PowerState.OFF, call)


class SwallowsErrors(IpmiFence):
    """A BMC that cannot be asked has no power, so the host has none, and counts as off."""

    def _ask(self, act: str, call: Call) -> str:
        try:
            return super()._ask(act, call)
        except StorageError:
            return "off"


class LoginFailsInternally(IpmiFence):
    """A login that the BMC refuses is the driver's own failure."""

    def _ask(self, act: str, call: Call) -> str:
        try:
            return super()._ask(act, call)
        except Unauthenticated as error:
            raise Internal("unexpected answer", outcome=error.outcome) from error


class UnknownUserTurnsUnknown(IpmiFence):
    """Whoever is not let in cannot say whether the host was switched."""

    def _ask(self, act: str, call: Call) -> str:
        try:
            return super()._ask(act, call)
        except Unauthenticated as error:
            raise Unauthenticated(error.message, outcome=Outcome.UNKNOWN) from error


class IgnoresTheDeadline(IpmiFence):
    """The driver's own time-out decides, whatever the call says."""

    def _ask(self, act: str, call: Call) -> str:
        return super()._ask(act, replace(Call.within(600.0), cancel=call.cancel))


class IgnoresCancel(IpmiFence):
    """Nobody looks whether the call was cancelled."""

    def _ask(self, act: str, call: Call) -> str:
        return super()._ask(act, replace(call, cancel=threading.Event()))


class LostAnswersAreNothing(IpmiFence):
    """Whatever fails has not been done."""

    def _switch(self, wanted: PowerState, call: Call) -> None:
        try:
            super()._switch(wanted, call)
        except StorageError as error:
            raise type(error)(error.message, outcome=Outcome.NOT_APPLIED) from error


class KeepsItsSession(IpmiFence):
    """Nobody logs out."""

    def _ask(self, act: str, call: Call) -> str:
        os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # of the child, which inherits nothing else
        options = self.options
        request = {
            "act": act,
            "host": options.host,
            "port": options.port,
            "username": options.username,
            "privilege": 3,
        }
        return Exchange("fence_session_kept", request, options.password, options.timeout).run(call)


class CanBeClosedOnce(IpmiFence):
    """The second close fails."""

    _closed = False

    def close(self) -> None:
        if self._closed:
            raise Internal("it is closed")
        self._closed = True


class OnlyOneAtATime(IpmiFence):
    """A second one that fences at the same time fails."""

    def power_off(self, call: Call) -> None:
        lock = f"\0bollard-mutant-fence-{self.options.port}"
        with socket.socket(socket.AF_UNIX) as held:
            try:
                held.bind(lock)
            except OSError as error:
                raise Internal("somebody else is fencing") from error
            super().power_off(call)


class PasswordInArguments(IpmiFence):
    """The password is an argument of a program, which everybody on the machine can read."""

    def power_off(self, call: Call) -> None:
        program = "import time; time.sleep(1)"
        subprocess.run([sys.executable, "-c", program, self.options.password.reveal()], check=True)
        super().power_off(call)


class TellsThePassword(IpmiFence):
    """An error shows whom it was talking to, and how."""

    def _ask(self, act: str, call: Call) -> str:
        try:
            return super()._ask(act, call)
        except StorageError as error:
            text = f"{self.options.username}:{self.options.password.reveal()}@{self.options.host}"
            raise type(error)(f"{text}: {error.message}", outcome=error.outcome) from error


class LostReplyCountsAsDone(RedfishFence):
    """A command whose answer was lost was done, and a host that cannot be read is dead."""

    def _ask(self, act: str, call: Call) -> str:
        try:
            return super()._ask(act, call)
        except Unavailable:
            return "off" if act == _READ else "done"
