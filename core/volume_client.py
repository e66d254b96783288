"""Volumes of a pool, as an orchestrator handles them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

from ..transfer_objects.ids import HostId, SnapshotId, TemplateId, VolumeId
from .checks import check_host, check_id, check_name, check_qos, check_size, check_spec, check_template
from .paging import all_pages
from .spi import (
    AccessControl,
    Adopts,
    Call,
    Chap,
    ClonesVolume,
    Grant,
    HasQos,
    Host,
    HostPrimaryDriver,
    InvalidArgument,
    Location,
    Qos,
    Resizes,
    Reverts,
    TemplateCache,
    TemplateSpec,
    Unsupported,
    Volume,
    VolumeFromSnapshot,
    VolumeSpec,
)

if TYPE_CHECKING:
    from .pool import Pool


class VolumeClient:
    """Create, delete, resize, clone, grant… Every method is idempotent."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def create(self, spec: VolumeSpec, call: Call | None = None) -> Volume:
        """Create a volume that reads zeros; the same id and spec return the same volume."""
        check_spec(spec, self._pool.traits)
        if spec.qos is not None:
            self._pool.require(HasQos)
        driver = self._pool.driver
        return self._pool.run("volume.create", (spec.id,), lambda c: driver.create_volume(spec, c), call)

    def delete(self, volume: VolumeId, call: Call | None = None) -> None:
        """Delete a volume; a missing one is fine."""
        check_id("volume", volume)
        driver = self._pool.driver
        self._pool.run("volume.delete", (volume,), lambda c: driver.delete_volume(volume, c), call)

    def get(self, volume: VolumeId, call: Call | None = None) -> Volume:
        """Return the volume as the backend knows it now, or raise `NotFound`."""
        check_id("volume", volume)
        driver = self._pool.driver
        return self._pool.run("volume.get", (), lambda c: driver.get_volume(volume, c), call)

    def list(self) -> Iterator[Volume]:
        """Yield all volumes of ours, page by page."""
        pool, driver = self._pool, self._pool.driver
        return all_pages(
            lambda after: pool.run("volume.list", (), lambda c: driver.list_volumes(c, after=after))
        )

    def resize(self, volume: VolumeId, size: int, call: Call | None = None) -> Volume:
        """Grow a volume to `size` bytes."""
        check_id("volume", volume)
        check_size("size", size, self._pool.traits)
        driver = self._pool.require(Resizes)
        return self._pool.run(
            "volume.resize", (volume,), lambda c: driver.resize_volume(volume, size, c), call
        )

    def clone(self, source: VolumeId, spec: VolumeSpec, call: Call | None = None) -> Volume:
        """Make a new volume that equals `source` now."""
        check_id("source", source)
        check_spec(spec, self._pool.traits)
        driver = self._pool.require(ClonesVolume)
        return self._pool.run(
            "volume.clone", (source, spec.id), lambda c: driver.clone_volume(source, spec, c), call
        )

    def from_snapshot(self, snapshot: SnapshotId, spec: VolumeSpec, call: Call | None = None) -> Volume:
        """Make a new volume from a snapshot on the same pool."""
        check_id("snapshot", snapshot)
        check_spec(spec, self._pool.traits)
        driver = self._pool.require(VolumeFromSnapshot)
        return self._pool.run(
            "volume.from_snapshot",
            (snapshot, spec.id),
            lambda c: driver.create_volume_from_snapshot(snapshot, spec, c),
            call,
        )

    def revert(self, volume: VolumeId, snapshot: SnapshotId, call: Call | None = None) -> Volume:
        """Put a volume back to one of its snapshots."""
        check_id("volume", volume)
        check_id("snapshot", snapshot)
        driver = self._pool.require(Reverts)
        return self._pool.run(
            "volume.revert", (volume, snapshot), lambda c: driver.revert_volume(volume, snapshot, c), call
        )

    def set_qos(self, volume: VolumeId, qos: Qos | None, call: Call | None = None) -> Volume:
        """Set, change or (None) remove the limits of a volume."""
        check_id("volume", volume)
        check_qos(qos)
        driver = self._pool.require(HasQos)
        return self._pool.run("volume.set_qos", (volume,), lambda c: driver.set_qos(volume, qos, c), call)

    def adopt(self, native_name: str, spec: VolumeSpec, call: Call | None = None) -> Volume:
        """Take over an object that exists on the storage under `native_name`."""
        check_name("native_name", native_name)
        if not native_name:
            raise InvalidArgument("native_name must not be empty")
        check_spec(spec, self._pool.traits)
        driver = self._pool.require(Adopts)
        return self._pool.run(
            "volume.adopt", (spec.id,), lambda c: driver.adopt_volume(native_name, spec, c), call
        )

    def release(self, volume: VolumeId, call: Call | None = None) -> str:
        """Give a volume back with its data; returns its native name."""
        check_id("volume", volume)
        driver = self._pool.require(Adopts)
        return self._pool.run("volume.release", (volume,), lambda c: driver.release_volume(volume, c), call)

    # -- access: a grant on managed storage, a path in a host pool ------------------------------------

    def grant(
        self, volume: VolumeId, host: Host, call: Call | None = None, *, read_only: bool = False
    ) -> Location:
        """Let `host` use the volume, and say where it finds it."""
        check_id("volume", volume)
        check_host(host)
        driver = self._pool.require(AccessControl)
        return self._pool.run(
            "volume.grant",
            (volume,),
            lambda c: driver.grant(volume, host, c, read_only=read_only),
            call,
            secrets=[host.chap_secret] if host.chap_secret else [],
        )

    def revoke(self, volume: VolumeId, host: HostId, call: Call | None = None) -> None:
        """Take access away; after it returns no write of `host` lands."""
        check_id("volume", volume)
        check_id("host", host)
        driver = self._pool.require(AccessControl)
        self._pool.run("volume.revoke", (volume,), lambda c: driver.revoke(volume, host, c), call)

    def rotate_chap(self, host: Host, call: Call | None = None) -> None:
        """Let `host` prove itself with its new CHAP secret from now on, and no longer with the old one."""
        check_host(host)
        driver = self._pool.require(Chap)
        secrets = [host.chap_secret] if host.chap_secret else []
        self._pool.run(
            "host.rotate_chap", (host.id,), lambda c: driver.rotate_chap(host, c), call, secrets=secrets
        )

    def grants(self, volume: VolumeId, call: Call | None = None) -> Sequence[Grant]:
        """Return who may use the volume."""
        check_id("volume", volume)
        driver = self._pool.require(AccessControl)
        return self._pool.run("volume.grants", (), lambda c: driver.list_grants(volume, c), call)

    def locate(self, volume: VolumeId, call: Call | None = None) -> Location:
        """Return where a host that mounts the pool finds the volume (host pools only)."""
        check_id("volume", volume)
        if not isinstance(self._pool.driver, HostPrimaryDriver):
            raise Unsupported(f"pool {self._pool.name!r} is managed: grant access to a host instead")
        driver = cast("HostPrimaryDriver[object]", self._pool.driver)
        return self._pool.run("volume.locate", (), lambda c: driver.locate_volume(volume, c), call)

    # -- templates kept on the pool -------------------------------------------------------------------

    def prepare_template(self, template: TemplateSpec, call: Call | None = None) -> Volume:
        """Return the writable seed of a template; fill it, then `seal_template`."""
        check_template(template, self._pool.traits)
        driver = self._pool.require(TemplateCache)
        return self._pool.run(
            "template.prepare", (template.id,), lambda c: driver.prepare_template(template, c), call
        )

    def seal_template(self, template: TemplateId, call: Call | None = None) -> None:
        """Make a filled seed read-only and usable."""
        check_id("template", template)
        driver = self._pool.require(TemplateCache)
        self._pool.run("template.seal", (template,), lambda c: driver.seal_template(template, c), call)

    def from_template(self, template: TemplateId, spec: VolumeSpec, call: Call | None = None) -> Volume:
        """Make a new volume from a sealed template."""
        check_id("template", template)
        check_spec(spec, self._pool.traits)
        driver = self._pool.require(TemplateCache)
        return self._pool.run(
            "volume.from_template",
            (template, spec.id),
            lambda c: driver.create_volume_from_template(template, spec, c),
            call,
        )

    def evict_template(self, template: TemplateId, call: Call | None = None) -> None:
        """Remove a template's seed from the pool."""
        check_id("template", template)
        driver = self._pool.require(TemplateCache)
        self._pool.run("template.evict", (template,), lambda c: driver.evict_template(template, c), call)
