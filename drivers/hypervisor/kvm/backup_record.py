"""What was begun to be backed up: written before it begins, struck out after it ended.

    <state>/<host>/backups/<vm>.<device>.json
    <scratch>/<digest>.{sock,pid,qcow2}

The latter names are short, since a socket's path has at most 107 bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ....core.dataplane.os_errors import os_errors
from ....core.spi import BegunBackup, InvalidArgument
from ....transfer_objects.ids import VmId
from .connection import HostLink
from .machine import Machine
from .register import strike_out, write_whole

_LONGEST_SOCKET = 107


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """One backup: `running` tells whether QEMU serves it, or a qemu-nbd of ours.

    Attributes:
        frozen_seconds: see `BackupDisk`; written after the cut, so 0 also means that nobody saw it end.
    """

    checkpoint: str
    since: str | None
    running: bool
    frozen_seconds: float = 0.0


def begun_on(state: Path, scratch: Path, link: HostLink) -> Iterator[BegunBackup]:
    """Yield what was begun on a host and not struck out; their VMs may be gone."""
    for path in sorted((state / link.host / "backups").glob("*.json")):
        vm, _, device = path.stem.rpartition(".")
        record = BackupRecord(state, scratch, Machine(link, VmId(vm)), device)
        begun = record.read()
        with os_errors(f"cannot look at {path}"), suppress(FileNotFoundError):
            if begun is not None:  # else it ended since it was listed
                yield BegunBackup(
                    vm=VmId(vm),
                    device=device,
                    checkpoint=begun.checkpoint,
                    began=path.stat().st_mtime,
                    size=record.taken(),
                )


class BackupRecord:
    """The backup of one disk, and the files it needs."""

    def __init__(self, state: Path, scratch: Path, machine: Machine, device: str) -> None:
        self._path = state / machine.link.host / "backups" / f"{machine.vm}.{device}.json"
        digest = hashlib.sha256(f"{machine.link.host}/{machine.vm}/{device}".encode()).hexdigest()[:16]
        self.scratch = scratch / f"{digest}.qcow2"
        self.socket = scratch / f"{digest}.sock"
        self.pid = scratch / f"{digest}.pid"
        if len(bytes(self.socket)) > _LONGEST_SOCKET:
            raise InvalidArgument(f"option 'scratch': {scratch} is too long for a socket's path")

    def read(self) -> Begun | None:
        """Return what was begun; None if nothing was."""
        with os_errors(f"cannot read {self._path}"):
            raw = json.loads(self._path.read_bytes()) if self._path.exists() else None
        return None if raw is None else Begun(**raw)

    def taken(self) -> int:
        """Return the bytes that the scratch file takes; 0 if there is none, or it is on another machine."""
        with suppress(FileNotFoundError):
            return self.scratch.stat().st_blocks * 512
        return 0

    def keep(self, begun: Begun) -> None:
        """Write it down."""
        with os_errors(f"cannot make {self.socket.parent}"):
            self.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self._path, json.dumps(asdict(begun)).encode())

    def strike_out(self) -> None:
        """Remove it and its files: the backup has ended."""
        with os_errors(f"cannot strike out {self._path}"):
            for path in (self.scratch, self.socket, self.pid):
                path.unlink(missing_ok=True)
        strike_out(self._path)
