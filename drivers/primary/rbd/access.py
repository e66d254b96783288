"""Who may use a volume; agent/access.py says how, and agent/fencing.py what proves a revoke."""

from __future__ import annotations

from collections.abc import Sequence

from ....core.spi import Call, Grant, Host, RbdLocation, checked_id
from ....transfer_objects.ids import HostId, VolumeId, is_valid_id
from .reached import location_of
from .volumes import RbdVolumes


class RbdAccess(RbdVolumes):
    """A cephx user for each volume and host. The key is Ceph's; of the host its id is all that is needed."""

    def grant(self, volume: VolumeId, host: Host, call: Call, *, read_only: bool = False) -> RbdLocation:
        """See `AccessControl.grant`. A clone of a volume or snapshot is made a full copy first.

        Raises:
            PermissionDenied: a sealed template is not given out for writing.
        """
        shown = self._agents.ask(
            "grant",
            call,
            volume=checked_id("volume", volume),
            host=checked_id("host", host.id),
            read_only=read_only,
        )
        return location_of(self.options, shown, read_only=read_only)

    def revoke(self, volume: VolumeId, host: HostId, call: Call) -> None:
        """See `AccessControl.revoke`. Returns when every OSD of the pool refuses the host's clients."""
        if is_valid_id(host):  # to no other one was anything ever granted
            self._agents.ask("revoke", call, volume=checked_id("volume", volume), host=host)

    def list_grants(self, volume: VolumeId, call: Call) -> Sequence[Grant]:
        """See `AccessControl.list_grants`; a host is listed until its revoke is done."""
        shown = self._agents.ask("list-grants", call, volume=checked_id("volume", volume))
        return [Grant(volume=volume, host=HostId(g["host"]), read_only=g["read_only"]) for g in shown]
