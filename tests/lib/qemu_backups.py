"""A hypervisor's `Backups` over stopped disks, of real qcow2 files, real bitmaps and real NBD exports.

As libvirt: a bitmap can be in the image without being registered, "Bitmap already exists", one job at a
time per VM, a job outlives whoever asked for it. The point in time is a copy of the image.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bollard.core.dataplane.qemu_img import drop_inconsistent_bitmaps
from bollard.core.spi import (
    Busy,
    Call,
    Conflict,
    NbdLocation,
    NotFound,
    Outcome,
    StorageError,
    Unavailable,
    VmState,
)
from bollard.core.spi.hypervisor_mixins import BackupDisk, Backups, Checkpoint
from bollard.transfer_objects.ids import VmId
from bollard.transfer_objects.secret import Secret


def run(*command: str | Path) -> str:
    """Run a tool to its end and return its output."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


class QemuBackups(Backups):
    """VMs with one disk each, of the device vda.

    Attributes:
        fault: raised by the next `begin_backup`.
        state: of all VMs.
        agent: the guests' agents answer.
    """

    def __init__(self) -> None:
        # A unix socket's path has at most 107 bytes; pytest's directories are longer.
        self._directory = Path(tempfile.mkdtemp(prefix="qb-"))
        self._disks: dict[str, Path] = {}
        self.fault: StorageError | None = None
        self.state = VmState.STOPPED
        self.agent = True

    def close(self) -> None:
        """End all jobs."""
        for vm in self._disks:
            self._end(vm)
        shutil.rmtree(self._directory)

    def add(self, vm: str, disk: Path) -> None:
        """Give a VM its disk."""
        self._disks[vm] = disk

    # -- what happens to a VM ------------------------------------------------------------------------

    def guest(self, vm: str, *commands: str) -> None:
        """Let the guest write: commands of qemu-io."""
        arguments = [part for command in commands for part in ("-c", command)]
        output = run("qemu-io", "-d", "unmap", "-f", "qcow2", *arguments, self._disks[vm])
        assert "failed" not in output, output

    def resize(self, vm: str, size: int) -> None:
        """Grow or shrink the disk; QEMU shrinks none with bitmaps, so they go first."""
        if size < self._virtual_size(vm):
            self.lose_bitmaps(vm)
        drop_inconsistent_bitmaps(Path(self._disks[vm]), Call.within(60))
        run("qemu-img", "resize", "-q", "--shrink", "-f", "qcow2", self._disks[vm], str(size))

    def _virtual_size(self, vm: str) -> int:
        text = run("qemu-img", "info", "-U", "--output=json", "-f", "qcow2", self._disks[vm])
        return int(json.loads(text)["virtual-size"])

    def define_anew(self, vm: str) -> None:
        """Forget all checkpoints, as libvirt does when the VM is defined anew; bitmaps stay."""
        self._registry(vm).unlink(missing_ok=True)

    def lose_bitmaps(self, vm: str) -> None:
        """Remove them from the image behind everybody's back."""
        for name in self.bitmaps(vm):
            run("qemu-img", "bitmap", "--remove", "-f", "qcow2", self._disks[vm], name)

    def cut_power(self, vm: str) -> None:
        """Kill QEMU with -9: bitmaps in the image are in use for ever, and inconsistent."""
        line = ["qemu-io", "-f", "qcow2", "-c", "write -q 0 0", "-c", "abort", str(self._disks[vm])]
        assert subprocess.run(line, capture_output=True, timeout=60).returncode == -signal.SIGABRT

    def bitmaps(self, vm: str) -> dict[str, list[str]]:
        """Return name -> flags of the bitmaps in the image."""
        text = run("qemu-img", "info", "-U", "--output=json", "-f", "qcow2", self._disks[vm])
        special = json.loads(text)["format-specific"]["data"]
        return {one["name"]: one["flags"] for one in special.get("bitmaps", [])}

    # -- the interface -------------------------------------------------------------------------------

    def vm_state(self, vm: VmId, call: Call) -> VmState:  # noqa: ARG002 - the interface
        """As `HypervisorDriver.vm_state`."""
        return self.state

    def begin_backup(
        self,
        vm: VmId,
        device: str,  # noqa: ARG002 - there is one disk
        call: Call,  # noqa: ARG002 - it takes no time
        *,
        checkpoint: str,
        since: str | None = None,
        quiesce: bool = False,
    ) -> BackupDisk:
        """See `Backups.begin_backup`."""
        if self.fault:
            fault, self.fault = self.fault, None
            raise fault
        running = self._job(vm)
        if running and (running["checkpoint"], running["since"]) != (checkpoint, since):
            raise Busy("another job runs on the VM")
        frozen = running["frozen"] if running else 0.0
        if not running:
            frozen = self._cut(vm, checkpoint, since, quiesce=quiesce and self.state is not VmState.STOPPED)
        bitmap = f"qemu:dirty-bitmap:{since}" if since else ""
        return BackupDisk(
            location=NbdLocation(address=self._file(vm, "s"), export=Secret("vda"), read_only=True),
            bitmap=bitmap,
            frozen_seconds=frozen,
        )

    def _cut(self, vm: str, checkpoint: str, since: str | None, *, quiesce: bool) -> float:
        """Return how long the guest stood still."""
        bitmaps = self.bitmaps(vm)
        if since and (since not in self._registered(vm) or "in-use" in bitmaps.get(since, ["in-use"])):
            raise NotFound(f"checkpoint {since}: missing or broken bitmap")
        if checkpoint in bitmaps:
            raise Conflict(f"Bitmap already exists: {checkpoint}")
        if quiesce and not self.agent:
            raise Unavailable("the guest agent does not answer", outcome=Outcome.NOT_APPLIED)
        begun = time.monotonic()
        run("cp", "--reflink=auto", "--sparse=auto", self._disks[vm], self._file(vm, "scratch"))
        run("qemu-img", "bitmap", "--add", "-f", "qcow2", self._disks[vm], checkpoint)
        self._register(vm, {*self._registered(vm), checkpoint})
        frozen = time.monotonic() - begun if quiesce else 0.0
        dirty: list[str | Path] = ["-B", since] if since else []
        line: list[str | Path] = [
            "qemu-nbd",
            "-r",
            "-t",
            "--shared=0",
            "--fork",
            "-k",
            self._file(vm, "s"),
            "-x",
            "vda",
        ]
        run(*line, "--pid-file", self._file(vm, "pid"), "-f", "qcow2", *dirty, self._file(vm, "scratch"))
        job = {"checkpoint": checkpoint, "since": since, "frozen": frozen}
        self._file(vm, "job").write_text(json.dumps(job))
        return frozen

    def end_backup(self, vm: VmId, device: str, call: Call, *, keep: bool) -> None:
        """See `Backups.end_backup`."""
        job = self._job(vm)
        if job is None:
            return
        self._end(vm)
        if not keep:
            self.delete_checkpoint(vm, device, job["checkpoint"], call)

    def _end(self, vm: str) -> None:
        with suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int(self._file(vm, "pid").read_text()), signal.SIGKILL)
        for what in ("s", "pid", "scratch", "job"):
            self._file(vm, what).unlink(missing_ok=True)

    def checkpoints(self, vm: VmId, call: Call) -> Sequence[Checkpoint]:  # noqa: ARG002 - idem
        """See `Backups.checkpoints`."""
        whole = {name for name, flags in self.bitmaps(vm).items() if "in-use" not in flags}
        names = sorted(whole & self._registered(vm))
        return [Checkpoint(name=name, device="vda", text=f"<cp>{name}</cp>") for name in names]

    def restore_checkpoints(
        self,
        vm: VmId,
        checkpoints: Sequence[Checkpoint],
        call: Call,  # noqa: ARG002 - idem
    ) -> Sequence[str]:
        """See `Backups.restore_checkpoints`."""
        assert all(one.text in ("", f"<cp>{one.name}</cp>") for one in checkpoints)
        bitmaps = self.bitmaps(vm)
        gone = [one.name for one in checkpoints if "in-use" in bitmaps.get(one.name, ["in-use"])]
        self._register(vm, self._registered(vm) | {one.name for one in checkpoints} - set(gone))
        return gone

    def delete_checkpoint(self, vm: VmId, device: str, name: str, call: Call) -> None:  # noqa: ARG002 - idem
        """See `Backups.delete_checkpoint`."""
        if name in self.bitmaps(vm):
            run("qemu-img", "bitmap", "--remove", "-f", "qcow2", self._disks[vm], name)
        self._register(vm, self._registered(vm) - {name})

    # -- files, so that a job outlives a killed process ----------------------------------------------

    def _file(self, vm: str, what: str) -> Path:
        return self._directory / f"{vm}.{what}"

    def _job(self, vm: str) -> Any:
        with suppress(FileNotFoundError):
            return json.loads(self._file(vm, "job").read_text())
        return None

    def running(self, vm: str) -> bool:
        """Tell whether a job runs."""
        return self._job(vm) is not None

    def _registry(self, vm: str) -> Path:
        return self._file(vm, "checkpoints")

    def _registered(self, vm: str) -> set[str]:
        with suppress(FileNotFoundError):
            return set(json.loads(self._registry(vm).read_text()))
        return set()

    def _register(self, vm: str, names: set[str]) -> None:
        self._registry(vm).write_text(json.dumps(sorted(names)))
