"""Set A on a real libvirt and QEMU: the chain engine with the KVM driver, on a VM that runs and stops."""

from __future__ import annotations

import subprocess
from pathlib import Path

import libvirt
import pytest

from bollard.core.catalog import Catalog
from bollard.core.catalog.snapshots import Reason, Ref
from bollard.core.journal import Journal
from bollard.core.settings import Settings, Where
from bollard.core.snapshots import kvm
from bollard.transfer_objects.enums import StoragePoolType
from bollard.transfer_objects.ids import SnapshotId, VmId, VolumeId
from kvm_driving import MIB, KvmRig, call, path_of

pytest_plugins = ["kvm_rig_fixture"]
pytestmark = pytest.mark.real(root=True)

VOLUME = VolumeId("vol-1")


def flat(image: Path, raw: Path) -> bytes:
    """What an image holds, by QEMU's own tools, through its backing files."""
    command = ["qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", str(image), str(raw)]
    subprocess.run(command, check=True, timeout=60)
    return raw.read_bytes()


def test_a1_to_a11_on_real_kvm(kvm_rig: KvmRig, tmp_path: Path) -> None:
    """Full, delta, delta of the stopped VM, full; lost bitmaps; deletion in an order that hides: no file."""
    vm = kvm_rig.blank()
    vm.stop()
    (disk,) = kvm_rig.disks(vm, 1)
    vm.domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    settings = Settings()
    settings.set("kvm.incremental.snapshot", True)
    settings.set("snapshot.backup.to.secondary", False)
    settings.set("snapshot.delta.max", 3)
    site = kvm.Site(
        catalog=Catalog(f"sqlite:///{tmp_path}/catalog.db"),
        journal=Journal(tmp_path / "journal"),
        settings=settings,
        stores={"pool": kvm.ChainDirectory("pool", tmp_path / "pool")},
        backups=kvm_rig.driver,
        vm_state=kvm_rig.driver.vm_state,
        disk_of=lambda _: kvm.Disk(VmId(vm.name), "vda"),
    )
    place = kvm.VolumePlace(
        volume=VOLUME,
        pool_type=StoragePoolType.NETWORK_FILESYSTEM,
        where=Where(zone="z1"),
        primary="pool",
        secondary="",
    )

    def take(name: str) -> Ref:
        return kvm.take(site, place, SnapshotId(name), call())

    def patterns(name: str) -> list[int]:
        content = flat(tmp_path / "pool/snapshots" / name, tmp_path / "raw")
        return [content[at * MIB] for at in range(1, 5)]

    vm.write(0, 1 * MIB, 65536, 0x11)
    first = take("s1")
    vm.write(0, 2 * MIB, 65536, 0x22)
    second = take("s2")
    assert (first.full_reason, second.parent) == (Reason.FIRST, first.id)
    vm.stop()
    line = ["qemu-io", "-f", "qcow2", "-c", "write -P 0x33 3M 64k", str(path_of(disk))]
    subprocess.run(line, check=True, capture_output=True)
    third = take("s3")
    assert (third.parent, third.end_reason) == (second.id, Reason.LENGTH)
    vm.domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    vm.write(0, 4 * MIB, 65536, 0x44)
    assert take("s4").full_reason is Reason.LENGTH

    expected = [0x11, 0x22, 0x33, 0x44]
    for count in range(1, 5):
        assert patterns(f"s{count}") == expected[:count] + [0] * (4 - count)

    for name in ("s1", "s3", "s2", "s4"):
        kvm.delete(site, SnapshotId(name), call())
    assert [path for path in (tmp_path / "pool").rglob("*") if path.is_file()] == []
    assert kvm_rig.driver.checkpoints(VmId(vm.name), call()) == []
    assert list((tmp_path / "journal").glob("*.intent")) == []
