"""A small honest primary driver that fails on command.

Its array is a directory (tests put it into `tmp_path`), so that it outlives a process killed with -9
as a real array would:

    v-ID.raw  v-ID.json      a volume: bytes and metadata      v-ID@HOST.grant   who may use it
    s-ID.raw  s-ID.json      a snapshot                        t-ID.json         a template and its seal
"""

# ruff: noqa: ARG002, D102 - the methods are the interface's, whose docstrings stand in core/spi

from __future__ import annotations

import functools
import json
import shutil
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bollard.core.spi import (
    Adopts,
    Call,
    Capability,
    Capacity,
    ChangedBlocks,
    Chap,
    ClonesVolume,
    Conflict,
    DirectSnapshotRead,
    Extent,
    FileLocation,
    Grant,
    Guest,
    HasDependents,
    HasQos,
    Host,
    HostPrimaryDriver,
    InUse,
    InvalidArgument,
    ManagedPrimaryDriver,
    NotFound,
    Page,
    PoolInfo,
    PrimaryDriver,
    Qos,
    QuiescedSnapshots,
    ReportsCapacity,
    Resizes,
    Reverts,
    Snapshot,
    Snapshots,
    TemplateCache,
    TemplateSpec,
    Traits,
    VmRef,
    VmSnapshots,
    VmSnapshotTaken,
    Volume,
    VolumeFromSnapshot,
    VolumeSpec,
    option,
)
from bollard.transfer_objects.ids import HostId, SnapshotId, TemplateId, VolumeId
from bollard.transfer_objects.secret import Secret

BLOCK = 4096
PASSWORD = "corr3ct/horse+battery"

Fault = Exception | Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class RamOptions:
    """Where the array lives, and a password that must not be seen anywhere."""

    directory: Path = option(help="The array")
    password: Secret = option(help="Its password", secret=True, default=Secret(PASSWORD))


def _spi(method: Callable[..., Any]) -> Callable[..., Any]:
    """Count a call, and let planned faults strike before it or after it (a lost reply)."""

    @functools.wraps(method)
    def wrapper(self: RamCore, *args: Any, **kwargs: Any) -> Any:
        name = method.__name__
        with self.counting:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        self.calls.append(name)
        try:
            self.strike(self.before[name])
            result = method(self, *args, **kwargs)
            self.strike(self.after[name])
            return result
        finally:
            with self.counting:
                self.running -= 1

    return wrapper


