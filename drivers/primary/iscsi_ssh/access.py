"""Who may use a volume: a target of its own for each host, with its IQN and its CHAP account alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ....core.spi import (
    Call,
    Chap,
    Grant,
    Host,
    InvalidArgument,
    IscsiLocation,
    checked_id,
)
from ....transfer_objects.ids import HostId, VolumeId, is_valid_id
from ....transfer_objects.secret import Secret
from .volumes import IscsiVolumes

# RFC 3720, 3.2.6. tgt takes the name and the account as they are.
_IQN = re.compile(r"(?:iqn|eui|naa)\.[a-z0-9.:-]{1,219}")
_USER = re.compile(r"[A-Za-z0-9._:@+-]{1,223}")
# RFC 3720, 8.2.1: at least 96 bits. A comma ends a parameter of tgt's.
_SECRET = re.compile(r"[!-+\--~]{12,128}")


class IscsiAccess(IscsiVolumes, Chap):
    """Grants are kept on the array; agent/exports.py says how, and what proves a revoke."""

    def grant(self, volume: VolumeId, host: Host, call: Call, *, read_only: bool = False) -> IscsiLocation:
        """See `AccessControl.grant`. A host that comes with another IQN or CHAP user loses the former ones.

        Raises:
            PermissionDenied: a sealed template is not given out for writing.
            Conflict: the CHAP user is another host's on this array.
        """
        secret = _chap_of(host)
        shown = self._array.ask(
            "grant",
            call,
            volume=checked_id("volume", volume),
            host=host.id,
            iqn=host.iqn,
            user=host.chap_user,
            secret=secret.reveal(),
            read_only=read_only,
        )
        address, port = shown["portal"]
        return IscsiLocation(
            portal=(address.strip("[]"), port),  # [2001:db8::5]:3260
            target=shown["target"],
            lun=shown["lun"],
            initiator=host.iqn,
            chap_user=host.chap_user,
            chap_secret=secret,
            size=shown["size"],
            read_only=read_only,
        )

    def revoke(self, volume: VolumeId, host: HostId, call: Call) -> None:
        """See `AccessControl.revoke`. Returns when tgtd has ended the host's sessions and commands."""
        if is_valid_id(host):  # to no other one was anything ever granted
            self._array.ask("revoke", call, volume=checked_id("volume", volume), host=host)

    def list_grants(self, volume: VolumeId, call: Call) -> Sequence[Grant]:
        """See `AccessControl.list_grants`; a host is listed until its revoke is done."""
        shown = self._array.ask("list-grants", call, volume=checked_id("volume", volume))
        return [Grant(volume=volume, host=HostId(g["host"]), read_only=g["read_only"]) for g in shown]

    def rotate_chap(self, host: Host, call: Call) -> None:
        """See `Chap.rotate_chap`. A host without a grant brings its secret with its next one."""
        secret = _chap_of(host)
        self._array.ask("rotate", call, user=host.chap_user, secret=secret.reveal(), host=host.id)


def _chap_of(host: Host) -> Secret:
    checked_id("host", host.id)
    if not _IQN.fullmatch(host.iqn):
        raise InvalidArgument(f"host {host.id} needs an iqn of a-z, 0-9, '.', ':' and '-'")
    if not _USER.fullmatch(host.chap_user):
        raise InvalidArgument(f"host {host.id} needs a chap_user of letters, digits and ._:@+-")
    if host.chap_secret is None or not _SECRET.fullmatch(host.chap_secret.reveal()):
        raise InvalidArgument(
            f"host {host.id} needs a chap_secret of 12 to 128 printable characters without blank and comma"
        )
    return host.chap_secret
