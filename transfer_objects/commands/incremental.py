"""Orders about KVM's incremental snapshots (4.21 and later)."""

from __future__ import annotations

from dataclasses import dataclass

from ..objects import SnapshotObjectTO, VolumeObjectTO
from ..rules import Label
from .base import Answer, Command


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertSnapshotCommand(Command):
    """Flatten an incremental snapshot into a file of its own beside it."""

    snapshot: SnapshotObjectTO | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertSnapshotAnswer(Answer):
    """Answers ConvertSnapshotCommand: the flat file."""

    snapshot: SnapshotObjectTO | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecreateCheckpointsCommand(Command):
    """Declare the checkpoints of a VM's volumes anew after a start or a migration."""

    volumes: tuple[VolumeObjectTO, ...] = ()
    vm_name: Label | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveBitmapCommand(Command):
    """Remove the bitmap of a snapshot that nobody builds on any more."""

    snapshot: SnapshotObjectTO | None = None
    vm_running: bool = False
