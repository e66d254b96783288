"""Incremental snapshots by the configuration alone: two pools of files, two simulated clusters, a NAS.

pool files (qcow2) ── cluster one ── vm-2 (off), vm-1 (runs)       pool other (raw) ── cluster two
    <home>/files/increments   <home>/nas (secondary)                   <home>/other/increments

The simulated clusters track what is written to raw files only; bitmaps in qcow2 files are those of volumes
that nobody has, and real.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import watched as steps
from bollard.core.catalog.snapshots import SnapshotRecord
from bollard.core.config import load_config
from bollard.core.service.increments import IncrementSite, increments_of
from bollard.core.service.leftovers import End, Run
from bollard.core.service.recovery import open_services
from bollard.core.service.sweep_increments import increment_places
from bollard.core.service.sync import SyncReport
from bollard.core.site import Site
from bollard.core.snapshots import kvm
from bollard.core.spi import Call, FileLocation, Introduction, ObjectKind, VolumeSpec
from bollard.simulators.hypervisor import HypervisorSimulator
from bollard.transfer_objects.ids import HostId, SnapshotId, VmId, VolumeId
from hypervisor_rig import prepare
from qemu_backups import run
from site_rig import toml_of

MIB = 2**20
SIZE = 4 * MIB
OFF = VmId("vm-2")


def call() -> Call:
    """A call with a minute to go."""
    return Call.within(60)


class Died(BaseException):
    """A process ends here: nothing that handles errors may see it."""


@dataclass(slots=True)
class IncrementRig:
    """The configuration, and the clusters that it names."""

    home: Path
    clusters: dict[str, HypervisorSimulator]
    stack: ExitStack = field(default_factory=ExitStack)

    def site(self) -> Site:
        """A site as a process that comes now opens it; closed with the rig."""
        return self.stack.enter_context(Site(load_config(self.home / "bollard.toml")))

    def make(self, volume: str, pool: str = "files") -> Path:
        """Make a volume; returns its file."""
        opened = self.site().pool(pool)
        opened.volumes.create(VolumeSpec(id=VolumeId(volume), size=SIZE))
        where = opened.volumes.locate(VolumeId(volume))
        assert isinstance(where, FileLocation)
        return where.path

    def attach(self, volume: str, pool: str = "other", cluster: str = "two", vm: VmId = OFF) -> str:
        """Give a volume to a VM, as an orchestrator does that has no records of it here."""
        site = self.site()
        found = site.pool(pool).volumes.get(VolumeId(volume))
        driver = site.hypervisor(cluster).driver
        what = Introduction(
            kind=ObjectKind.VOLUME,
            object_id=volume,
            host=HostId("h1"),
            location=site.pool(pool).volumes.locate(VolumeId(volume)),
            identity=found.identity,
            size=SIZE,
        )
        return driver.attach(vm, driver.introduce(what, call()), call())

    def write(self, image: Path, at: str, pattern: int = 0x5A) -> None:
        """Write to a volume that nobody has."""
        run("qemu-io", "-f", "qcow2", "-c", f"write -P {pattern} {at}", image)

    def content(self, image: Path) -> bytes:
        """What a file holds."""
        raw = self.home / "content.raw"
        run("qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", image, raw)
        return raw.read_bytes()

    def restored(self, pool: str, snapshot: str) -> bytes:
        """What comes back from a snapshot."""
        with kvm.opened(increments_of(self.site(), pool).engine, SnapshotId(snapshot), call()) as source:
            content = bytearray(source.size)
            source.read_into(0, memoryview(content))
        return bytes(content)

    def take(self, volume: str, snapshot: str, pool: str = "files") -> None:
        """Take a snapshot as a process of its own would."""
        site = increments_of(self.site(), pool)
        kvm.take(site.engine, site.place(VolumeId(volume)), SnapshotId(snapshot), call())

    def dies_taking(self, volume: str, snapshot: str, step: int, pool: str = "files") -> bool:
        """Begin a snapshot, and die at a step of it; tell whether it came to that."""
        with Site.open(load_config(self.home / "bollard.toml")) as opened, ExitStack() as stack:
            site = increments_of(opened, pool)
            place = site.place(VolumeId(volume))
            engine = stack.enter_context(dying_at(site, step))
            try:
                kvm.take(engine, place, SnapshotId(snapshot), call())
            except Died:
                return True
        return False

    def sync(self, *, vm: str = "", host: str = "", dry_run: bool = False) -> SyncReport:
        """`bollard sync`."""
        with open_services(self.site()) as services:
            return services.sync().run(call(), vm=vm, host=host, dry_run=dry_run)

    def sweep(self, *, dry_run: bool = False, older_than: float = 3600.0) -> list[tuple[str, str, End]]:
        """What a sweep finds of increments, and how it ends."""
        run = Run(call=call(), dry_run=dry_run, older_than=older_than)
        found = (one for place in increment_places(self.site()) for one in place.sweep(run))
        return [(one.leftover.kind, one.leftover.name, one.end) for one in found]

    def age(self, *files: str, seconds: float = 7200.0) -> None:
        """Let files look as if nobody had written them for so long."""
        for file in files:
            os.utime(self.home / file, (time.time() - seconds,) * 2)

    def states(self) -> dict[str, str]:
        """Snapshot -> state."""
        with self.site().catalog().reading() as session:
            return {one.id: one.state.value for one in session.query(SnapshotRecord)}

    def files(self) -> list[str]:
        """All that lies on the stores."""
        roots = (self.home / "files/increments", self.home / "other/increments", self.home / "nas")
        found = (path for root in roots for path in root.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.home)) for path in found)

    def bitmaps(self, image: Path) -> list[str]:
        """The names of an image's bitmaps."""
        return [one.name for one in kvm.ImageTracker([image]).checkpoints(call())]


