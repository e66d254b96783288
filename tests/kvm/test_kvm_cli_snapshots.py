"""`bollard snapshot`, `sync` and `sweep`, on a real host with a booted guest; one process is killed."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bollard import cli
from bollard.core.spi import FileLocation
from bollard.transfer_objects.ids import VmId
from kvm_driving import MIB, KvmRig, call, device_in
from kvm_lab import Guest
from kvm_lab.polling import until
from site_rig import toml_of

pytest_plugins = ["kvm_rig_fixture"]
pytestmark = [pytest.mark.real(root=True), pytest.mark.slow]

SIZE = 64 * MIB
_ATTEMPTS = 5  # at killing a process between two looks; each one that ends before is a good snapshot


class Operator:
    """One who has a shell on the host, a configuration, and a guest with a volume of his."""

    def __init__(self, rig: KvmRig, patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]) -> None:
        self.home = rig.directory
        self.rig, self.patch, self.captured = rig, patch, captured
        for name in ("pool", "pool/increments", "nas"):
            (self.home / name).mkdir()
        options = {
            "hosts": f"{rig.host.name}={rig.host.uri}",
            "state": self.home / "state",
            "scratch": self.home / "scratch",
        }
        tables: dict[str, dict[str, Any]] = {
            "pools.files": {"driver": "qcow2", "options": {"path": self.home / "pool"}},
            "hypervisors.kvm": {"driver": "kvm", "options": options},
            "directories.nas": {"path": self.home / "nas"},
            "increments.files": {"hypervisor": "kvm", "directory": self.home / "pool/increments"},
        }
        config = self.home / "bollard.toml"
        config.write_text(toml_of(tables))
        config.chmod(0o600)
        patch.setenv("BOLLARD_CONFIG", str(config))
        patch.setenv("BOLLARD_STATE", str(self.home / "mine"))
        self.run("pool", "create", "vol-1", str(SIZE))
        self.image = self.home / "pool/volumes/vol-1.qcow2"
        self.volume = rig.introduction("vol-1", self.image, SIZE)

    def boot(self) -> None:
        """Bring up a guest that has the volume."""
        self.guest: Guest = self.rig.guest()
        self.rig.attach(self.guest, self.volume)
        self.device = f"/dev/{device_in(self.guest, self.volume)}"

    def run(self, *arguments: str) -> Any:
        """Run a command to its good end; returns its document."""
        code, told = self.tried(*arguments)
        assert code == 0, (arguments, told)
        return told

    def tried(self, *arguments: str) -> tuple[object, Any]:
        """Run a command to its end; returns its exit code and its document."""
        self.patch.setattr(sys, "argv", ["bollard", *arguments, "--json"])
        self.captured.readouterr()
        code: object = 0
        before = signal.getsignal(signal.SIGTERM)
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        finally:
            signal.signal(signal.SIGTERM, before)
        out, err = self.captured.readouterr()
        return code or 0, json.loads(out or json.dumps(err))

    def write(self, at: int, mib: int) -> str:
        """Let the guest write random bytes to the disk; returns the digest of all that it reads there."""
        of = f"of={self.device} bs=1M seek={at} count={mib}"
        self.guest.shell(
            f"dd if=/dev/urandom {of} conv=notrunc 2>/dev/null; sync; blockdev --flushbufs {self.device}"
        )
        self.guest.shell("echo 3 > /proc/sys/vm/drop_caches")
        return self.guest.shell(f"sha256sum {self.device}").split()[0]

    def digest(self, snapshot: str) -> str:
        """Restore a snapshot; returns the digest of what came back."""
        name = f"{snapshot}-again"
        self.run("snapshot", "restore", snapshot, name)
        return hashlib.sha256(self.content(self.image.with_name(f"{name}.qcow2"))).hexdigest()

    def content(self, image: Path) -> bytes:
        """Read an image that nobody has open."""
        raw = self.home / "content.raw"
        subprocess.run(
            ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, raw], check=True, timeout=60
        )
        return raw.read_bytes()

    def killed_taking(self, snapshot: str) -> bool:
        """Kill a process when it writes a snapshot; tell whether it came to that."""
        part = self.home / f"pool/increments/snapshots/{snapshot}.part"
        line = [sys.executable, "-m", "bollard", "snapshot", "take", "vol-1", snapshot]
        with subprocess.Popen(line, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            until(lambda: part.exists() or process.poll() is not None, 60, "the snapshot to begin")
            process.kill()
        return process.returncode == -9


def test_a_chain_of_a_running_guest_and_a_kill_in_its_midst(
    kvm_rig: KvmRig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A delta restores to what the guest read at its instant; after the kill nothing is left."""
    operator = Operator(kvm_rig, monkeypatch, capfd)
    operator.boot()
    operator.write(0, 8)
    operator.run("snapshot", "take", "vol-1", "full")
    held = operator.write(4, 8)
    taken = operator.run("snapshot", "take", "vol-1", "delta")
    assert (taken["parent"], taken["full_reason"], taken["physical_size"] < 12 * MIB) == ("full", "", True)
    assert operator.digest("delta") == held

    killed = _killed(operator)
    [found] = operator.run("sync", "--dry-run")["found"]
    assert (found["kind"], found["id"], found["what"]) == ("increment", killed, "kvm.take")
    report = operator.run("sync")
    assert ([one["problem"] for one in report["ended"]], report["errors"]) == ([""], [])
    swept = operator.run("sweep", "--dry-run", "--older-than", "0")
    assert (swept["leftovers"], swept["errors"]) == ([], [])
    _nothing_is_left(operator, killed, report["ended"][0]["after"])

    held = operator.write(1, 1)
    assert operator.run("snapshot", "take", "vol-1", "next")["parent"]
    assert operator.digest("next") == held


