"""The array driver with one method wrong each: grants, revokes, CHAP."""

# ruff: noqa: D102, ARG002 - the class says what is wrong, and the SPI what the arguments are

from __future__ import annotations

from collections.abc import Sequence

from bollard.core.spi import Call, Grant, Host, InUse, NbdLocation, NotFound
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.primary.array.client import Conversation
from bollard.drivers.primary.array.objects import ArrayGrant, ArrayVolume
from bollard.transfer_objects.ids import HostId, VolumeId


class RevokeUnknownRaises(ArrayDriver):
    """Revoking from a host that has nothing is an error."""

    def revoke(self, volume: VolumeId, host: HostId, call: Call) -> None:
        if host not in {grant.host for grant in self.list_grants(volume, call)}:
            raise NotFound(f"host {host} has no grant on volume {volume}")
        super().revoke(volume, host, call)


class RevokeLies(ArrayDriver):
    """A revoke does nothing and says that it did."""

    def revoke(self, volume: VolumeId, host: HostId, call: Call) -> None:
        return


class RevokeTakesAll(ArrayDriver):
    """A revoke takes the volume from every host."""

    def revoke(self, volume: VolumeId, host: HostId, call: Call) -> None:
        if self._find(self._client.talk(call), volume) is None:
            return
        for grant in self.list_grants(volume, call):
            super().revoke(volume, grant.host, call)


class ManyWriters(ArrayDriver):
    """A second writer is let in, though the traits say otherwise."""

    def _refuse_clash(self, talk: Conversation, found: ArrayVolume, host: HostId, *, read_only: bool) -> None:
        return

    def _refuse_lost_race(self, talk: Conversation, found: ArrayVolume, ours: ArrayGrant) -> None:
        return


class LostRacesAreKept(ArrayDriver):
    """Two hosts that come at the same time are both let in."""

    def _refuse_lost_race(self, talk: Conversation, found: ArrayVolume, ours: ArrayGrant) -> None:
        return


class SecondGrantIsInUse(ArrayDriver):
    """Granting again is refused."""

    def grant(self, volume: VolumeId, host: Host, call: Call, *, read_only: bool = False) -> NbdLocation:
        if self.list_grants(volume, call):
            raise InUse(f"volume {volume} is granted")
        return super().grant(volume, host, call, read_only=read_only)


class GrantsAreNotListed(ArrayDriver):
    """Nobody has anything, whoever asks."""

    def list_grants(self, volume: VolumeId, call: Call) -> Sequence[Grant]:
        self._volume(self._client.talk(call), volume)
        return []


class ReadOnlyIsForgotten(ArrayDriver):
    """A read-only grant is one for writing."""

    def grant(self, volume: VolumeId, host: Host, call: Call, *, read_only: bool = False) -> NbdLocation:
        return super().grant(volume, host, call, read_only=False)


class ChapIsNotChanged(ArrayDriver):
    """A new CHAP secret is for the next host."""

    def rotate_chap(self, host: Host, call: Call) -> None:
        return
