"""Who may use a volume: grants, CHAP, and the proof that a revoked host is out.

The host's initiator is registered under the host's id as its name, so the array itself tells which
host a grant is about. NBD takes the place of a CHAP login: the export name carries a proof of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ....core.spi import (
    Busy,
    Call,
    Chap,
    Conflict,
    Grant,
    Host,
    Internal,
    InUse,
    InvalidArgument,
    NbdLocation,
    NotFound,
    Outcome,
    PermissionDenied,
    Unsupported,
)
from ....transfer_objects.ids import HostId, VolumeId
from ....transfer_objects.secret import Secret
from .answers import Json, member
from .client import Conversation, path_of
from .objects import SEALED, ArrayGrant, ArrayVolume
from .volumes import ArrayVolumes, delete_if_there

_PROOF_PATIENCE = 5.0  # seconds that a revoked host's sessions may take to end
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5  # seconds between looks


@dataclass(frozen=True, slots=True)
class _Held:
    """A grant, and one host that has it."""

    grant: ArrayGrant
    host: HostId
    initiator: str


class ArrayAccess(ArrayVolumes, Chap):
    """Grants are made per initiator; groups that an administrator made are seen and not touched."""

    def grant(self, volume: VolumeId, host: Host, call: Call, *, read_only: bool = False) -> NbdLocation:
        """See `AccessControl.grant`.

        Raises:
            PermissionDenied: a sealed template is not given out for writing.
            Conflict: the iqn is registered on the array under another name than the host's id.
        """
        secret = _chap_of(host)
        talk = self._client.talk(call)
        found = self._volume(talk, volume)
        if found.state == SEALED and not read_only:
            raise PermissionDenied(f"volume {volume} is a sealed template: grant it read-only")
        self._refuse_clash(talk, found, host.id, read_only=read_only)
        initiator = self._registered(talk, host, secret)
        shown = self._granted(talk, found, initiator, read_only=read_only)
        if not read_only:
            self._refuse_lost_race(talk, found, ArrayGrant.of(shown))
        return _location(found, shown, host, secret)

    def revoke(self, volume: VolumeId, host: HostId, call: Call) -> None:
        """See `AccessControl.revoke`. Returns when the array lists neither grant nor session of the host.

        Raises:
            Internal: outcome unknown, if that does not come true.
        """
        talk = self._client.talk(call)
        found = self._find(talk, volume)
        if found is None:
            return
        # Also without a grant: one that was killed after it had registered the host leaves an initiator.
        theirs = self._initiators_named(talk, host)
        with contextlib.suppress(NotFound):  # the volume was deleted at the same time
            self._prove_out(talk, found, host, theirs)
            for initiator in theirs:
                with contextlib.suppress(InUse):  # the host has other volumes
                    delete_if_there(talk, "initiators", initiator)

    def list_grants(self, volume: VolumeId, call: Call) -> Sequence[Grant]:
        """See `AccessControl.list_grants`; a host that has a group's grant is listed, too."""
        talk = self._client.talk(call)
        found = self._volume(talk, volume)
        return [
            Grant(volume=volume, host=held.host, read_only=held.grant.read_only)
            for held in self._held(talk, found)
        ]

    def rotate_chap(self, host: Host, call: Call) -> None:
        """See `Chap.rotate_chap`. A host that is not registered brings its secret with its next grant."""
        secret = _chap_of(host)
        talk = self._client.talk(call)
        initiator = self._initiator_of(talk, host.iqn)
        if initiator is not None:
            with contextlib.suppress(NotFound):  # revoked since we looked: it is not registered any more
                self._set_chap(talk, initiator, host, secret)

    # -- initiators -----------------------------------------------------------------------------------

    def _initiator_of(self, talk: Conversation, iqn: str) -> Json | None:
        return next(talk.items("/initiators", iqn=iqn), None)

    def _initiators_named(self, talk: Conversation, host: HostId) -> Mapping[str, str]:
        """Return the iqns that are registered for a host, by the array's ids."""
        shown = talk.items("/initiators", name=host)
        mine = (one for one in shown if member(one, "name", str) == host)
        return {member(one, "id", str): member(one, "iqn", str) for one in mine}

    def _registered(self, talk: Conversation, host: Host, secret: Secret) -> str:
        """Return the array's id of the host's initiator, which has the host's secret from now on."""
        shown = self._initiator_of(talk, host.iqn)
        if shown is not None:
            try:
                self._set_chap(talk, shown, host, secret)
            except NotFound as error:  # its last volume was revoked since we looked, and it went with that
                raise Busy(f"host {host.id} is being forgotten by another caller") from error
            return member(shown, "id", str)
        body = {"iqn": host.iqn, "name": host.id, **_chap_body(host, secret)}
        try:
            return member(talk.post("/initiators", body, [secret]), "id", str)
        except Conflict as error:
            raise Busy(f"host {host.id} is being registered by another caller") from error

    def _set_chap(self, talk: Conversation, shown: Json, host: Host, secret: Secret) -> None:
        name = member(shown, "name", str)
        if name != host.id:
            raise Conflict(f"the array knows {host.iqn} as {name!r}, not as host {host.id}")
        talk.patch(path_of("initiators", member(shown, "id", str)), _chap_body(host, secret), [secret])

    # -- grants ---------------------------------------------------------------------------------------

    def _grants(self, talk: Conversation, found: ArrayVolume) -> Iterator[ArrayGrant]:
        return map(ArrayGrant.of, talk.items(f"{path_of('volumes', found.id)}/grants"))

    def _held(self, talk: Conversation, found: ArrayVolume) -> Iterator[_Held]:
        """Yield the grants of a volume as they are now, oldest first, with the hosts that have them."""
        for grant in self._grants(talk, found):
            with contextlib.suppress(NotFound):  # its group or initiator went, and the grant with it
                for initiator in _initiators(talk, grant):
                    name = member(talk.get(path_of("initiators", initiator)), "name", str)
                    yield _Held(grant, HostId(name), initiator)

    def _refuse_clash(self, talk: Conversation, found: ArrayVolume, host: HostId, *, read_only: bool) -> None:
        """Refuse what the grants that exist rule out, before anything is changed."""
        for held in self._held(talk, found):
            if held.host == host and held.grant.read_only != read_only:
                raise Conflict(f"host {host} has the volume with read_only = {held.grant.read_only}")
            if held.host != host and not (read_only or held.grant.read_only):
                raise InUse(f"the volume is granted for writing to host {held.host}")

    def _refuse_lost_race(self, talk: Conversation, found: ArrayVolume, ours: ArrayGrant) -> None:
        """Give our grant back if another host's came first: two callers had both seen none."""
        first = next((grant for grant in self._grants(talk, found) if not grant.read_only), ours)
        if first.id != ours.id:
            delete_if_there(talk, "volumes", found.id, "grants", ours.id)
            raise InUse("another host was granted the volume for writing at the same time")

    def _granted(self, talk: Conversation, found: ArrayVolume, initiator: str, *, read_only: bool) -> Json:
        body = {"initiator": initiator, "read_only": read_only}
        try:
            return talk.post(f"{path_of('volumes', found.id)}/grants", body)
        except NotFound as error:
            raise Busy("the volume or the host was removed at the same time") from error

    def _prove_out(
        self, talk: Conversation, found: ArrayVolume, host: HostId, theirs: Mapping[str, str]
    ) -> None:
        until, pause = talk.call.clock() + _PROOF_PATIENCE, 0.0  # mostly the second look shows nothing
        while self._still_in(talk, found, theirs):
            if talk.call.clock() >= until:
                raise Internal(f"the array does not let go of host {host}", outcome=Outcome.UNKNOWN)
            talk.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE) or _FIRST_PAUSE

    def _still_in(self, talk: Conversation, found: ArrayVolume, theirs: Mapping[str, str]) -> bool:
        """Take back what the host has; tell whether there was anything: only an empty look is a proof."""
        held = [grant for grant in self._grants(talk, found) if _is_to(talk, grant, theirs)]
        for grant in held:
            if grant.initiator is not None:
                delete_if_there(talk, "volumes", found.id, "grants", grant.id)
        return bool(held) or not self._iqns_with_sessions(talk, found).isdisjoint(theirs.values())

    def _iqns_with_sessions(self, talk: Conversation, found: ArrayVolume) -> set[str]:
        shown = talk.items(f"{path_of('volumes', found.id)}/sessions")
        return {member(one, "iqn", str) for one in shown}


