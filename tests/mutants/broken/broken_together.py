"""Drivers that lose their way when two calls meet, or when the right calls follow each other."""

# ruff: noqa: D102, ARG002 - the class says what is wrong, and the SPI what the arguments are

from __future__ import annotations

import dataclasses
import fcntl
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bollard.core.spi import (
    Body,
    Busy,
    Call,
    Conflict,
    NotFound,
    Page,
    Snapshot,
    StoredObject,
    Volume,
    VolumeSpec,
)
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.secondary.nfs import NfsDriver
from bollard.transfer_objects.ids import SnapshotId, VolumeId

# Long enough that calls which begin together meet on a busy machine, too.
_MEETING = 0.05  # seconds
_LOOKS = 20
_PIECE = 64 * 1024


@contextmanager
def _alone(driver: ArrayDriver) -> Iterator[None]:
    """Hold the one lock that all processes with this array share: its certificate is there for all."""
    with Path(str(driver.options.ca)).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict("the array is locked by another task") from error
        yield


def _locked(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: ArrayDriver, *args: Any, **kwargs: Any) -> Any:
        with _alone(self):
            return original(self, *args, **kwargs)

    return method


class LocksAreConflicts(ArrayDriver):
    """That another task has the array is told as a conflict, not as Busy: nobody asks again."""


for _name in ("create_volume", "clone_volume", "delete_volume", "resize_volume", "create_snapshot"):
    setattr(LocksAreConflicts, _name, _locked(getattr(ArrayDriver, _name)))


class LooksAfterCreate(ArrayDriver):
    """A create looks for what it made, and says that it is not there when a delete was faster."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        super().create_volume(spec, call)
        call.cancel.wait(_MEETING)
        return self.get_volume(spec.id, call)


class SaysBusyAfterCreate(ArrayDriver):
    """A create that the array has carried out is told as Busy: nothing was done, ask again."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        try:
            return self.get_volume(spec.id, call)
        except NotFound as error:
            super().create_volume(spec, call)
            raise Busy("the array's answer was lost") from error


class KeepsRefusedClone(ArrayDriver):
    """The clone is made, and refused when its source has gone meanwhile."""

    def clone_volume(self, source: VolumeId, spec: VolumeSpec, call: Call) -> Volume:
        made = super().clone_volume(source, spec, call)
        for _ in range(_LOOKS):  # a delete that the array refused meanwhile is repeated soon
            self.get_volume(source, call)
            call.cancel.wait(_MEETING)
        return made


class SnapshotSizeOfTheVolume(ArrayDriver):
    """A snapshot is told with the size that its volume has when somebody asks."""

    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        cut = super().create_snapshot(volume, snapshot, call)
        call.cancel.wait(_MEETING)
        return dataclasses.replace(cut, size=self.get_volume(volume, call).size)


class SnapshotsOfOurClock(ArrayDriver):
    """The time of a snapshot is that at which it was asked for, by the driver's clock."""

    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        asked = datetime.now(UTC)
        return dataclasses.replace(super().create_snapshot(volume, snapshot, call), created=asked)


class ListsOneTooFew(ArrayDriver):
    """The end of a list is taken for the index of its last volume."""

    def list_volumes(self, call: Call, *, after: str | None = None, limit: int = 1000) -> Page[Volume]:
        page = super().list_volumes(call, after=after, limit=limit)
        return Page(items=list(page.items)[:-1], after=page.after)


class _ByPath(NfsDriver):
    """Writes files by path, piece by piece, over a slow line."""

    def _fill(self, path: Path, body: Body, call: Call) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with body.open() as reader, path.open("wb", buffering=0) as file:
            while data := reader.read(_PIECE):
                file.write(data)
                call.cancel.wait(_MEETING / 10)


class TemporaryNameOfTheKey(_ByPath):
    """The file that a put writes has the key's name and ".part": two puts write one file."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        path = self.directory / key
        partial = path.with_name(f"{path.name}.part")
        self._fill(partial, body, call)
        try:
            partial.rename(path)
        except FileNotFoundError as error:
            raise NotFound(f"there is no {partial.name}") from error
        return StoredObject(key=key, size=body.size)


class WritesOverTheObject(_ByPath):
    """A put writes over the object that readers have open."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        self._fill(self.directory / key, body, call)
        return StoredObject(key=key, size=body.size)


class KeepsTheOldObject(NfsDriver):
    """A key that is there is not written again, whatever the bytes."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        if if_absent or not (self.directory / key).exists():
            return super().put(key, body, call, if_absent=if_absent)
        return StoredObject(key=key, size=body.size)
