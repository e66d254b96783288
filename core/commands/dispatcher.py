"""From a command to its answer: which function, under which locks, until when; and failures as answers.

    command ─> locks of what it changes ─> handler ─> answer
                                              └ StorageError ─> answer: result false, code, outcome, message

Templates that a copy reads are not locked: fifty volumes are made from one at once. A thaw waits for nobody.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ...transfer_objects import commands as c
from ...transfer_objects.cloudstack.names import wire_class
from ...transfer_objects.errors import DecodeError
from ...transfer_objects.objects import (
    DataTO,
    DiskTO,
    SnapshotObjectTO,
    TemplateObjectTO,
    VolumeObjectTO,
)
from ..backends import LONGEST
from ..locks import ObjectLocks
from ..plugins import PluginError
from ..site import Site
from ..spi import Call, Internal, Progress, StorageError, Unavailable
from . import copying, disk_only, disks, freezing, incremental, luns, objects, vm_snapshots
from .names import snapshot_id, template_id, volume_id
from .telling import failure_text
from .vm_tasks import vm_task, vms_of

_log = logging.getLogger("bollard.commands")

Handler = Callable[[Any, Site, Call], c.Answer]


@dataclass(frozen=True, slots=True)
class _Row:
    """Who carries a command out, and what answers it."""

    handler: Handler
    answer: type[c.Answer]


TABLE: dict[type[c.Command], _Row] = {
    c.CopyCommand: _Row(copying.copy_object, c.CopyCmdAnswer),
    c.CreateObjectCommand: _Row(objects.create, c.CreateObjectAnswer),
    c.DeleteCommand: _Row(objects.delete, c.Answer),
    c.RevertSnapshotCommand: _Row(objects.revert, c.Answer),
    c.AttachCommand: _Row(disks.attach, c.AttachAnswer),
    c.DettachCommand: _Row(disks.detach, c.DettachAnswer),
    c.DetachCommand: _Row(disks.detach, c.DetachAnswer),
    c.IntroduceObjectCmd: _Row(disks.introduce_object, c.IntroduceObjectAnswer),
    c.ForgetObjectCmd: _Row(disks.forget_object, c.IntroduceObjectAnswer),
    c.SnapshotAndCopyCommand: _Row(luns.snapshot_and_copy, c.SnapshotAndCopyAnswer),
    c.ResignatureCommand: _Row(luns.resignature, c.ResignatureAnswer),
    c.CreateVMSnapshotCommand: _Row(vm_snapshots.create_vm_snapshot, c.CreateVMSnapshotAnswer),
    c.RevertToVMSnapshotCommand: _Row(vm_snapshots.revert_vm_snapshot, c.RevertToVMSnapshotAnswer),
    c.DeleteVMSnapshotCommand: _Row(vm_snapshots.delete_vm_snapshot, c.DeleteVMSnapshotAnswer),
    c.RestoreVMSnapshotCommand: _Row(vm_snapshots.restore_vm_snapshots, c.RestoreVMSnapshotAnswer),
    c.FreezeThawVMCommand: _Row(freezing.freeze_or_thaw, c.FreezeThawVMAnswer),
    c.CreateDiskOnlyVmSnapshotCommand: _Row(disk_only.create_disk_only, c.CreateDiskOnlyVmSnapshotAnswer),
    c.RevertDiskOnlyVmSnapshotCommand: _Row(disk_only.revert_disk_only, c.RevertDiskOnlyVmSnapshotAnswer),
    c.DeleteDiskOnlyVmSnapshotCommand: _Row(disk_only.delete_disk_only, c.Answer),
    c.MergeDiskOnlyVmSnapshotCommand: _Row(disk_only.merge_disk_only, c.Answer),
    c.ConvertSnapshotCommand: _Row(incremental.convert, c.ConvertSnapshotAnswer),
    c.RecreateCheckpointsCommand: _Row(incremental.recreate_checkpoints, c.Answer),
    c.RemoveBitmapCommand: _Row(incremental.remove_bitmap, c.Answer),
}


def answer_class(command: str) -> type[c.Answer]:
    """Return what answers a command, by the name of its class; `Answer` for what is none."""
    return next((row.answer for cls, row in TABLE.items() if cls.__name__ == command), c.Answer)


class Dispatcher:
    """Carries out commands over the drivers of a site; safe for threads.

    Args:
        site: its owner closes it, when no command is under way any more.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._locks = ObjectLocks()

    def execute(
        self, command: c.Command, call: Call | None = None, progress: Progress | None = None
    ) -> c.Answer:
        """Carry out a command, and return its answer; failures are answers, too.

        Args:
            call: cancels it; its deadline counts if it is earlier than the command's own `wait` (seconds).
            progress: instead of the call's.
        """
        row = TABLE.get(type(command))
        if row is None:
            return c.UnsupportedAnswer(result=False, details=_unsupported(command))
        try:
            return self.run(command, call, progress)
        except StorageError as error:
            return row.answer(result=False, details=failure_text(error))

    def run(self, command: c.Command, call: Call | None = None, progress: Progress | None = None) -> c.Answer:
        """As `execute`, but a failure is raised: for who decides by its outcome whether to repeat it.

        Raises:
            StorageError: what went wrong. An answer whose result is false is no error: it says what is true.
        """
        row = TABLE.get(type(command))
        if row is None:
            raise Internal(_unsupported(command))
        timed = _until(command, call, progress)
        try:
            with self._locks.holding(tuple(_changed(command)), timed), vm_task(command, self._site):
                return row.handler(command, self._site, timed)
        except PluginError as error:
            raise Unavailable(f"a driver of the configuration cannot be used: {error}") from error
        except DecodeError as error:
            raise Internal(f"the answer could not be built: {error}") from error
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - the edge: whatever happens, there is an answer
            # Without its text, which may hold a secret.
            trace = "".join(traceback.format_tb(error.__traceback__))
            told = (timed.request_id, type(command).__name__, type(error).__name__, trace)
            _log.error("[%s] %s failed by a bug, %s at\n%s", *told)
            message = f"a bug in {type(command).__name__}: see the log of request {timed.request_id}"
        raise Internal(message)


