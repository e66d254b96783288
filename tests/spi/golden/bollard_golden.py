"""Drivers as a vendor wrote them for SPI 1.0. Never edit: they must load and run for ever.

A change of Bollard that breaks them needs a new major of the SPI, and the next golden package beside
this one. GoldenManaged and GoldenStore work; the others only have every method that 1.0 knew.
"""

# ruff: noqa: ARG002 - the arguments are the interface's

import io
from dataclasses import dataclass
from pathlib import Path

from bollard.core.spi import (
    AccessControl,
    Adopts,
    Body,
    Call,
    Capability,
    Capacity,
    ChangedBlocks,
    Chap,
    ClonesVolume,
    Conflict,
    DirectSnapshotRead,
    FenceDriver,
    FileLocation,
    Grant,
    HasQos,
    Host,
    HostPrimaryDriver,
    HypervisorDriver,
    ImageStoreDriver,
    InvalidArgument,
    IscsiLocation,
    ManagedPrimaryDriver,
    NotFound,
    Outcome,
    Page,
    PoolInfo,
    QuiescedSnapshots,
    ReportsCapacity,
    Resizes,
    Reverts,
    Snapshots,
    StoredObject,
    StoreTraits,
    TemplateCache,
    Traits,
    Unavailable,
    VmSnapshots,
    Volume,
    VolumeFromSnapshot,
    VolumeSpec,
    option,
)
from bollard.transfer_objects.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Every argument that `option` took in 1.0."""

    url: str = option(help="Where", example="https://x", choices=("https://x", "https://y"))
    password: Secret = option(help="Password", secret=True)
    timeout: float = option(help="Seconds", default=30.0, minimum=0.1, maximum=60)


class GoldenManaged(ManagedPrimaryDriver[Options], ReportsCapacity):
    """A working array in memory."""

    spi = (1, 0)
    Options = Options

    def __init__(self, options):
        super().__init__(options)
        self.volumes = {}
        self.grants = {}

    def open(self, call: Call):
        """As SPI 1.0 has it."""
        call.log.debug("opening %s", self.options.url)
        call.remaining(at_most=self.options.timeout)
        self.options.password.reveal()
        return PoolInfo(identity="golden", name="golden", backend="1.0")

    def close(self):
        """As SPI 1.0 has it."""

    def unavailable(self, call):
        """As SPI 1.0 has it."""
        return {} if not call.cancelled() else {Capability.CAPACITY: "no licence"}

    def traits(self):
        """As SPI 1.0 has it."""
        return Traits(size_granularity=4096, multi_attach=False, concurrent_calls=True)

    def create_volume(self, spec: VolumeSpec, call):
        """As SPI 1.0 has it."""
        call.progress(0, 1)
        found = self.volumes.setdefault(spec.id, Volume(id=spec.id, size=spec.size, identity="naa.1"))
        if found.size != spec.size:
            raise Conflict("another size", outcome=Outcome.NOT_APPLIED, detail="d")
        return found

    def delete_volume(self, volume, call):
        """As SPI 1.0 has it."""
        self.volumes.pop(volume, None)

    def get_volume(self, volume, call):
        """As SPI 1.0 has it."""
        call.check(Outcome.NOT_APPLIED)
        if volume not in self.volumes:
            raise NotFound(f"no {volume}")
        return self.volumes[volume]

    def list_volumes(self, call, *, after=None, limit=1000):
        """As SPI 1.0 has it."""
        return Page(items=list(self.volumes.values())[:limit], after=None)

    def grant(self, volume, host: Host, call, *, read_only=False):
        """As SPI 1.0 has it."""
        self.grants[volume, host.id] = Grant(volume=volume, host=host.id, read_only=read_only)
        return IscsiLocation(
            portal=("array", 3260), target="iqn.x", lun=1, initiator=host.iqn, read_only=read_only
        )

    def revoke(self, volume, host, call):
        """As SPI 1.0 has it."""
        self.grants.pop((volume, host), None)

    def list_grants(self, volume, call):
        """As SPI 1.0 has it."""
        return [g for (v, _), g in self.grants.items() if v == volume]

    def capacity(self, call):
        """As SPI 1.0 has it."""
        raise Unavailable("restarting", retry_after=0.001)


class GoldenEverything(
    GoldenManaged,
    Snapshots,
    DirectSnapshotRead,
    Reverts,
    ClonesVolume,
    VolumeFromSnapshot,
    Resizes,
    ChangedBlocks,
    AccessControl,
    Chap,
    HasQos,
    VmSnapshots,
    QuiescedSnapshots,
    Adopts,
    TemplateCache,
):
    """Every mix-in of 1.0 with every method of it."""

    def create_snapshot(self, volume, snapshot, call):
        """As SPI 1.0 has it."""

    def delete_snapshot(self, snapshot, call):
        """As SPI 1.0 has it."""

    def get_snapshot(self, snapshot, call):
        """As SPI 1.0 has it."""

    def list_snapshots(self, volume, call, *, after=None, limit=1000):
        """As SPI 1.0 has it."""

    def locate_snapshot(self, snapshot, call):
        """As SPI 1.0 has it."""

    def revert_volume(self, volume, snapshot, call):
        """As SPI 1.0 has it."""

    def clone_volume(self, source, spec, call):
        """As SPI 1.0 has it."""

    def create_volume_from_snapshot(self, snapshot, spec, call):
        """As SPI 1.0 has it."""

    def resize_volume(self, volume, size, call):
        """As SPI 1.0 has it."""

    def changed(self, base, target, call, *, start=0):
        """As SPI 1.0 has it."""

    def rotate_chap(self, host, call):
        """As SPI 1.0 has it."""

    def set_qos(self, volume, qos, call):
        """As SPI 1.0 has it."""

    def take_vm_snapshot(self, volumes, vm, call):
        """As SPI 1.0 has it."""

    def revert_vm_snapshot(self, volumes, vm, call):
        """As SPI 1.0 has it."""

    def delete_vm_snapshot(self, volumes, vm, call):
        """As SPI 1.0 has it."""

    def create_quiesced_snapshot(self, volume, snapshot, guest, call):
        """As SPI 1.0 has it."""

    def adopt_volume(self, native_name, spec, call):
        """As SPI 1.0 has it."""

    def release_volume(self, volume, call):
        """As SPI 1.0 has it."""

    def prepare_template(self, template, call):
        """As SPI 1.0 has it."""

    def seal_template(self, template, call):
        """As SPI 1.0 has it."""

    def create_volume_from_template(self, template, spec, call):
        """As SPI 1.0 has it."""

    def evict_template(self, template, call):
        """As SPI 1.0 has it."""

    def capacity(self, call):
        """As SPI 1.0 has it."""
        return Capacity(total=2, used=1, provisioned=1)


class GoldenHost(HostPrimaryDriver[Options]):
    """Every method of a host pool of 1.0."""

    spi = (1, 0)
    Options = Options

    def open(self, call):
        """As SPI 1.0 has it."""

    def close(self):
        """As SPI 1.0 has it."""

    def traits(self):
        """As SPI 1.0 has it."""

    def create_volume(self, spec, call):
        """As SPI 1.0 has it."""

    def delete_volume(self, volume, call):
        """As SPI 1.0 has it."""

    def get_volume(self, volume, call):
        """As SPI 1.0 has it."""

    def list_volumes(self, call, *, after=None, limit=1000):
        """As SPI 1.0 has it."""

    def locate_volume(self, volume, call):
        """As SPI 1.0 has it."""
        return FileLocation(path=Path(self.options.url) / volume, format="raw")


class GoldenStore(ImageStoreDriver[Options]):
    """A working store in memory."""

    spi = (1, 0)
    Options = Options

    def __init__(self, options):
        super().__init__(options)
        self.objects = {}

    def open(self, call):
        """As SPI 1.0 has it."""

    def close(self):
        """As SPI 1.0 has it."""

    def traits(self):
        """As SPI 1.0 has it."""
        return StoreTraits(conditional_put=True, max_object_size=1 << 30, listing_consistent=True)

    def put(self, key, body: Body, call, *, if_absent=False):
        """As SPI 1.0 has it."""
        if if_absent and key in self.objects:
            raise Conflict("exists")
        with body.open() as file:
            self.objects[key] = file.read()
        return StoredObject(key=key, size=body.size, etag=body.sha256)

    def get(self, key, call, *, offset=0, length=None):
        """As SPI 1.0 has it."""
        if offset > len(self.objects[key]):
            raise InvalidArgument("range")
        stream = io.BytesIO(self.objects[key])
        stream.seek(offset)
        yield stream.read(-1 if length is None else length)

    def head(self, key, call):
        """As SPI 1.0 has it."""
        return StoredObject(key=key, size=len(self.objects[key]))

    def list(self, prefix, call, *, after=None, limit=1000):
        """As SPI 1.0 has it."""
        return Page(items=[self.head(k, call) for k in sorted(self.objects) if k.startswith(prefix)])

    def delete(self, key, call):
        """As SPI 1.0 has it."""
        self.objects.pop(key, None)

    def abort_uploads(self, prefix, call, *, older_than):
        """As SPI 1.0 has it."""
        return 0


class GoldenHypervisor(HypervisorDriver[Options]):
    """Every method of a hypervisor of 1.0."""

    spi = (1, 0)
    Options = Options

    def close(self):
        """As SPI 1.0 has it."""

    def list_hosts(self, call):
        """As SPI 1.0 has it."""

    def introduce(self, what, call):
        """As SPI 1.0 has it."""

    def forget(self, kind, object_id, host, call):
        """As SPI 1.0 has it."""

    def attach(self, vm, disk, call):
        """As SPI 1.0 has it."""

    def detach(self, vm, disk, call):
        """As SPI 1.0 has it."""

    def vm_state(self, vm, call):
        """As SPI 1.0 has it."""

    def freeze(self, vm, call):
        """As SPI 1.0 has it."""

    def thaw(self, vm, call):
        """As SPI 1.0 has it."""

    def guest_state(self, vm, call):
        """As SPI 1.0 has it."""

    def create_vm_snapshot(self, vm, snapshot, call, *, memory):
        """As SPI 1.0 has it."""

    def revert_vm_snapshot(self, vm, snapshot, call):
        """As SPI 1.0 has it."""

    def delete_vm_snapshot(self, vm, snapshot, call):
        """As SPI 1.0 has it."""


class GoldenFence(FenceDriver[Options]):
    """Every method of a fence of 1.0."""

    spi = (1, 0)
    Options = Options

    def close(self):
        """As SPI 1.0 has it."""

    def power_state(self, call):
        """As SPI 1.0 has it."""

    def power_off(self, call):
        """As SPI 1.0 has it."""

    def power_on(self, call):
        """As SPI 1.0 has it."""
