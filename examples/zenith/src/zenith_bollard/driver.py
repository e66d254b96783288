"""Bollard's driver for Zenith.

Our id is the array's name of a volume or snapshot; what else we must remember is in its metadata. What
has not our mark there is somebody else's.
"""

import contextlib
import hashlib
import hmac
import time
from collections.abc import Sequence
from typing import Any

from bollard.core.spi import (
    TIB,
    Busy,
    Call,
    Chap,
    Conflict,
    Grant,
    Host,
    InvalidArgument,
    Location,
    ManagedPrimaryDriver,
    NbdLocation,
    NotFound,
    Page,
    PoolInfo,
    Snapshot,
    Snapshots,
    Traits,
    Unavailable,
    Volume,
    VolumeFromSnapshot,
    VolumeSpec,
)
from bollard.transfer_objects.ids import HostId, SnapshotId, VolumeId
from bollard.transfer_objects.secret import Secret

from .answers import OWNER, begun, ours, page_size, snapshot_of, the_one, volume_of
from .options import ZenithOptions
from .rest import Rest

TRAITS = Traits(max_size=64 * TIB, multi_attach=True, max_snapshots_per_volume=256)


class ZenithDriver(ManagedPrimaryDriver[ZenithOptions], Chap, Snapshots, VolumeFromSnapshot):
    """An instance serves one pool of an array. Constructing it opens nothing; `open` does."""

    spi = (1, 0)
    Options = ZenithOptions

    def __init__(self, options: ZenithOptions) -> None:
        super().__init__(options)
        self._rest = Rest(options)

    def open(self, call: Call) -> PoolInfo:
        """Connect and check the pool."""
        system = self._rest.send(call, "GET", "/system")
        pool = self._rest.send(call, "GET", f"/pools/{self.options.pool}")["name"]
        return PoolInfo(identity=f"{system['serial']}/{pool}", name=pool, backend=system["firmware"])

    def close(self) -> None:
        """Log out."""
        self._rest.close()

    def traits(self) -> Traits:
        """Return the limits of the storage."""
        return TRAITS

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        """Create a volume that reads zeros; the same id and spec give the same volume."""
        return self._make(spec, "/volumes", {"pool": self.options.pool}, call)

    def delete_volume(self, volume: VolumeId, call: Call) -> None:
        """Delete; what is not there is fine."""
        try:
            self._rest.send(call, "DELETE", f"/volumes/{self._find(volume, call)['id']}")
        except NotFound:
            return

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        """Return the volume as the backend knows it now, or raise `NotFound`."""
        return volume_of(self._find(volume, call))

    def list_volumes(self, call: Call, *, after: str | None = None, limit: int = 1000) -> Page[Volume]:
        """List our volumes, oldest first; the cursor is the array's."""
        found = self._rest.send(
            call, "GET", "/volumes", pool=self.options.pool, cursor=after, limit=page_size(limit)
        )
        return Page(items=[volume_of(item) for item in found["items"] if ours(item)], after=found["next"])

    def grant(self, volume: VolumeId, host: Host, call: Call, *, read_only: bool = False) -> Location:
        """Let the host use the volume, and say where it finds it."""
        there = self._find(volume, call)
        secret = _secret(host)
        body = {"initiator": self._register(host, call), "read_only": read_only}
        made = self._rest.send(call, "POST", f"/volumes/{there['id']}/grants", body)
        where = made["connection"]
        proof = hmac.new(
            secret.encode(), f"{where['serial']}:{host.iqn}".encode(), hashlib.sha256
        ).hexdigest()
        return NbdLocation(
            address=(where["host"], where["port"]),
            export=Secret(f"{where['serial']}:{host.iqn}:{proof}"),
            size=there["size"],
            read_only=read_only,
        )

    def revoke(self, volume: VolumeId, host: HostId, call: Call) -> None:
        """Take it away; after it returned no write of the host lands."""
        try:
            home = f"/volumes/{self._find(volume, call)['id']}"
            for grant, initiator in self._grants(home, call):
                if initiator["name"] == host:
                    self._rest.send(call, "DELETE", f"{home}/grants/{grant['id']}")
                    self._prove_gone(home, initiator["iqn"], call)
        except NotFound:
            return

    def list_grants(self, volume: VolumeId, call: Call) -> Sequence[Grant]:
        """Return who may use the volume, as the array knows it."""
        home = f"/volumes/{self._find(volume, call)['id']}"
        return [
            Grant(volume=volume, host=HostId(initiator["name"]), read_only=grant["read_only"])
            for grant, initiator in self._grants(home, call)
        ]

    def rotate_chap(self, host: Host, call: Call) -> None:
        """Use the host's new secret from now on."""
        self._register(host, call)

    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        """Take a snapshot; the same id on the same volume gives the same one."""
        there = self._find(volume, call)
        try:
            return self._same(self.get_snapshot(snapshot, call), volume)
        except NotFound:
            body = {"name": snapshot, "metadata": {**OWNER, "volume": volume}}
        with contextlib.suppress(Conflict):  # another call of the same name was faster
            self._rest.send(call, "POST", f"/volumes/{there['id']}/snapshots", body)
        try:
            with begun():
                return self._same(self.get_snapshot(snapshot, call), volume)
        except NotFound as error:
            raise Busy(f"snapshot {snapshot} is being deleted by another call") from error

    def delete_snapshot(self, snapshot: SnapshotId, call: Call) -> None:
        """Delete; what is not there is fine."""
        try:
            self._rest.send(call, "DELETE", f"/snapshots/{self._find_snapshot(snapshot, call)['id']}")
        except NotFound:
            return

    def get_snapshot(self, snapshot: SnapshotId, call: Call) -> Snapshot:
        """Return it, or raise `NotFound`."""
        return snapshot_of(self._find_snapshot(snapshot, call))

    def list_snapshots(
        self, volume: VolumeId, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[Snapshot]:
        """List a volume's snapshots, oldest first."""
        path = f"/volumes/{self._find(volume, call)['id']}/snapshots"
        found = self._rest.send(call, "GET", path, cursor=after, limit=page_size(limit))
        return Page(items=[snapshot_of(item) for item in found["items"] if ours(item)], after=found["next"])

    def create_volume_from_snapshot(self, snapshot: SnapshotId, spec: VolumeSpec, call: Call) -> Volume:
        """Create a volume that starts as a copy of the snapshot."""
        source = self._find_snapshot(snapshot, call)
        if spec.size < source["size"]:
            raise InvalidArgument(f"the snapshot has {source['size']} bytes, the volume only {spec.size}")
        return self._make(spec, f"/snapshots/{source['id']}/clone", {}, call)

    def _make(self, spec: VolumeSpec, path: str, more: dict[str, str], call: Call) -> Volume:
        size = TRAITS.rounded(spec.size)
        body = {"name": spec.id, "size": size, "metadata": {**OWNER, "name": spec.name}, **more}
        with contextlib.suppress(Conflict):  # an earlier try made it, or it is another one
            self._rest.send(call, "POST", path, body)
        try:
            with begun():
                while (there := self._find(spec.id, call))["state"] == "creating":  # a clone takes time
                    time.sleep(min(0.05, call.remaining()))
        except NotFound as error:
            raise Busy(f"volume {spec.id} is being deleted by another call") from error
        source = there["source"]["id"] if there["source"] else ""
        if there["size"] != size or source not in path or bool(source) != path.startswith("/snapshots"):
            raise Conflict(
                f"volume {spec.id} exists with {there['size']} bytes, made of {source or 'nothing'}"
            )
        return volume_of(there)

    def _find(self, volume: VolumeId, call: Call) -> Any:
        found = self._rest.send(call, "GET", "/volumes", name=volume, pool=self.options.pool)["items"]
        return the_one(found, f"volume {volume}")

    def _find_snapshot(self, snapshot: SnapshotId, call: Call) -> Any:
        found = self._rest.send(call, "GET", "/snapshots", name=snapshot)["items"]
        return the_one([item for item in found if item["pool"] == self.options.pool], f"snapshot {snapshot}")

    def _same(self, found: Snapshot, volume: VolumeId) -> Snapshot:
        if found.volume != volume:
            raise Conflict(f"snapshot {found.id} is one of volume {found.volume}")
        return found

    def _register(self, host: Host, call: Call) -> str:
        """Return the array's id of the host, which has this secret from now on."""
        who = {"name": host.id, "chap_user": host.chap_user, "chap_secret": _secret(host)}
        known = self._rest.send(call, "GET", "/initiators", iqn=host.iqn)["items"]
        if known:
            return str(self._rest.send(call, "PATCH", f"/initiators/{known[0]['id']}", who)["id"])
        return str(self._rest.send(call, "POST", "/initiators", {**who, "iqn": host.iqn})["id"])

    def _grants(self, home: str, call: Call) -> list[tuple[Any, Any]]:
        """Return the grants to hosts, each with its initiator."""
        grants = self._rest.send(call, "GET", f"{home}/grants")["items"]
        mine = [grant for grant in grants if grant["initiator"]]
        return [(grant, self._rest.send(call, "GET", f"/initiators/{grant['initiator']}")) for grant in mine]

    def _prove_gone(self, home: str, iqn: str, call: Call) -> None:
        sessions = self._rest.send(call, "GET", f"{home}/sessions")["items"]
        if any(session["iqn"] == iqn for session in sessions):
            raise Unavailable("the array has not ended the host's sessions yet")


def _secret(host: Host) -> str:
    if not (host.iqn and host.chap_user and host.chap_secret):
        raise InvalidArgument("the array needs the host's iqn, chap_user and chap_secret")
    return host.chap_secret.reveal()