def _killed(operator: Operator) -> str:
    for attempt in range(_ATTEMPTS):
        operator.write(16, 32)
        if operator.killed_taking(f"killed-{attempt}"):
            return f"killed-{attempt}"
    pytest.fail("no process was killed before it was done")


def _nothing_is_left(operator: Operator, killed: str, state: str) -> None:
    """Neither file, scratch file, backup nor bitmap, unless the snapshot was whole when its maker died."""
    files: list[Path] = [path for path in (operator.home / "pool/increments").rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert (killed in names) is (state == "CreatedOnPrimary")
    assert not [name for name in names if name.endswith(".part")]
    assert list((operator.home / "scratch").iterdir()) == []
    assert operator.rig.driver.begun_backups(call()) == []
    marks = operator.rig.driver.checkpoints(VmId(operator.guest.name), call())
    assert len(marks) == 1
    assert (marks[0].name == killed) is (state == "CreatedOnPrimary")


def test_a_volume_is_reverted_when_nobody_needs_what_it_is_now(
    kvm_rig: KvmRig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not while its VM runs, nor while a VM snapshot stands on it; then it is what it was, byte for byte."""
    operator = Operator(kvm_rig, monkeypatch, capfd)
    vm = kvm_rig.blank()
    kvm_rig.attach(vm, operator.volume)
    vm.write(0, MIB, 65536, 0x11)
    operator.run("snapshot", "take", "vol-1", "monday")
    vm.write(0, 2 * MIB, 65536, 0x22)
    code, told = operator.tried("snapshot", "revert", "vol-1", "monday")
    assert (code, told["error"]["code"]) == (5, "in_use")
    vm.stop()
    overlay = {"vda": FileLocation(path=operator.image.with_name("vol-1.before"), format="qcow2")}
    kvm_rig.driver.add_overlays(VmId(vm.name), overlay, call())
    code, told = operator.tried("snapshot", "revert", "vol-1", "monday")
    assert (code, told["error"]["code"]) == (5, "has_dependents")
    base = {"vda": FileLocation(path=operator.image, format="qcow2")}
    kvm_rig.driver.merge_image(VmId(vm.name), "vda", overlay["vda"], base["vda"], call())
    overlay["vda"].path.unlink(missing_ok=True)

    operator.run("snapshot", "revert", "vol-1", "monday")
    held = operator.content(operator.image)
    assert [held[at * MIB] for at in (1, 2)] == [0x11, 0]
    assert hashlib.sha256(held).hexdigest() == operator.digest("monday")
    assert operator.run("snapshot", "take", "vol-1", "next")["full_reason"] == "the volume was reverted"
    assert operator.run("sync", "--dry-run")["found"] == []
