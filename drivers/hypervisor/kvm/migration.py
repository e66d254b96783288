"""Moving a running VM to another host, alone or with its disks.

    the target knows the disks' objects ── what libvirt knows of snapshots and checkpoints is written down
    ── dropped (it would refuse to migrate) ── migration ── told again, on the host where the VM is then

After a kill -9 anywhere a repeat finds what was written down, and tells it to the right host.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

import libvirt

from ....core.dataplane import probe
from ....core.spi import (
    Call,
    Checkpoint,
    DeadlineExceeded,
    FileLocation,
    InvalidArgument,
    MigratesVms,
    NotFound,
    Outcome,
    StorageError,
    VmSnapshotMetadata,
    VmState,
)
from ....transfer_objects.ids import HostId, VmId
from . import checkpoints as registry
from .backups import KvmBackups
from .bitmaps import drop_checkpoints
from .connection import HostLink
from .disks import size_of
from .domain_xml import Element, disk_of_device, disks_of, object_of, point_disk, target_of, text_of
from .machine import Machine
from .marks import Mark
from .metadata import drop_metadata, metadata_of, restore_metadata

_FLAGS = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
_LOOK = 0.2  # seconds between two looks at the progress
_RESCUE = 60.0  # seconds to tell a host what libvirt knew before


class KvmMigration(KvmBackups, MigratesVms):
    """VMs that move."""

    def migrate_vm(
        self, vm: VmId, host: HostId, call: Call, *, disks: Mapping[str, FileLocation] | None = None
    ) -> None:
        """See `MigratesVms.migrate_vm`; one that is there already is fine.

        Raises:
            InvalidArgument: the VM does not run; or a new image has another size.
            NotFound: the target host does not know a disk's object: introduce it there first.
            DeadlineExceeded: it did not end in time, and was given up: the VM runs where it was.
        """
        source, target = self._machine(vm, call), self._link(host)
        self._tell_again(vm, source, call)
        if source.link is target:
            return
        if source.state(call) is VmState.STOPPED:
            raise InvalidArgument(f"VM {vm} is off: there is nothing to move live")
        moved = disks or {}
        source.refuse_if_busy(call)
        vouched = self._check_disks(source, host, moved, call)
        with self._without_metadata(vm, source, call):
            parameters, flags = self._request(source, moved, call)
            flags |= libvirt.VIR_MIGRATE_UNSAFE if vouched else 0
            _migrate(source, target, parameters, flags, call)

    def _check_disks(
        self, source: Machine, host: HostId, moved: Mapping[str, FileLocation], call: Call
    ) -> bool:
        """See that the target knows the disks; tell whether that is so of all, so that libvirt need not ask.

        libvirt calls each file unsafe that is on no network file system that it knows by name. Here the
        target's introduction has verified that the very object is there.
        """
        vouched = True
        for disk in disks_of(source.definition(call)):
            ours = object_of(disk)
            if not ours or next(self._register.of_id(source.link.host, ours), None) is None:
                vouched = False
            elif next(self._register.of_id(host, ours), None) is None:
                raise NotFound(f"host {host} does not know {ours}, disk {target_of(disk)} of VM {source.vm}")
        definition = source.definition(call)
        for device, image in moved.items():
            known = disk_of_device(definition, device)
            if known is None:
                raise NotFound(f"VM {source.vm} has no disk {device!r}")
            size = probe(image.path.resolve(), image.format).virtual_size
            if size != size_of(source, known, call):
                raise InvalidArgument(f"{image.path} has {size} bytes, which are not those of {device}")
        return vouched

    def _request(
        self, source: Machine, moved: Mapping[str, FileLocation], call: Call
    ) -> tuple[dict[str, Any], int]:
        parameters: dict[str, Any] = {}
        if self.options.migration:
            parameters[libvirt.VIR_MIGRATE_PARAM_URI] = self.options.migration
        if not moved:
            return parameters, _FLAGS
        parameters[libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS] = list(moved)
        present = source.definition(call, migratable=True)
        later = source.definition(call, inactive=True, migratable=True)
        parameters[libvirt.VIR_MIGRATE_PARAM_DEST_XML] = _with_images(present, moved)
        parameters[libvirt.VIR_MIGRATE_PARAM_PERSIST_XML] = _with_images(later, moved)
        return parameters, _FLAGS | libvirt.VIR_MIGRATE_NON_SHARED_DISK

    @contextmanager
    def _without_metadata(self, vm: VmId, source: Machine, call: Call) -> Iterator[None]:
        """Take what libvirt knows of snapshots and checkpoints out, and tell it again on every path."""
        mark = Mark(self.options.state, source, "migrating")
        kept = {
            "snapshots": [asdict(one) for one in metadata_of(source, call)],
            "checkpoints": [asdict(one) for one in registry.whole_checkpoints(source, call)],
        }
        mark.set(json.dumps(kept))
        try:
            drop_metadata(source, call)
            drop_checkpoints(source, call)
            yield
        finally:
            with suppress(StorageError):  # a repeat does it, and so does the next migration
                self._tell_again(vm, source, Call.within(_RESCUE))

    def _tell_again(self, vm: VmId, source: Machine, call: Call) -> None:
        """Tell the host where a VM is now what was written down before it was moved."""
        for link in self._links.values():
            mark = Mark(self.options.state, Machine(link, vm), "migrating")
            text = mark.read()
            if text is None:
                continue
            now = self._machine(source.vm, call)
            kept = json.loads(text)
            restore_metadata(now, _of(VmSnapshotMetadata, kept["snapshots"]), call)
            registry.restore(now, _of(Checkpoint, kept["checkpoints"]), call)
            mark.clear()


def _of(kind: Any, raw: Sequence[dict[str, Any]]) -> list[Any]:
    return [kind(**one) for one in raw]


def _with_images(definition: Element, moved: Mapping[str, FileLocation]) -> str:
    """Return the definition with the images that the VM will have."""
    for device, image in moved.items():
        point_disk(definition, device, FileLocation(path=image.path.resolve(), format=image.format))
    return text_of(definition)


def _migrate(source: Machine, target: HostLink, parameters: dict[str, Any], flags: int, call: Call) -> None:
    """Run the migration in a thread of its own, so that it can be watched and given up."""
    there = target.connection(call)
    patient = Call(request_id=call.request_id)
    with ThreadPoolExecutor(1, thread_name_prefix="migration") as pool:
        job = pool.submit(
            source.act, patient, lambda domain: domain.migrate3(there, parameters, flags), "migrating"
        )
        late = _watched(source, job, call)
        try:
            job.result()
        except StorageError as error:
            if _runs(source):
                error.outcome = Outcome.NOT_APPLIED
            if late is not None:
                late.outcome = error.outcome
                raise late from error
            raise


def _watched(source: Machine, job: Future[Any], call: Call) -> DeadlineExceeded | None:
    """Report the progress until the migration ends; give it up when the call is late or cancelled."""
    while not wait([job], timeout=_LOOK).done:
        try:
            call.check()
            with suppress(StorageError):  # between two phases there is nothing to tell
                done = source.ask(call, lambda domain: domain.jobStats(), "asking for the progress")
                call.progress(done.get("data_processed", 0), done.get("data_total", 0))
        except DeadlineExceeded as error:
            with suppress(StorageError):
                source.act(Call.within(_RESCUE), lambda domain: domain.abortJob(), "giving the migration up")
            return error
    return None


def _runs(source: Machine) -> bool:
    with suppress(StorageError):
        return source.state(Call.within(10)) is VmState.RUNNING
    return False