def _until(command: c.Command, call: Call | None, progress: Progress | None) -> Call:
    """Return the call with the command's own deadline; `wait` 0 leaves it to us."""
    given = call or Call()
    end = given.clock() + (command.wait if command.wait > 0 else LONGEST)
    deadline = end if given.deadline is None else min(end, given.deadline)
    return replace(given, deadline=deadline, progress=progress or given.progress)


def _unsupported(command: c.Command) -> str:
    try:
        name = wire_class(type(command)).name
    except KeyError:  # a class of ours alone
        name = type(command).__name__
    return f"Unsupported command issued: {name}.  Are you sure you got the right type of server?"


def _changed(command: c.Command) -> Iterator[str]:
    """Yield what a command changes, or must not see changing."""
    match command:
        case c.CopyCommand(source=source, destination=to):
            if not isinstance(source, TemplateObjectTO):
                yield from _keys(source)
            yield from _keys(to)
        case c.CreateObjectCommand(data=data) | c.DeleteCommand(data=data):
            yield from _keys(data)
        case c.IntroduceObjectCmd(data=data) | c.ForgetObjectCmd(data=data):
            yield from _keys(data)
        case c.RevertSnapshotCommand():
            wanted = command.data_on_primary_storage or command.data
            yield from _keys(wanted.volume if wanted else None)
        case c.AttachCommand(disk=disk) | c.DettachCommand(disk=disk):
            yield from _keys(disk)
        case c.DeleteDiskOnlyVmSnapshotCommand():
            yield from (f"vm {name}" for name in vms_of(command))
        case c.FreezeThawVMCommand():
            return
        case _:
            if name := getattr(command, "vm_name", None):
                yield f"vm {name}"


def _keys(data: DataTO | DiskTO | None) -> Iterator[str]:
    """Yield the lock of an object; one that cannot be told is refused by its handler."""
    try:
        match data:
            case DiskTO():
                yield from _keys(data.data)
            case VolumeObjectTO():
                yield f"volume {volume_id(data)}"
            case SnapshotObjectTO():
                yield f"snapshot {snapshot_id(data)}"
            case TemplateObjectTO():
                yield f"template {template_id(data)}"
            case None:
                return
    except StorageError:
        return
