"""The array driver with its life wrong: repeats, processes, errors, what is left behind."""

# ruff: noqa: ARG002 - the SPI says what the arguments are

from __future__ import annotations

import dataclasses
import fcntl
import functools
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from bollard.core.spi import (
    Call,
    Conflict,
    Internal,
    NotFound,
    Outcome,
    PoolInfo,
    StorageError,
    Unsupported,
    Volume,
    VolumeSpec,
)
from bollard.drivers.primary.array import ArrayDriver
from bollard.transfer_objects.ids import VolumeId

Driver = TypeVar("Driver", bound=type[ArrayDriver])
Around = Callable[..., Any]

# What an orchestrator repeats when it has lost the answer.
CHANGES = (
    "create_volume",
    "delete_volume",
    "clone_volume",
    "resize_volume",
    "set_qos",
    "create_snapshot",
    "delete_snapshot",
    "revert_volume",
    "create_volume_from_snapshot",
    "grant",
    "revoke",
    "adopt_volume",
    "release_volume",
    "prepare_template",
    "seal_template",
    "create_volume_from_template",
    "evict_template",
    "take_vm_snapshot",
    "revert_vm_snapshot",
    "delete_vm_snapshot",
)


def each_change(before: Callable[[Any, str, tuple[Any, ...]], None]) -> Callable[[Driver], Driver]:
    """Run `before(driver, method, arguments)` ahead of each change of a driver class."""

    def decorate(cls: Driver) -> Driver:
        for name in CHANGES:
            setattr(cls, name, _after(before, getattr(cls, name)))
        return cls

    return decorate


def _after(before: Around, original: Around) -> Around:
    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        before(self, original.__name__, args)
        return original(self, *args, **kwargs)

    return method


def _refuse_repeat(driver: Any, method: str, arguments: tuple[Any, ...]) -> None:
    done = driver.__dict__.setdefault("done", set())
    what = (method, *(str(a) for a in arguments if not isinstance(a, Call)))
    if what in done:
        raise Conflict(f"{method} was done already")
    done.add(what)


def _refuse_others(driver: Any, method: str, arguments: tuple[Any, ...]) -> None:
    if not driver.__dict__.get("owner"):
        raise Conflict(f"another process has the pool; {method} {arguments[0]} is refused")


@each_change(_refuse_repeat)
class RefusesRepeats(ArrayDriver):
    """What was done once is an error the second time."""


@each_change(_refuse_others)
class OneProcessOnly(ArrayDriver):
    """Who opened the pool first is the only one who may change anything."""

    def open(self, call: Call) -> PoolInfo:
        """Open, and lock out everybody else of this machine."""
        info = super().open(call)
        # Beside the authority's file: each driver host has a temporary directory of its own.
        self.lock = Path(str(self.options.ca)).with_suffix(".lock").open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.owner = True
        except BlockingIOError:
            self.owner = False
        return info

    def close(self) -> None:
        """Close, and let the next one in."""
        super().close()
        if "lock" in self.__dict__:
            self.lock.close()


def _claiming(original: Around, outcome: Outcome) -> Around:
    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        except StorageError as error:
            error.outcome = outcome
            raise

    return method


class ClaimsNotApplied(ArrayDriver):
    """Each error says that nothing was done."""


class ClaimsApplied(ArrayDriver):
    """Each error says that all was done."""


for _name in CHANGES:
    setattr(ClaimsNotApplied, _name, _claiming(getattr(ArrayDriver, _name), Outcome.NOT_APPLIED))
    setattr(ClaimsApplied, _name, _claiming(getattr(ArrayDriver, _name), Outcome.APPLIED))


class RemembersVolumes(ArrayDriver):
    """What was seen once is answered from memory."""

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        """Look at the array the first time only."""
        seen: dict[VolumeId, Volume] = self.__dict__.setdefault("seen", {})
        if volume not in seen:
            seen[volume] = super().get_volume(volume, call)
        return seen[volume]

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        """Make it, and keep the answer."""
        made = super().create_volume(spec, call)
        self.__dict__.setdefault("seen", {})[spec.id] = made
        return made

    def delete_volume(self, volume: VolumeId, call: Call) -> None:
        """Forget it; what others delete is not seen."""
        super().delete_volume(volume, call)
        self.__dict__.get("seen", {}).pop(volume, None)


class ClosesOnce(ArrayDriver):
    """A second close is an error."""

    def close(self) -> None:
        """Close what must be open."""
        was_open = self._opened is not None
        super().close()
        if not was_open and self.__dict__.get("closed"):
            raise Internal("the pool is not open")
        self.closed = was_open


class IdentityOfTheMoment(ArrayDriver):
    """The pool has another identity each time that it is opened."""

    def open(self, call: Call) -> PoolInfo:
        """Make an identity up."""
        return dataclasses.replace(
            super().open(call), identity=f"pool-{id(self)}-{threading.get_native_id()}"
        )


class DeclaresAndRefuses(ArrayDriver):
    """Clones are declared, and refused when they are asked for."""

    def clone_volume(self, source: VolumeId, spec: VolumeSpec, call: Call) -> Volume:
        """Refuse."""
        raise Unsupported("this array has no licence for clones")


class ErrorsAreInternal(ArrayDriver):
    """Whatever goes wrong is Internal, and its outcome unknown."""

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        """Lose the class of the error."""
        try:
            return super().get_volume(volume, call)
        except StorageError as error:
            raise Internal(str(error)) from error


class PythonErrors(ArrayDriver):
    """What is not there is a KeyError."""

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        """Look it up as in a dict."""
        try:
            return super().get_volume(volume, call)
        except NotFound as error:
            raise KeyError(volume) from error


class NothingWasApplied(ArrayDriver):
    """A create that was done fails, and claims that nothing was done."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        """Create, and then fail."""
        super().create_volume(spec, call)
        raise Internal("the connection ended", outcome=Outcome.NOT_APPLIED)


class LeavesThreads(ArrayDriver):
    """A watcher is started, and nobody ends it."""

    def open(self, call: Call) -> PoolInfo:
        """Start watching."""
        threading.Thread(target=threading.Event().wait, daemon=True, name="watcher").start()
        return super().open(call)


class LeavesFiles(ArrayDriver):
    """A log file is opened, and stays open."""

    def open(self, call: Call) -> PoolInfo:
        """Begin to log."""
        _logs.append(tempfile.TemporaryFile())  # noqa: SIM115 - the leak that is to be found
        return super().open(call)


class LeavesProcesses(ArrayDriver):
    """A helper process is started, and nobody ends it."""

    def open(self, call: Call) -> PoolInfo:
        """Start a helper."""
        # With our output it would keep whoever reads that from ending.
        _helpers.append(
            subprocess.Popen(["sleep", "30"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        return super().open(call)


_logs: list[Any] = []
_helpers: list[subprocess.Popen[bytes]] = []