def _is_to(talk: Conversation, grant: ArrayGrant, theirs: Mapping[str, str]) -> bool:
    """Tell whether a grant is to one of these initiators, or to a group with one of them."""
    try:
        return not theirs.keys().isdisjoint(_initiators(talk, grant))
    except NotFound:  # the group went, and the grant with it
        return False


def _initiators(talk: Conversation, grant: ArrayGrant) -> Sequence[str]:
    if grant.initiator is not None:
        return [grant.initiator]
    if grant.group is None:
        raise Internal(f"the array's grant {grant.id} is to nobody")
    return member(talk.get(path_of("initiator-groups", grant.group)), "initiators", list)


def _chap_of(host: Host) -> Secret:
    if not host.iqn or not host.chap_user or not host.chap_secret:
        raise InvalidArgument(f"host {host.id} needs iqn, chap_user and chap_secret for this array")
    return host.chap_secret


def _chap_body(host: Host, secret: Secret) -> Json:
    return {"chap_user": host.chap_user, "chap_secret": secret.reveal()}


def _location(found: ArrayVolume, shown: Json, host: Host, secret: Secret) -> NbdLocation:
    door = member(shown, "connection", dict)
    if member(door, "protocol", str) != "nbd":
        raise Unsupported("the array offers the volume over another protocol than NBD")
    if member(door, "serial", str) != found.serial:
        raise Internal("the array offers another volume than was granted", outcome=Outcome.APPLIED)
    return NbdLocation(
        address=(member(door, "host", str), member(door, "port", int)),
        export=export_name(found.serial, host.iqn, secret),
        size=found.size,
        read_only=member(shown, "read_only", bool),
    )


def export_name(serial: str, iqn: str, secret: Secret) -> Secret:
    """Return the export that proves the host (docs/simulators-array.md, Data path).

    serial ":" iqn ":" hex(HMAC-SHA256(key = CHAP secret, message = serial ":" iqn))
    """
    who = f"{serial}:{iqn}"
    proof = hmac.new(secret.reveal().encode(), who.encode(), hashlib.sha256).hexdigest()
    return Secret(f"{who}:{proof}")
