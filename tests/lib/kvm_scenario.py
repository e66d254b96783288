"""An orchestrator's site around one real guest: files are written and read in it, its disk is snapshotted.

    guest on host a or b ── vda ── <lab>/vol-1.qcow2         engine ── KvmDriver ── libvirtd of a, of b
                                   <lab>/{pool,sec-1,sec-2}/snapshots/...    archive

All images lie in one directory that both hosts see, as on shared storage.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bollard.core.catalog.snapshots import Reason, Ref, RefState, refs_of_volume
from bollard.core.snapshots import kvm
from bollard.core.spi import (
    FileLocation,
    GuestState,
    ImageStoreDriver,
    Introduced,
    Introduction,
    ObjectKind,
    StorageError,
    VmState,
)
from bollard.transfer_objects.ids import HostId, SnapshotId
from chain_site import VOLUME
from kvm_driving import MIB, call
from kvm_lab import Guest, Host, Lab, Vm, disk_images, new_name
from kvm_orchestrator import Orchestrator

SIZE = 64 * MIB
SMALL = 4 * MIB
"""Of a volume that no guest has formatted."""
_PLACE = f"/mnt/{VOLUME}"


class Scenario(Orchestrator):
    """One VM, its volume, a pool, two secondary directories and perhaps an archive.

    Args:
        hosts: the first one is where the VM begins.
        archive: a store that is open; snapshots go there as long as `secondary` says so.
        booted: else the VM is a paused one without a guest, whose disk has no file system.
        template: what the volume is based on.

    Attributes:
        written: what the guest had on the disk when each snapshot was taken.
        restored: what was found in volumes made from snapshots.
        sizes: of these volumes, as the guest saw them.
        backings: what the header of each snapshot in a directory named as its backing file at first.
    """

    def __init__(
        self,
        lab: Lab,
        *hosts: Host,
        backup: bool = False,
        archive: ImageStoreDriver[Any] | None = None,
        booted: bool = True,
        template: Path | None = None,
    ) -> None:
        for host in hosts:
            host.start()  # the test before may have killed its libvirtd
        directory, name = lab.new_directory(), new_name()
        super().__init__(directory, name, *hosts, archive=archive)
        self.back_up(backup)
        self.lab, self.hosts = lab, hosts
        self.written: dict[str, Mapping[str, str]] = {}
        self.restored: dict[str, Mapping[str, str]] = {}
        self.sizes: dict[str, int] = {}
        self.backings: dict[str, str] = {}
        self._last: Mapping[str, str] = {}
        self._looks = 0
        self.image = directory / f"{VOLUME}.qcow2"
        if template:
            linked(self.image, template)
        else:
            disk_images.qcow2(self.image, SIZE if booted else SMALL, "ext4" if booted else "")
        make = lab.template.clone if booted else Vm.blank
        self.vm: Vm = make(hosts[0], directory, (), name)
        for host in hosts:
            self._introduce(self.image, host)
        assert self.driver.attach(self.disk.vm, self._known(self.image, hosts[0]), call()) == self.disk.device

    def close(self) -> None:
        """Remove the VM, wherever it is."""
        self.driver.close()
        self._catalog.close()  # an open file would keep the lab's directory busy
        for host in self.hosts:
            host.start()
            Vm(host, self.vm.name).remove()

    # -- snapshots -----------------------------------------------------------------------------------

    def take(self, snapshot: str, seconds: float = 60) -> Ref:
        """Take a snapshot; a guest that runs brings its files to the disk before."""
        if isinstance(self.vm, Guest) and self.vm.domain.isActive():
            self.vm.sync()
            self.written[snapshot] = self.files()
        else:  # stopped: nothing was written since the files were read last
            self.written[snapshot] = self._last
        ref = kvm.take(self.site(), self.place(), SnapshotId(snapshot), call(seconds))
        if ref.store != "archive":
            self.backings[snapshot] = str(
                _info(self.directory / ref.store / ref.path).get("backing-filename", "")
            )
        return ref

    def delete(self, snapshot: str) -> None:
        """Delete a snapshot everywhere."""
        kvm.delete(self.site(), SnapshotId(snapshot), call())

    def revert(self, snapshot: str) -> None:
        """Put the volume of the stopped VM back."""
        kvm.revert(self.site(), VOLUME, SnapshotId(snapshot), self.image, call())

    # -- the guest -----------------------------------------------------------------------------------

    @property
    def guest(self) -> Guest:
        """The VM as one that was booted."""
        assert isinstance(self.vm, Guest)
        return self.vm

    def write(self, name: str, kib: int = 64) -> None:
        """Let the guest write a file of random bytes; its cache has it, the disk perhaps not."""
        self.guest.mounted(VOLUME)
        self.guest.shell(f"dd if=/dev/urandom of={_PLACE}/{name} bs=1k count={kib} 2>/dev/null")

    def remove(self, *names: str) -> None:
        """Let the guest remove files."""
        self.guest.run("rm", *(f"{_PLACE}/{name}" for name in names))

    def files(self) -> Mapping[str, str]:
        """Read the files on the volume in the guest: names and checksums."""
        self._last = checksums(self.guest, _PLACE)
        return self._last

    def stop(self) -> None:
        """Shut the guest down; what it holds stays known."""
        self.guest.sync()
        self.files()
        self.driver.stop_vm(self.disk.vm, call(30))

    def start(self) -> bool:
        """Boot it, and let libvirt know its checkpoints; tell whether the chain goes on."""
        self.driver.start_vm(self.disk.vm, call())
        self.vm.wait() if isinstance(self.vm, Guest) else None
        self.guest.mounted(VOLUME)
        return kvm.recreate_checkpoints(self.site(), VOLUME, call())

    def migrate(self, to: Host) -> bool:
        """Move the VM, live; tell whether the chain goes on."""
        self.driver.migrate_vm(self.disk.vm, HostId(to.name), call())
        self._arrived(to)
        return kvm.recreate_checkpoints(self.site(), VOLUME, call())

    def migrate_with_disk(self, to: Host) -> None:
        """Move VM and volume, live, into a new image, as an orchestrator does.

        Raises:
            HasDependents: snapshots would stay behind.
        """
        with self.site().catalog.transaction() as session:
            kvm.check_move(refs_of_volume(session, VOLUME))
        old, new = self.image, self._new_image()
        disk_images.qcow2(new, SIZE, "")
        self.driver.forget(ObjectKind.VOLUME, VOLUME, HostId(to.name), call())
        self._introduce(new, to)
        disks = {self.disk.device: FileLocation(path=new, format="qcow2")}
        self.driver.migrate_vm(self.disk.vm, HostId(to.name), call(), disks=disks)
        self._arrived(to)
        kvm.end_chain(self.site(), VOLUME, Reason.MIGRATED)
        self._everywhere(new, old)

    def move_stopped_disk(self) -> bool:
        """Copy the volume of the stopped VM with its bitmaps, and give it to the VM; tell of its chain."""
        old, new = self.image, self._new_image()
        _run("qemu-img", "convert", "--bitmaps", "-f", "qcow2", "-O", "qcow2", old, new)
        self.driver.detach(self.disk.vm, self._known(old, self.vm.host), call())
        self._everywhere(new, old)
        self.driver.attach(self.disk.vm, self._known(new, self.vm.host), call())
        return kvm.recreate_checkpoints(self.site(), VOLUME, call())

    def detach(self) -> None:
        """Take the volume from the VM; from now on nobody has it."""
        self.driver.detach(self.disk.vm, self._known(self.image, self.vm.host), call())
        self.images = [self.image]

    def attach(self) -> bool:
        """Give it back to the VM; tell whether the chain goes on."""
        known = self._known(self.image, self.vm.host)
        assert self.driver.attach(self.disk.vm, known, call()) == self.disk.device
        self.images = []
        return kvm.recreate_checkpoints(self.site(), VOLUME, call())

    def look(self, *snapshots: str) -> None:
        """Give volumes made from snapshots to the running guest, one by one, and read the files there."""
        for snapshot in snapshots:
            self._looks += 1
            name = f"look-{self._looks}"
            path = self.directory / f"{name}.qcow2"
            kvm.template(self.site(), SnapshotId(snapshot), path, call())
            with self._plugged(name, path):
                self.restored[snapshot] = checksums(self.guest, self.guest.mounted(name))
                self.sizes[snapshot] = self.guest.size_of(name)

    @contextmanager
    def _plugged(self, name: str, path: Path) -> Iterator[None]:
        what = replace(_introduction(path, self.vm.host), object_id=name)
        known = self.driver.introduce(what, call())
        self.driver.attach(self.disk.vm, known, call())
        yield
        self.guest.run("umount", f"/mnt/{name}")  # a mount without its disk could not be frozen any more
        self.driver.detach(self.disk.vm, known, call())
        self.driver.forget(ObjectKind.VOLUME, name, HostId(self.vm.host.name), call())
        path.unlink()

    def _new_image(self) -> Path:
        self._looks += 1
        return self.directory / f"{VOLUME}-{self._looks}.qcow2"

    def _introduce(self, path: Path, host: Host) -> Introduced:
        return self.driver.introduce(_introduction(path, host), call())

    def _known(self, path: Path, host: Host) -> Introduced:
        return Introduced(object_id=VOLUME, host=HostId(host.name), path=str(path))

    def _everywhere(self, new: Path, old: Path) -> None:
        """Let all hosts know the volume where it is now."""
        for host in self.hosts:
            with_vm = host is self.vm.host and self.vm.domain.isActive()
            if not with_vm:
                self.driver.forget(ObjectKind.VOLUME, VOLUME, HostId(host.name), call())
                self._introduce(new, host)
        old.unlink()
        self.image = new

    def _arrived(self, host: Host) -> None:
        self.vm.moved_to(host)
        self.guest.wait()

    # -- what there is -------------------------------------------------------------------------------

    def stored(self) -> list[str]:
        """All files on the stores that are directories."""
        paths = (path for name in ("pool", "sec-1", "sec-2") for path in (self.directory / name).rglob("*"))
        return sorted(str(path.relative_to(self.directory)) for path in paths if path.is_file())

    def archived(self) -> list[str]:
        """All that the archive's store holds, but its own tools for an emergency."""
        assert self._archive
        found = (one.key for one in self._archive.list("", call()).items)
        return sorted(key for key in found if not key.startswith(("README", "RESTORE")))

    def bitmaps(self) -> list[str]:
        """The bitmaps in the volume, as QEMU tells them."""
        if self.vm.domain.isActive():
            nodes = self.vm.qmp("query-named-block-nodes")
            return sorted(
                {one["name"] for node in nodes for one in node.get("dirty-bitmaps", ()) if one.get("name")}
            )
        data = _info(self.image)["format-specific"]["data"]
        return sorted(one["name"] for one in data.get("bitmaps", ()))

    def left(self) -> list[str]:
        """Everything that says that something is under way, or that something was forgotten."""
        state, scratch = self.directory / "state", self.directory / "scratch"
        found = [
            str(path) for pattern in ("backups", "begun", "frozen") for path in state.glob(f"*/{pattern}/*")
        ]
        found += [str(path) for path in scratch.iterdir()]
        found += [str(path) for path in (self.directory / "journal").glob("*.intent")]
        found += [str(path) for path in self.directory.rglob("*.part")]
        found += [f"{ref.snapshot} {ref.state}" for ref in self.refs() if ref.state not in _AT_REST]
        found += [f"{ref.snapshot} is served" for ref in self.refs() if ref.backing_up]
        tracking = sorted(ref.checkpoint for ref in self.refs() if ref.tracking)
        found += [f"bitmap {name}" for name in self.bitmaps() if name not in tracking]
        names = (one.getName() for one in self.vm.domain.listAllCheckpoints())
        found += [f"checkpoint {name}" for name in names if name not in tracking]
        if isinstance(self.vm, Guest) and self.driver.vm_state(self.disk.vm, call()) is VmState.RUNNING:
            frozen = self.driver.guest_state(self.disk.vm, call()) is GuestState.FROZEN
            found += ["the guest is frozen"] if frozen else []
        return found


