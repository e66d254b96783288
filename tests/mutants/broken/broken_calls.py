"""The array driver after a crash, or a strange answer: what it leaves, what it forgets, what it believes."""

# ruff: noqa: D102 - the class says what is wrong

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bollard.core.spi import (
    Call,
    Conflict,
    Host,
    Internal,
    InUse,
    Outcome,
    Page,
    PoolInfo,
    Snapshot,
    Unavailable,
    Volume,
    VolumeSpec,
)
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.primary.array import client as array_client
from bollard.drivers.primary.array import controller as array_controller
from bollard.drivers.primary.array import transport as array_transport
from bollard.drivers.primary.array.answers import Answer, Json, content_of
from bollard.drivers.primary.array.client import path_of
from bollard.drivers.primary.array.objects import READY
from bollard.transfer_objects.ids import HostId, SnapshotId, VolumeId

# What an orchestrator repeats after a crash.
CHANGES = (
    "create_volume",
    "delete_volume",
    "clone_volume",
    "resize_volume",
    "create_snapshot",
    "delete_snapshot",
    "revert_volume",
    "create_volume_from_snapshot",
    "grant",
    "revoke",
)


def _aside(driver: ArrayDriver, name: str) -> Path:
    """Return a directory that all processes of the driver share, and that goes with the simulator's."""
    ca = driver.options.ca
    assert ca is not None  # the array's simulator has TLS
    place = Path(ca).parent / f"mutant-{name}"
    place.mkdir(exist_ok=True)
    return place


# -- crashes -------------------------------------------------------------------------------------------


@contextmanager
def _locked(driver: ArrayDriver, thing: object) -> Iterator[None]:
    lock = _aside(driver, "locks") / str(getattr(thing, "id", thing))
    try:
        lock.touch(exist_ok=False)
    except FileExistsError as error:
        raise InUse(f"{lock.name} is locked by another process") from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _under_lock(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: Any, thing: object, *args: Any, **kwargs: Any) -> Any:
        with _locked(self, thing):
            return original(self, thing, *args, **kwargs)

    return method


class LockFilesStay(ArrayDriver):
    """Each change holds a lock file, without an owner, which is removed at the end of the call."""


for _name in CHANGES:
    setattr(LockFilesStay, _name, _under_lock(getattr(ArrayDriver, _name)))


class BooksOfItsOwn(ArrayDriver):
    """What there is stands in a file of the driver's: written after the array's work, removed before it."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        done = self._book(spec.id).exists()
        return self.get_volume(spec.id, call) if done else self._booked(spec, super().create_volume, call)

    def _new_copy(self, spec: VolumeSpec, origin: str, locate: Callable[..., str], call: Call) -> Volume:
        done = self._book(spec.id).exists()
        copy = functools.partial(super()._new_copy, origin=origin, locate=locate)
        return self.get_volume(spec.id, call) if done else self._booked(spec, copy, call)

    def delete_volume(self, volume: VolumeId, call: Call) -> None:
        if self._struck(volume):
            super().delete_volume(volume, call)

    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        if not self._book(snapshot).exists() and self._find_snapshot(self._client.talk(call), snapshot):
            raise Conflict("the array has a snapshot of the name already")
        cut = super().create_snapshot(volume, snapshot, call)
        self._book(snapshot).touch()
        return cut

    def delete_snapshot(self, snapshot: SnapshotId, call: Call) -> None:
        if self._struck(snapshot):
            super().delete_snapshot(snapshot, call)

    def grant(self, volume: VolumeId, host: Host, call: Call, *, read_only: bool = False) -> Any:
        if not self._book(volume, host.id).exists() and self.list_grants(volume, call):
            raise Conflict("the array has a grant of the host already")
        location = super().grant(volume, host, call, read_only=read_only)
        self._book(volume, host.id).touch()
        return location

    def revoke(self, volume: VolumeId, host: HostId, call: Call) -> None:
        if self._struck(volume, host):
            super().revoke(volume, host, call)

    def _booked(self, spec: VolumeSpec, make: Callable[..., Volume], call: Call) -> Volume:
        if self._find_any(self._client.talk(call), spec.id):
            raise Conflict("the array has a volume of the name already")
        made = make(spec, call=call)
        self._book(spec.id).touch()
        return made

    def _book(self, *names: str) -> Path:
        return _aside(self, "books") / ",".join(names)

    def _struck(self, *names: str) -> bool:
        try:
            self._book(*names).unlink()
        except FileNotFoundError:
            return False
        return True


class ReservesTheName(ArrayDriver):
    """A copy begins with an empty volume that has the name; a repeat takes it for the copy."""

    def _new_copy(self, spec: VolumeSpec, origin: str, locate: Callable[..., str], call: Call) -> Volume:
        talk = self._client.talk(call)
        if self._find(talk, spec.id) is None:
            labels = self._labels(spec.id, spec.name, origin, READY)
            body = {"name": self._name(spec.id), "size": self._rounded(spec.size), "metadata": labels}
            empty = talk.post("/volumes", {**body, "pool": self.options.pool})
            talk.delete(path_of("volumes", empty["id"]))
        return super()._new_copy(spec, origin, locate, call)


class MakesItSmallFirst(ArrayDriver):
    """A volume is made with a MiB, and gets its size then; a repeat says that the id is taken."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        if self._find(self._client.talk(call), spec.id) is not None:
            return super().create_volume(spec, call)
        super().create_volume(replace(spec, size=2**20), call)
        return self.resize_volume(spec.id, spec.size, call)