class RamCore(PrimaryDriver[RamOptions]):
    """All abilities, none of them declared; `fail` plans faults."""

    Options = RamOptions

    def __init__(self, options: RamOptions) -> None:
        super().__init__(options)
        self.dir = options.directory
        self.before: dict[str, deque[Fault]] = defaultdict(deque)
        self.after: dict[str, deque[Fault]] = defaultdict(deque)
        self.calls: list[str] = []
        self.seen: list[Call] = []
        self.closed = 0
        self.lacking: Mapping[Capability, str] = {}
        self.limits = Traits(delete_with_snapshots=True)
        self.extents: Iterable[Extent] | None = None
        self.page_cursors: Iterator[str | None] | None = None
        self.vm_members: Mapping[VolumeId, SnapshotId] | None = None
        self.counting = threading.Lock()
        self.running = self.most_running = 0

    def fail(self, method: str, *faults: Fault, after: bool = False) -> None:
        """Let the next calls of `method` raise (or run) these, one each."""
        (self.after if after else self.before)[method].extend(faults)

    def strike(self, faults: deque[Fault]) -> None:
        """Carry out the next planned fault."""
        if not faults:
            return
        fault = faults.popleft()
        if isinstance(fault, Exception):
            raise fault
        fault()

    # -- the array ------------------------------------------------------------------------------------

    def path(self, kind: str, name: str, suffix: str) -> Path:
        return self.dir / f"{kind}-{name}.{suffix}"

    def save(self, kind: str, name: str, /, **fields: Any) -> None:
        temporary = self.path(kind, name, "new")
        temporary.write_text(json.dumps(fields))
        temporary.rename(self.path(kind, name, "json"))

    def load(self, kind: str, name: str) -> dict[str, Any]:
        try:
            fields: dict[str, Any] = json.loads(self.path(kind, name, "json").read_text())
        except FileNotFoundError as error:
            raise NotFound(f"there is no {kind}-{name}") from error
        return fields

    def drop(self, kind: str, name: str) -> None:
        for suffix in ("json", "raw", "new"):
            self.path(kind, name, suffix).unlink(missing_ok=True)

    def names(self, kind: str, suffix: str = "json") -> list[str]:
        return sorted(p.stem.removeprefix(f"{kind}-") for p in self.dir.glob(f"{kind}-*.{suffix}"))

    def _make(self, spec: VolumeSpec, source: Path | None) -> Volume:
        if spec.id in self.names("v"):
            found = self._volume(spec.id)
            if found.size != spec.size:
                raise Conflict(f"{spec.id} has another size")
            return found
        raw = self.path("v", spec.id, "raw")
        raw.write_bytes(source.read_bytes() if source else b"")
        with raw.open("r+b") as file:
            file.truncate(spec.size)
        self.save("v", spec.id, size=spec.size, name=spec.name, qos=spec.qos and asdict(spec.qos))
        return self._volume(spec.id)

    def _volume(self, volume: VolumeId) -> Volume:
        fields = self.load("v", volume)
        qos = Qos(**fields["qos"]) if fields["qos"] else None
        return Volume(id=volume, size=fields["size"], name=fields["name"], qos=qos, identity=f"naa.{volume}")

    def _snapshot(self, snapshot: SnapshotId) -> Snapshot:
        fields = self.load("s", snapshot)
        return Snapshot(
            id=snapshot,
            volume=VolumeId(fields["volume"]),
            size=fields["size"],
            created=datetime.fromisoformat(fields["created"]),
        )

    def _cut(self, volume: VolumeId, snapshot: SnapshotId) -> Snapshot:
        size = self._volume(volume).size
        if snapshot in self.names("s"):
            found = self._snapshot(snapshot)
            if found.volume != volume:
                raise Conflict(f"{snapshot} is of another volume")
            return found
        shutil.copy(self.path("v", volume, "raw"), self.path("s", snapshot, "raw"))
        self.save("s", snapshot, volume=volume, size=size, created=datetime.now(UTC).isoformat())
        return self._snapshot(snapshot)

    # -- mandatory ------------------------------------------------------------------------------------

    def close(self) -> None:
        self.calls.append("close")
        self.closed += 1

    @_spi
    def open(self, call: Call) -> PoolInfo:
        self.dir.mkdir(exist_ok=True)
        return PoolInfo(identity=f"ram:{self.dir.name}", name=self.dir.name)

    def traits(self) -> Traits:
        self.calls.append("traits")
        self.strike(self.before["traits"])
        return self.limits

    @_spi
    def unavailable(self, call: Call) -> Mapping[Capability, str]:
        return self.lacking

    @_spi
    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        self.seen.append(call)
        return self._make(spec, None)

    @_spi
    def delete_volume(self, volume: VolumeId, call: Call) -> None:
        if self.names(f"v-{volume}@", "grant"):
            raise InUse(f"{volume} is granted")
        self.drop("v", volume)

    @_spi
    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        return self._volume(volume)

    @_spi
    def list_volumes(self, call: Call, *, after: str | None = None, limit: int = 2) -> Page[Volume]:
        names = [n for n in self.names("v") if after is None or n > after][: limit + 1]
        items = [self._volume(VolumeId(n)) for n in names[:limit]]
        cursor = names[limit - 1] if len(names) > limit else None
        return Page(items=items, after=next(self.page_cursors) if self.page_cursors else cursor)

    # -- one method or two for each mix-in ------------------------------------------------------------

    @_spi
    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        return self._cut(volume, snapshot)

    @_spi
    def delete_snapshot(self, snapshot: SnapshotId, call: Call) -> None:
        self.drop("s", snapshot)

    @_spi
    def get_snapshot(self, snapshot: SnapshotId, call: Call) -> Snapshot:
        return self._snapshot(snapshot)

    @_spi
    def list_snapshots(
        self, volume: VolumeId, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[Snapshot]:
        found = [self._snapshot(SnapshotId(n)) for n in self.names("s")]
        return Page(items=[s for s in found if s.volume == volume])

    @_spi
    def locate_snapshot(self, snapshot: SnapshotId, call: Call) -> FileLocation:
        self._snapshot(snapshot)
        return FileLocation(path=self.path("s", snapshot, "raw"), format="raw", read_only=True)

    @_spi
    def revert_volume(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Volume:
        fields = self.load("v", volume) | {"size": self._snapshot(snapshot).size}
        shutil.copy(self.path("s", snapshot, "raw"), self.path("v", volume, "raw"))
        self.save("v", volume, **fields)
        return self._volume(volume)

    @_spi
    def clone_volume(self, source: VolumeId, spec: VolumeSpec, call: Call) -> Volume:
        self._volume(source)
        return self._make(spec, self.path("v", source, "raw"))

    @_spi
    def create_volume_from_snapshot(self, snapshot: SnapshotId, spec: VolumeSpec, call: Call) -> Volume:
        self._snapshot(snapshot)
        return self._make(spec, self.path("s", snapshot, "raw"))

    @_spi
    def resize_volume(self, volume: VolumeId, size: int, call: Call) -> Volume:
        fields = self.load("v", volume)
        if size < fields["size"]:
            raise InvalidArgument("volumes do not shrink")
        with self.path("v", volume, "raw").open("r+b") as file:
            file.truncate(size)
        self.save("v", volume, **fields | {"size": size})
        return self._volume(volume)

    @_spi
    def changed(
        self, base: SnapshotId | None, target: SnapshotId, call: Call, *, start: int = 0
    ) -> Iterator[Extent]:
        return iter(self.extents) if self.extents is not None else self._changed(base, target, start)

    def _changed(self, base: SnapshotId | None, target: SnapshotId, start: int) -> Iterator[Extent]:
        new = self.path("s", target, "raw").read_bytes()
        old = self.path("s", base, "raw").read_bytes() if base else b""
        for offset in range(0, len(new), BLOCK):
            block = new[offset : offset + BLOCK]
            self.strike(self.before["next extent"])
            if block != old[offset : offset + BLOCK] and offset + len(block) > start:
                yield Extent(offset, len(block))

    @_spi
    def grant(self, volume: VolumeId, host: Host, call: Call, *, read_only: bool = False) -> FileLocation:
        self._volume(volume)
        grant = self.dir / f"v-{volume}@{host.id}.grant"
        if grant.exists() and json.loads(grant.read_text()) != read_only:
            raise Conflict(f"{host.id} has the volume with another mode")
        temporary = grant.with_suffix(".new")
        temporary.write_text(json.dumps(read_only))
        temporary.rename(grant)
        return FileLocation(path=self.path("v", volume, "raw"), format="raw", read_only=read_only)

    @_spi
    def revoke(self, volume: VolumeId, host: HostId, call: Call) -> None:
        for suffix in ("grant", "new"):
            (self.dir / f"v-{volume}@{host}.{suffix}").unlink(missing_ok=True)

    @_spi
    def list_grants(self, volume: VolumeId, call: Call) -> Sequence[Grant]:
        return [
            Grant(volume=volume, host=HostId(p.stem.partition("@")[2]), read_only=json.loads(p.read_text()))
            for p in sorted(self.dir.glob(f"v-{volume}@*.grant"))
        ]

    @_spi
    def locate_volume(self, volume: VolumeId, call: Call) -> FileLocation:
        self._volume(volume)
        return FileLocation(path=self.path("v", volume, "raw"), format="raw")

    @_spi
    def rotate_chap(self, host: Host, call: Call) -> None:
        (self.dir / f"chap-{host.id}").write_text(host.chap_user)

    @_spi
    def set_qos(self, volume: VolumeId, qos: Qos | None, call: Call) -> Volume:
        self.save("v", volume, **self.load("v", volume) | {"qos": qos and asdict(qos)})
        return self._volume(volume)

    @_spi
    def take_vm_snapshot(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call) -> VmSnapshotTaken:
        members = {v: self._cut(v, SnapshotId(f"{vm.snapshot}-{v}")).id for v in volumes}
        return VmSnapshotTaken(need_unquiesce=False, members=self.vm_members or members)

    @_spi
    def revert_vm_snapshot(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call) -> None:
        for volume in volumes:
            shutil.copy(self.path("s", f"{vm.snapshot}-{volume}", "raw"), self.path("v", volume, "raw"))

    @_spi
    def delete_vm_snapshot(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call) -> None:
        for volume in volumes:
            self.drop("s", f"{vm.snapshot}-{volume}")

    @_spi
    def create_quiesced_snapshot(
        self, volume: VolumeId, snapshot: SnapshotId, guest: Guest, call: Call
    ) -> Snapshot:
        """Freeze and cut, but leave the thaw to core: the worst that a driver may do."""
        guest.freeze()
        self.strike(self.before["cut"])
        return self._cut(volume, snapshot)

    @_spi
    def adopt_volume(self, native_name: str, spec: VolumeSpec, call: Call) -> Volume:
        return self._make(spec, self.dir / native_name)

    @_spi
    def release_volume(self, volume: VolumeId, call: Call) -> str:
        self.path("v", volume, "raw").rename(self.dir / f"was-{volume}")
        self.drop("v", volume)
        return f"was-{volume}"

    @_spi
    def prepare_template(self, template: TemplateSpec, call: Call) -> Volume:
        self.save("t", template.id, sealed=False)
        return self._make(VolumeSpec(id=VolumeId(template.id), size=template.size), None)

    @_spi
    def seal_template(self, template: TemplateId, call: Call) -> None:
        self.save("t", template, **self.load("t", template) | {"sealed": True})

    @_spi
    def create_volume_from_template(self, template: TemplateId, spec: VolumeSpec, call: Call) -> Volume:
        if not self.load("t", template)["sealed"]:
            raise NotFound(f"template {template} is not sealed")
        return self._make(spec, self.path("v", template, "raw"))

    @_spi
    def evict_template(self, template: TemplateId, call: Call) -> None:
        if any(v.startswith(f"{template}-") for v in self.names("v")):
            raise HasDependents(f"volumes need {template}")
        self.drop("t", template)
        self.drop("v", template)

    @_spi
    def capacity(self, call: Call) -> Capacity:
        used = sum(self._volume(VolumeId(n)).size for n in self.names("v"))
        return Capacity(total=2**40, used=used, provisioned=used)


class RamManaged(
    RamCore,
    ManagedPrimaryDriver[RamOptions],
    Snapshots,
    Reverts,
    ClonesVolume,
    VolumeFromSnapshot,
    Resizes,
    ChangedBlocks,
    Chap,
    HasQos,
    VmSnapshots,
    QuiescedSnapshots,
    Adopts,
    TemplateCache,
    ReportsCapacity,
):
    """An array: everything but reading a snapshot as it stands."""


class RamDirect(RamManaged, DirectSnapshotRead):
    """An array that can do that, too."""


class RamHost(RamCore, HostPrimaryDriver[RamOptions], Snapshots, DirectSnapshotRead, VolumeFromSnapshot):
    """A pool of files that hosts mount."""


class RamBare(RamCore, ManagedPrimaryDriver[RamOptions]):
    """An array that declares nothing, although the methods are there."""


class RamBareHost(RamCore, HostPrimaryDriver[RamOptions]):
    """The same for a host pool; the opposite of `AccessControl`."""