@contextmanager
def dying_at(site: IncrementSite, step: int) -> Iterator[kvm.Site]:
    """Yield what dies at a step: from then on nothing at all is done, not even an undo."""
    seen = 0

    def tick() -> None:
        nonlocal seen
        seen += 1
        if seen >= step:
            raise Died

    with pytest.MonkeyPatch.context() as patch:
        for module, name in steps._STEPS:
            patch.setattr(module, name, getattr(module, name))
        journal = site.engine.journal
        patch.setattr(journal, "begin", journal.begin)
        yield steps.watched(site.engine, tick)


@contextmanager
def increment_rig(home: Path, *, fleet: bool = False) -> Iterator[IncrementRig]:
    """Start the clusters and write the configuration; records and journal are the rig's own.

    Args:
        fleet: several machines share the records and the journal.
    """
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("BOLLARD_STATE", str(home / "state"))
        patch.setenv("BOLLARD_CONFIG", str(home / "bollard.toml"))
        patch.delenv("BOLLARD_CATALOG", raising=False)
        patch.setattr("bollard.core.invoke.FIRST_WAIT", 0.0)
        clusters = {}
        for name in ("one", "two"):
            clusters[name] = stack.enter_context(HypervisorSimulator(home / name, personality="KVM"))
            prepare(clusters[name].url, home / f"objects-{name}")
        for name in ("files/increments", "other/increments", "nas"):
            (home / name).mkdir(parents=True)
        tables: dict[str, dict[str, Any]] = {
            "directories.nas": {"path": home / "nas"},
        }
        for pool, cluster, form in (("files", "one", "qcow2"), ("other", "two", "raw")):
            tables[f"pools.{pool}"] = {"driver": "qcow2", "options": {"path": home / pool, "format": form}}
            tables[f"hypervisors.{cluster}"] = {
                "driver": "hypervisor-sim",
                "host": "h1",
                "options": {"url": clusters[cluster].url},
            }
            tables[f"increments.{pool}"] = {"hypervisor": cluster, "directory": home / pool / "increments"}
        if fleet:
            tables = {"catalog": {"url": f"sqlite:///{home}/fleet.db"}} | tables
        (home / "bollard.toml").write_text(toml_of(tables))
        (home / "bollard.toml").chmod(0o600)
        rig = IncrementRig(home, clusters)
        stack.enter_context(rig.stack)
        yield rig