class WritesTheSizeDown(ArrayDriver):
    """A resize notes the new size, and then grows; a repeat finds the note and has nothing to do."""

    def resize_volume(self, volume: VolumeId, size: int, call: Call) -> Volume:
        note = _aside(self, "sizes") / volume
        if note.exists() and note.read_text() == str(size):
            return self.get_volume(volume, call)
        note.write_text(str(size))
        return super().resize_volume(volume, size, call)


class CutsBeforeReverts(ArrayDriver):
    """A revert begins with a snapshot of what is lost, and is refused while there is one."""

    def revert_volume(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Volume:
        safety, talk = SnapshotId(f"{snapshot}-safety"), self._client.talk(call)
        if self._find_snapshot(talk, safety) is not None:
            raise InUse(f"a revert of {volume} is running")
        self.create_snapshot(volume, safety, call)
        done = super().revert_volume(volume, snapshot, call)
        self.delete_snapshot(safety, call)
        return done


class ListsItsOwn(ArrayDriver):
    """What another process made is not listed."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        self.__dict__.setdefault("made", set()).add(spec.id)
        return super().create_volume(spec, call)

    def list_volumes(self, call: Call, *, after: str | None = None, limit: int = 1000) -> Page[Volume]:
        page = super().list_volumes(call, after=after, limit=limit)
        return Page(items=[v for v in page.items if v.id in self.__dict__.get("made", ())], after=page.after)


# -- answers -------------------------------------------------------------------------------------------


class RefusedIsABug(ArrayDriver):
    """Whoever does not answer gives Internal."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        try:
            return super().create_volume(spec, call)
        except Unavailable as error:
            raise Internal(error.message, outcome=error.outcome) from error


class TimeoutsArePerByte(ArrayDriver):
    """The deadline is how long a byte may take; all of them together may take five seconds."""

    def open(self, call: Call) -> PoolInfo:
        array_transport._left = _per_byte
        return super().open(call)


def _per_byte(until: float | None) -> float | None:
    return None if until is None else max(1e-3, min(1.5, until + 3.5 - time.monotonic()))


class DeletesOnce(ArrayDriver):
    """The array's "not found" is what a delete says, too."""

    def delete_volume(self, volume: VolumeId, call: Call) -> None:
        talk = self._client.talk(call)
        found = self._find_any(talk, volume)
        if found is not None:
            talk.delete(path_of("volumes", found.id))


class _Believes(ArrayDriver):
    """Reads the array's answers in its own way."""

    def open(self, call: Call) -> PoolInfo:
        for reader in (array_client, array_controller):
            reader.content_of = self._content  # type: ignore[attr-defined] # the name that it reads by
        return super().open(call)

    @staticmethod
    def _content(answer: Answer, what: str, **how: Any) -> Json:
        raise NotImplementedError


class GarbledIsRefused(_Believes):
    """What cannot be read is a refusal: nothing was done."""

    @staticmethod
    def _content(answer: Answer, what: str, **how: Any) -> Json:
        try:
            return content_of(answer, what, **how)
        except Internal as error:
            error.outcome = Outcome.NOT_APPLIED
            raise


class StatusIsAll(_Believes):
    """A status of 200 is a success, whatever is in the answer."""

    @staticmethod
    def _content(answer: Answer, what: str, **how: Any) -> Json:
        told = answer.json()
        return {} if told is None and answer.status == 200 else content_of(answer, what, **how)


class ThrottledIsABug(_Believes):
    """Statuses that nobody thought of are Internal."""

    @staticmethod
    def _content(answer: Answer, what: str, **how: Any) -> Json:
        if answer.status in (429, 503):
            raise Internal(f"{what}: status {answer.status}", outcome=Outcome.NOT_APPLIED)
        return content_of(answer, what, **how)


class LogsInAndForgets(ArrayDriver):
    """A session that ended is renewed, and the request that met its end is not sent again."""

    def open(self, call: Call) -> PoolInfo:
        array_controller.Controller.answer = _sent_once  # type: ignore[method-assign] # the defect
        return super().open(call)


def _sent_once(self: array_controller.Controller, method: str, path: str, call: Call, **rest: Any) -> Answer:
    token = self._logged_in(call, expired=None)
    answer = self._patiently(method, path, call, token=token, **rest)
    if answer.status != 401 or method == "GET":
        return answer
    self._logged_in(call, expired=token)
    return Answer(status=200, content_type="application/json", body=json.dumps({}).encode())
