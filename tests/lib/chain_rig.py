"""An orchestrator's site with one volume of real qcow2, whose guest writes through qemu-io."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bollard.core.archive import Archive
from bollard.core.catalog import Catalog
from bollard.core.catalog.snapshots import Ref, RefState
from bollard.core.journal import Journal
from bollard.core.snapshots import kvm
from bollard.core.spi import Call, parse_options
from bollard.core.store import Store
from bollard.drivers.secondary.nfs import NfsDriver
from bollard.transfer_objects.ids import SnapshotId, VmId
from chain_site import VOLUME, ChainSite
from qemu_backups import QemuBackups, run

KIB = 1024
MIB = 1024 * KIB
SIZE = 4 * MIB
DISK = kvm.Disk(VmId("vm-1"), "vda")


def call() -> Call:
    """A call with a minute to go."""
    return Call.within(60)


class ChainRig(ChainSite):
    """A pool, two secondary directories, an archive, and a VM.

    Attributes:
        contents: what the volume held when each snapshot was taken.
    """

    def __init__(
        self,
        directory: Path,
        *,
        delta_max: int = 3,
        backup: bool = False,
        lagging: bool = False,
        catalog_url: str = "",
    ) -> None:
        super().__init__(directory, delta_max=delta_max, backup=backup)
        self.pauses: list[float] = []  # seconds that the archive waited for its listing
        self._lagging = lagging
        self._catalog_url = catalog_url or f"sqlite:///{directory}/catalog.db"
        self._catalogs: list[Catalog] = []
        self.disk = directory / "volume.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", self.disk, str(SIZE))
        self.host = QemuBackups()
        self.host.add(DISK.vm, self.disk)
        self.contents: dict[str, bytes] = {}
        self._archive_store: Store | None = None
        self._seed = 0

    def close(self) -> None:
        """End what runs."""
        self.host.close()
        for catalog in self._catalogs:
            catalog.close()
        if self._archive_store:
            self._archive_store.close()

    # -- what the tests act with ---------------------------------------------------------------------

    def site(self) -> kvm.Site:
        """The site as a new process would open it."""
        stores = self.directories()
        stores["archive"] = self._archive()
        return kvm.Site(
            catalog=self._catalog(),
            journal=Journal(self.directory / "journal"),
            settings=self.settings,
            stores=stores,
            backups=self.host,
            vm_state=self.host.vm_state,
            disk_of=lambda _: None if self.images else DISK,
            image_of=lambda _: self.images,
        )

    def _catalog(self) -> Catalog:
        """Open it once more, as a new process does; no test needs more than a few at a time."""
        self._catalogs.append(Catalog(self._catalog_url))
        if len(self._catalogs) > 8:
            self._catalogs.pop(0).close()
        return self._catalogs[-1]

    def _archive(self) -> kvm.ChainArchive:
        if self._archive_store is None:
            (self.directory / "archive").mkdir()
            (self.directory / "scratch").mkdir()
            url = "nfs://10.2.128.5/export" if self._lagging else ""  # other clients' files show up late then
            options = parse_options(NfsDriver.Options, {"path": self.directory / "archive", "url": url})
            self._archive_store = Store("archive", NfsDriver(options))
            self._archive_store.open(call())
        archive = Archive(self._archive_store, pause=self.pauses.append)
        return kvm.ChainArchive("archive", archive, self._archive_store, self.directory / "scratch")

    def write(self, at: str, pattern: int = 0) -> None:
        """Let the guest write: "0 64k"; a pattern of its own each time unless told."""
        self._seed += 1
        self.host.guest(DISK.vm, f"write -P {pattern or self._seed % 250 + 1} {at}")

    def take(self, snapshot: str, *, quiesce: bool = False) -> Ref:
        """Take a snapshot, and remember what is in it."""
        content = self.volume()
        ref = kvm.take(self.site(), self.place(), SnapshotId(snapshot), call(), quiesce=quiesce)
        self.contents.setdefault(snapshot, content)
        return ref

    def delete(self, snapshot: str) -> None:
        """Delete a snapshot everywhere."""
        kvm.delete(self.site(), SnapshotId(snapshot), call())

    def revert(self, snapshot: str) -> None:
        """Put the volume back."""
        kvm.revert(self.site(), VOLUME, SnapshotId(snapshot), self.disk, call())

    # -- what they look at ---------------------------------------------------------------------------

    def volume(self) -> bytes:
        """What the volume holds."""
        raw = self.directory / "volume.raw"
        run("qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", self.disk, raw)
        return raw.read_bytes()

    def restored(self, snapshot: str) -> bytes:
        """What comes back from a snapshot."""
        with kvm.opened(self.site(), SnapshotId(snapshot), call()) as source:
            content = bytearray(source.size)
            source.read_into(0, memoryview(content))
        return bytes(content)

    def is_whole(self, *snapshots: str) -> bool:
        """Tell whether each of them is what it was when it was taken."""
        return all(self.restored(one) == self.contents[one] for one in snapshots)

    def files(self, *stores: str) -> list[str]:
        """All files on stores, those of the archive by what is in it."""
        names = stores or ("pool", "sec-1", "sec-2", "archive", "scratch")
        paths = (path for name in names for path in (self.directory / name).rglob("*"))
        kept = (str(path.relative_to(self.directory)) for path in paths if path.is_file())
        return sorted(one for one in kept if not one.startswith("archive/rescue"))

    def intents(self) -> list[str]:
        """What the journal still holds."""
        return [path.name for path in (self.directory / "journal").glob("*.intent")]

    def at_rest(self) -> bool:
        """Tell whether nothing is under way anywhere."""
        resting = {RefState.READY, RefState.HIDDEN}
        return (
            not self.intents()
            and not self.host.running(DISK.vm)
            and {ref.state for ref in self.refs()} <= resting
            and not list(self.directory.glob(".*.part"))
        )


def killed_at(step: int, act: Callable[[Callable[[], None]], Any]) -> bool:
    """Fork, and let the child act; it dies as of kill -9 at its `step`-th tick. Tell whether it did.

    `act` gets the function that ticks.
    """
    pid = os.fork()
    if pid == 0:
        _act_and_die(step, act)
    status = os.waitpid(pid, 0)[1]
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9), f"the child failed with {code}"
    return code == 9


def _act_and_die(step: int, act: Callable[[Callable[[], None]], Any]) -> None:
    seen = 0

    def tick() -> None:
        nonlocal seen
        seen += 1
        if seen == step:
            os._exit(9)

    code = 1
    try:
        act(tick)
        code = 0
    finally:
        os._exit(code)
