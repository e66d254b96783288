"""The array driver with its manners wrong: deadlines, certificates, secrets, numbers of requests."""

# ruff: noqa: ARG002 - the SPI says what the arguments are

from __future__ import annotations

import dataclasses
import ssl
from typing import Any

from bollard.core.spi import (
    Call,
    Capacity,
    Host,
    NbdLocation,
    Page,
    PoolInfo,
    Snapshot,
    StorageError,
    Traits,
    Volume,
    VolumeSpec,
)
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.primary.array import controller as array_controller
from bollard.drivers.primary.array.client import ArrayClient, Conversation
from bollard.drivers.primary.array.objects import ArrayVolume
from bollard.drivers.primary.array.options import ArrayOptions
from bollard.transfer_objects.ids import HostId, SnapshotId, VolumeId

MIB = 2**20


class TrustsAnyCertificate(ArrayDriver):
    """Certificates are not looked at."""

    def open(self, call: Call) -> PoolInfo:
        """Open without verification."""
        array_controller._tls = lambda options: ssl._create_unverified_context()  # noqa: S323, ARG005 - the defect
        return super().open(call)


class IgnoresDeadlines(ArrayDriver):
    """A call takes as long as the backend likes, or until a time-out of the driver's own."""

    def __init__(self, options: ArrayOptions) -> None:
        super().__init__(dataclasses.replace(options, timeout=8.0))

    @property
    def _client(self) -> Any:  # no client, and used as one
        return _Patient(super()._client)


class _Patient:
    def __init__(self, client: Any) -> None:
        self._inner = client

    def talk(self, call: Call) -> Any:
        return self._inner.talk(dataclasses.replace(call, deadline=None))


class TellsThePassword(ArrayDriver):
    """Errors, private data and names tell the password."""

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        """Tell it."""
        try:
            found = super().get_volume(volume, call)
        except StorageError as error:
            error.message = f"{error.message} (as {self.options.username}:{self.options.password.reveal()})"
            raise
        return dataclasses.replace(
            found, private={**found.private, "password": self.options.password.reveal()}
        )

    def open(self, call: Call) -> PoolInfo:
        """Tell it when the login fails, too."""
        try:
            return super().open(call)
        except StorageError as error:
            error.message = f"{error.message} ({self.options.password.reveal()})"
            error.args = (error.message,)
            raise


class RetriesWithoutEnd(ArrayDriver):
    """What fails is sent again at once, a hundred times."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        """Ask until there is an answer."""
        for _ in range(100):
            try:
                return super().create_volume(spec, call)
            except StorageError:
                continue
        return super().create_volume(spec, call)


class LooksThroughTheList(ArrayDriver):
    """A volume is found by listing all of them, one a page."""

    def _named(self, talk: Conversation, name: str) -> ArrayVolume | None:
        list(talk.items("/volumes", pool=self.options.pool))
        cursor = None
        while True:
            _, cursor = talk.page("/volumes", pool=self.options.pool, limit=1, cursor=cursor)
            if cursor is None:
                return super()._named(talk, name)


class NewSessionPerCall(ArrayDriver):
    """Each call connects and logs in anew, and none closes what it opened."""

    @property
    def _client(self) -> ArrayClient:
        kept: list[ArrayClient] = self.__dict__.setdefault("clients", [])
        kept.append(ArrayClient(self.options))
        return kept[-1]


class TraitsChange(ArrayDriver):
    """The traits are other ones each time that one asks."""

    def traits(self) -> Traits:
        """Grow."""
        self.asked: int = self.__dict__.get("asked", 0) + 1
        return dataclasses.replace(super().traits(), max_snapshots_per_volume=self.asked)


class CapacityFromMemory(ArrayDriver):
    """Capacity is remembered in MiB, and from memory it is told as if these were bytes."""

    def capacity(self, call: Call) -> Capacity:
        """Ask the first time, and remember."""
        kept: Capacity | None = self.__dict__.get("kept")
        if kept is not None:
            return kept
        now = super().capacity(call)
        self.kept = Capacity(total=now.total // MIB, used=now.used // MIB, provisioned=now.provisioned // MIB)
        return now


class RevokesOnClose(ArrayDriver):
    """Closing the pool takes the grants of this process back."""

    def grant(self, volume: VolumeId, host: Host, call: Call, *, read_only: bool = False) -> NbdLocation:
        """Grant, and remember."""
        self.__dict__.setdefault("given", []).append((volume, host.id))
        return super().grant(volume, host, call, read_only=read_only)

    def close(self) -> None:
        """Take back."""
        for volume, host in self.__dict__.pop("given", []):
            super().revoke(volume, host, Call.within(10))
        super().close()


class DeletesOnClose(ArrayDriver):
    """Closing the pool deletes the snapshots and volumes that this process made."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        """Make, and remember."""
        self.__dict__.setdefault("made", []).append(spec.id)
        return super().create_volume(spec, call)

    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        """Cut, and remember."""
        self.__dict__.setdefault("cut", []).append(snapshot)
        return super().create_snapshot(volume, snapshot, call)

    def close(self) -> None:
        """Delete."""
        for snapshot in self.__dict__.pop("cut", []):
            super().delete_snapshot(snapshot, Call.within(10))
        for volume in self.__dict__.pop("made", []):
            try:
                super().delete_volume(volume, Call.within(10))
            except StorageError:
                continue
        super().close()


class RevokesOtherVolumes(ArrayDriver):
    """A revoke takes everything from a host."""

    def revoke(self, volume: VolumeId, host: HostId, call: Call) -> None:
        """Take all volumes."""
        for other in self.list_volumes(call).items:
            super().revoke(other.id, host, call)


class ListsForeign(ArrayDriver):
    """Volumes of others are listed under their own names."""

    def list_volumes(self, call: Call, *, after: str | None = None, limit: int = 1000) -> Page[Volume]:
        """List all of the pool."""
        page = super().list_volumes(call, after=after, limit=limit)
        ours = {volume.id for volume in page.items}
        shown = self._client.talk(call).items("/volumes", pool=self.options.pool)
        every = [Volume(id=VolumeId(s["name"]), size=s["size"], name=s["name"]) for s in shown]
        return Page(items=[*page.items, *(v for v in every if v.id not in ours)], after=page.after)