_AT_REST = (RefState.READY, RefState.HIDDEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was to be seen at the end of a chapter.

    Attributes:
        files: in the guest, as far as it ran.
        refused: what the chapter's act was refused with.
    """

    ref: Ref | None
    files: Mapping[str, str]
    stored: list[str]
    states: Mapping[str, str]
    left: list[str]
    bitmaps: list[str]
    refused: StorageError | None = None


Chapter = Callable[[Scenario], Ref | StorageError | None]


class Story:
    """A life in chapters, each played once and in order when somebody asks for it or for a later one."""

    def __init__(self, rig: Scenario, chapters: Iterable[Chapter]) -> None:
        self.rig = rig
        self._chapters = iter(chapters)
        self._seen: dict[str, Seen] = {}
        self._failed: BaseException | None = None

    def after(self, chapter: str) -> Seen:
        """Play on until the end of a chapter, and return what was to be seen then."""
        while chapter not in self._seen:
            if self._failed:
                raise AssertionError("an earlier chapter failed") from self._failed
            act = next(self._chapters)
            try:
                self._seen[act.__name__] = _look(self.rig, act(self.rig))
            except BaseException as error:
                self._failed = error
                raise
        return self._seen[chapter]


def _look(rig: Scenario, result: Ref | StorageError | None) -> Seen:
    running = rig.vm.domain.isActive()
    return Seen(
        ref=result if isinstance(result, Ref) else None,
        refused=result if isinstance(result, StorageError) else None,
        files=rig.files() if running else {},
        stored=rig.stored(),
        states=rig.states(),
        left=rig.left(),
        bitmaps=rig.bitmaps(),
    )


def checksums(guest: Guest, place: str) -> Mapping[str, str]:
    """Read the files below a directory in a guest."""
    lines = guest.shell(f"cd {place} && find . -type f | sort | xargs -r sha256sum").splitlines()
    return {line.split("  ./")[1]: line.split()[0] for line in lines}


def linked(path: Path, base: Path) -> None:
    """Make an image that holds what differs from a template."""
    _run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", path)


def _introduction(path: Path, host: Host) -> Introduction:
    return Introduction(
        kind=ObjectKind.VOLUME,
        object_id=VOLUME,
        host=HostId(host.name),
        location=FileLocation(path=path, format="qcow2"),
        identity=str(path),
        size=int(_info(path)["virtual-size"]),
    )


def _info(path: Path) -> dict[str, Any]:
    done = subprocess.run(
        ["qemu-img", "info", "-U", "--output", "json", path], check=True, capture_output=True, timeout=60
    )
    return dict(json.loads(done.stdout))


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)
