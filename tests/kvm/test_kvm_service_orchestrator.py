"""The services of an orchestrator with no inventory of its own, over a real host: a running VM's file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bollard.core.catalog.snapshots import SnapshotState
from bollard.core.config import load_config
from bollard.core.service.recovery import Services, open_services
from bollard.core.service.snapshots import SnapshotService
from bollard.core.service.snapshots_create import SnapshotRequest
from bollard.core.service.volumes_attach import VolumeAttachments
from bollard.core.service.volumes_records import NewVolume
from bollard.core.site import Site
from bollard.core.spi import Busy, FileLocation, Host
from bollard.core.vm_snapshots import VmSnapshotSpec
from bollard.transfer_objects.ids import HostId, SnapshotId, VmId, VmSnapshotId, VolumeId
from kvm_driving import MIB, KvmRig, call
from kvm_lab.vms import Vm
from site_rig import toml_of

pytest_plugins = ["kvm_rig_fixture"]
pytestmark = pytest.mark.real(root=True)

V1, S1 = VolumeId("v-1"), SnapshotId("s-1")


@pytest.fixture
def services(kvm_rig: KvmRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    """One process over a pool of files, a store, and the lab's first host."""
    monkeypatch.setenv("BOLLARD_STATE", str(tmp_path / "state"))
    for name in ("pool", "secondary"):
        (kvm_rig.directory / name).mkdir()
    kvm = {
        "hosts": f"{kvm_rig.host.name}={kvm_rig.host.uri}",
        "state": kvm_rig.directory / "state",
        "scratch": kvm_rig.directory / "scratch",
    }
    tables = {
        "pools.files": {"driver": "qcow2", "options": {"path": kvm_rig.directory / "pool"}},
        "stores.nfs": {"driver": "nfs", "options": {"path": kvm_rig.directory / "secondary"}},
        "hypervisors.kvm": {"driver": "kvm", "options": kvm},
    }
    config = tmp_path / "bollard.toml"
    config.write_text('default.store = "nfs"\n' + toml_of(tables))
    config.chmod(0o600)
    with Site.open(load_config(config)) as site, open_services(site) as opened:
        yield opened


def image(rig: KvmRig, vm: Vm) -> str:
    """The file that the VM writes to."""
    [disk] = rig.driver.vm_disks(VmId(vm.name), call())
    assert isinstance(disk.location, FileLocation)
    return disk.location.path.name


def test_a_running_vms_file(kvm_rig: KvmRig, services: Services) -> None:
    """Created, attached, snapshotted to secondary while the VM runs, broken off and synced: all by id."""
    vm = kvm_rig.blank()
    services.volumes.create(NewVolume(id=V1, pool="files", size=4 * MIB), call())
    host = Host(id=HostId(kvm_rig.host.name))
    attachments = VolumeAttachments(service=services.volumes)
    attachments.attach(V1, VmId(vm.name), host, "kvm", call())
    vm.write(0, MIB, 65536, 7)
    vm.domain.resume()
    snapshots = SnapshotService(services.context)

    found = snapshots.create(SnapshotRequest(id=S1, volume=V1), call())
    assert found.state is SnapshotState.BACKED_UP
    archive = services.context.archive("nfs", S1)
    with archive.open(call(), volume=V1, snapshot=S1) as source:
        content = bytearray(65536)
        source.read_into(MIB, memoryview(content))
    assert content == b"\x07" * 65536
    assert image(kvm_rig, vm) == "v-1.qcow2"

    storage = services.context.site.pool("files").driver

    def dying(*_: object) -> None:
        raise KeyboardInterrupt

    vars(storage)["create_snapshot"] = dying
    with pytest.raises(KeyboardInterrupt):
        snapshots.create(SnapshotRequest(id=SnapshotId("s-2"), volume=V1), call())
    vars(storage).pop("create_snapshot")
    assert image(kvm_rig, vm) == "v-1.s-2.cut.qcow2"
    spec = VmSnapshotSpec(id=VmSnapshotId("m-1"), vm=VmId(vm.name), name="m-1")
    with pytest.raises(Busy, match="s-2"):
        services.vm_snapshots.create(spec, call())
    with pytest.raises(Busy, match="s-2"):
        attachments.detach(V1, call())
    [ended] = services.sync().run(call()).ended
    assert (ended.after, image(kvm_rig, vm)) == (SnapshotState.ERROR, "v-1.qcow2")

    vm.stop()
    attachments.detach(V1, call())
    snapshots.delete(S1, call())
    services.volumes.delete(V1, call())
    assert [path.name for path in (kvm_rig.directory / "pool" / "volumes").iterdir()] == []
