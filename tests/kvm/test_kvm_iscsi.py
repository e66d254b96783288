"""iSCSI LUNs through QEMU's own initiator, with and without CHAP."""

from __future__ import annotations

import dataclasses
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bollard.core.spi import (
    DataLoss,
    Introduction,
    IscsiLocation,
    NotFound,
    ObjectKind,
    Outcome,
    StorageError,
    Unauthenticated,
    Unavailable,
)
from bollard.transfer_objects.ids import HostId, VmId
from bollard.transfer_objects.secret import Secret
from kvm_driving import MIB, KvmRig, call, device_in
from kvm_lab.host import Host, kill
from kvm_lab.polling import until

pytest_plugins = ["kvm_rig_fixture"]
pytestmark = pytest.mark.real(root=True)

TARGET = "iqn.2026-01.test.bollard:t1"
INITIATOR = "iqn.2026-01.test.bollard:host"
USER, PASSWORD = "bollard", "a-secret-of-12-bytes"
SERIAL = "SERIAL-0001"


class Tgt:
    """A tgtd of our own with one LUN."""

    def __init__(self, image: Path) -> None:
        # Its control socket is named after a number below /var/run/tgtd.
        self._number = str(100 + secrets.randbelow(30000))
        self.port = 20000 + secrets.randbelow(12000)
        portal = f"portal=127.0.0.1:{self.port}"
        self._server = subprocess.Popen(
            ["tgtd", "-f", "-C", self._number, "--iscsi", portal],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(lambda: not self._run("show", "target"), 60, "tgtd to start")
        self.set("new", "target", "--tid", "1", "-T", TARGET)
        self.set("new", "logicalunit", "--tid", "1", "--lun", "1", "-b", image)
        self.set("update", "logicalunit", "--tid", "1", "--lun", "1", "--params", f"scsi_sn={SERIAL}")
        self.set("bind", "target", "--tid", "1", "-I", "ALL")

    def set(self, act: str, mode: str, *arguments: str | Path) -> None:
        """Change something."""
        assert not self._run(act, mode, *arguments)

    def require_chap(self) -> None:
        """Let in who has the password."""
        self.set("new", "account", "--user", USER, "--password", PASSWORD)
        self.set("bind", "account", "--tid", "1", "--user", USER)

    def stop(self) -> None:
        """End it; asked to, it would wait for its sessions."""
        kill(self._server.pid)
        self._server.wait(10)

    def _run(self, act: str, mode: str, *arguments: str | Path) -> int:
        command = ["tgtadm", "-C", self._number, "--lld", "iscsi", "--op", act, "--mode", mode, *arguments]
        return subprocess.run(command, check=False, capture_output=True, timeout=10).returncode


@pytest.fixture
def image(kvm_directory: Path) -> Path:
    """What is behind the LUN."""
    path = kvm_directory / "lun.raw"
    with path.open("xb") as file:
        file.truncate(8 * MIB)
    return path


@pytest.fixture
def tgt(image: Path) -> Iterator[Tgt]:
    """A target with one LUN of 8 MiB."""
    server = Tgt(image)
    yield server
    server.stop()


def _lun(host: Host, tgt: Tgt, **changes: object) -> Introduction:
    location = IscsiLocation(portal=("127.0.0.1", tgt.port), target=TARGET, lun=1, initiator=INITIATOR)
    return Introduction(
        kind=ObjectKind.VOLUME,
        object_id="v-lun-1",
        host=HostId(host.name),
        location=dataclasses.replace(location, **changes),
        identity=SERIAL,
        size=8 * MIB,
    )


def _secrets(host: Host) -> list[str]:
    return [secret.usageID() for secret in host.connection.listAllSecrets()]


@pytest.mark.parametrize("chap", [True, False])
def test_a_lun_is_a_disk(kvm_rig: KvmRig, tgt: Tgt, image: Path, *, chap: bool) -> None:
    """A LUN is attached hot, what the guest writes lands in it, and no session or secret is left."""
    what = _lun(kvm_rig.host, tgt)
    if chap:
        tgt.require_chap()
        what = _lun(kvm_rig.host, tgt, chap_user=USER, chap_secret=Secret(PASSWORD))
    guest = kvm_rig.guest()
    kvm_rig.attach(guest, what)
    assert _secrets(kvm_rig.host) == (["bollard-volume-v-lun-1"] if chap else [])
    guest.shell(f"dd if=/etc/mke2fs.conf of=/dev/{device_in(guest, what)} conv=fsync")
    assert image.read_bytes().startswith(guest.read_file("/etc/mke2fs.conf"))
    (shown,) = kvm_rig.driver.vm_disks(guest.name, call())
    assert isinstance(shown.location, IscsiLocation)
    assert (shown.location.target, shown.location.lun, shown.size) == (TARGET, 1, 8 * MIB)
    assert PASSWORD not in guest.domain.XMLDesc(1)
    assert not [path for path in kvm_rig.directory.rglob("*.json") if PASSWORD in path.read_text()]
    kvm_rig.driver.detach(guest.name, kvm_rig.known[what.object_id], call())
    for _ in range(2):
        kvm_rig.driver.forget(what.kind, what.object_id, what.host, call())
    assert _secrets(kvm_rig.host) == []


def test_another_lun_is_refused(kvm_rig: KvmRig, tgt: Tgt) -> None:
    """Another serial number or size is data loss; a missing target or LUN is not found; no trace is left."""
    true = _lun(kvm_rig.host, tgt)
    wrong: list[tuple[Introduction, type[StorageError]]] = [
        (dataclasses.replace(true, identity="SERIAL-0002"), DataLoss),
        (dataclasses.replace(true, size=4 * MIB), DataLoss),
        (_lun(kvm_rig.host, tgt, size=4 * MIB), DataLoss),
        (_lun(kvm_rig.host, tgt, lun=7), NotFound),
        (_lun(kvm_rig.host, tgt, target="iqn.2026-01.test.bollard:nobody"), NotFound),
        (_lun(kvm_rig.host, tgt, portal=("127.0.0.1", 1)), Unavailable),
    ]
    for what, error in wrong:
        with pytest.raises(error) as caught:
            kvm_rig.driver.introduce(what, call())
        assert caught.value.outcome is Outcome.NOT_APPLIED
    assert not list((kvm_rig.directory / "state").rglob("*.json"))
    kvm_rig.driver.introduce(true, call())


def test_a_wrong_password_is_refused(kvm_rig: KvmRig, tgt: Tgt) -> None:
    """A wrong CHAP password is told as such, is not shown, and leaves no secret behind."""
    tgt.require_chap()
    wrong = _lun(kvm_rig.host, tgt, chap_user=USER, chap_secret=Secret("wrong-wrong-wrong"))
    with pytest.raises(Unauthenticated) as caught:
        kvm_rig.driver.introduce(wrong, call())
    assert "wrong-wrong" not in repr(caught.value)
    assert _secrets(kvm_rig.host) == []


def test_a_password_that_is_not_needed_any_more(kvm_rig: KvmRig, tgt: Tgt) -> None:
    """Introduced again without CHAP, an object keeps no secret, and is attached without one."""
    tgt.require_chap()
    kvm_rig.driver.introduce(_lun(kvm_rig.host, tgt, chap_user=USER, chap_secret=Secret(PASSWORD)), call())
    tgt.set("unbind", "account", "--tid", "1", "--user", USER)
    what, vm = _lun(kvm_rig.host, tgt), kvm_rig.blank()
    kvm_rig.attach(vm, what)
    assert _secrets(kvm_rig.host) == []
    assert "<auth" not in vm.domain.XMLDesc()
    vm.stop()
    kvm_rig.driver.detach(VmId(vm.name), kvm_rig.known[what.object_id], call())
    kvm_rig.driver.forget(what.kind, what.object_id, what.host, call())
