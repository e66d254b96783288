"""A volume of a host that does not answer, given to another host.

    who has it? ──> fence: off, and read back ──> revoke, proven ──> grant
                      │ any error                   │ any error        │
                      v                             v                  v
                  nothing has changed        the dead host may     a repeat goes on;
                                             still be listed       it fences again

A revoke does not make a host forget: queued writes of QEMU landed 14 s after the host was granted the volume
again (reference: tgt, libiscsi). Nor does it stop a host that cannot be asked whether it still runs its VMs.
So power comes first. That a host was off a minute ago is not remembered: watchdogs and administrators switch
hosts on, so each try reads anew.

A host that answers needs none of this: stop or detach there, forget, revoke, grant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..transfer_objects.ids import HostId, VolumeId
from .fence import Fence
from .pool import Pool
from .spi import Call, Host, InUse, InvalidArgument, Location
from .steps import step


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """From one host that is to be dead.

    Attributes:
        dead: the host whose volumes are given away.
        fence: of that host. It is asked before anything else is done.
    """

    pool: Pool
    dead: HostId
    fence: Fence

    def take(self, volume: VolumeId, heir: Host, call: Call, *, read_only: bool = False) -> Location:
        """Give one volume to `heir`, and return where it finds it.

        Raises:
            InvalidArgument: the heir is the dead host; nothing was done, nobody was fenced.
            InUse: a third host has the volume for writing; nobody was fenced.
            StorageError: of the fence: the host must be taken as alive, and keeps the volume.
        """
        self._check(volume, heir, call)
        self.fence.power_off(step(call))
        return self._pass_on(volume, heir, call, read_only=read_only)

    def take_all(self, volumes: Sequence[VolumeId], heir: Host, call: Call) -> dict[VolumeId, Location]:
        """Give several volumes to `heir` after one fencing; raises as `take`, also in the middle."""
        for volume in volumes:
            self._check(volume, heir, call)
        self.fence.power_off(step(call))
        return {volume: self._pass_on(volume, heir, call, read_only=False) for volume in volumes}

    def _check(self, volume: VolumeId, heir: Host, call: Call) -> None:
        if heir.id == self.dead:
            raise InvalidArgument(f"host {self.dead} cannot inherit from itself: fence it, then grant")
        for grant in self.pool.volumes.grants(volume, step(call)):
            if grant.host not in (self.dead, heir.id) and not grant.read_only:
                raise InUse(f"volume {volume} is granted to host {grant.host}, which is not to be fenced")

    def _pass_on(self, volume: VolumeId, heir: Host, call: Call, *, read_only: bool) -> Location:
        self.pool.volumes.revoke(volume, self.dead, step(call))
        return self.pool.volumes.grant(volume, heir, step(call), read_only=read_only)
