"""A volume that goes from VM to nobody and back, with real libvirt and QEMU: one chain, and a lock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import libvirt
import pytest

from bollard.core.snapshots import kvm
from bollard.core.snapshots.kvm import delta
from bollard.core.spi import InUse
from bollard.transfer_objects.ids import SnapshotId
from kvm_blank import Blank
from kvm_driving import call
from kvm_lab import Host, Lab

pytestmark = pytest.mark.real(root=True)


@pytest.fixture
def rig(kvm_lab: Lab, kvm_host: Host) -> Iterator[Blank]:
    """A VM without a guest, whose disk's content is known."""
    rig = Blank(kvm_lab, kvm_host)
    yield rig
    rig.close()


def take(rig: Blank, snapshot: str) -> Any:
    """Take a snapshot of what the disk holds."""
    rig.remember(snapshot)
    return kvm.take(rig.site(), rig.place(), SnapshotId(snapshot), call())


def test_one_chain_over_detach_and_attach(rig: Blank) -> None:
    """Running, then nobody's twice, then running again: deltas all, whole all, and nothing is left."""
    rig.change()
    refs = [take(rig, "s1")]
    rig.change()
    rig.power(on=False)
    rig.detach()
    refs += [take(rig, "s2"), take(rig, "s3")]
    assert rig.attach()
    rig.change()
    refs.append(take(rig, "s4"))

    assert [ref.parent for ref in refs] == [None, *(ref.id for ref in refs[:-1])]
    assert rig.survivors() == ["s1", "s2", "s3", "s4"]
    assert rig.bitmaps() == ["s4"]
    assert rig.left() == []


def test_a_vm_cannot_start_on_a_volume_that_is_read(rig: Blank, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attached and started while its snapshot is taken, it is refused by QEMU; afterwards it starts."""
    rig.change()
    rig.power(on=False)
    rig.detach()
    refused: list[BaseException] = []
    transfer = delta.transfer

    def starting(*arguments: Any) -> None:
        rig.driver.attach(rig.disk.vm, rig._known(rig.image, rig.vm.host), call())
        with pytest.raises(InUse) as caught:
            rig.driver.start_vm(rig.disk.vm, call())
        refused.append(caught.value)
        transfer(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(delta, "transfer", starting)
        take(rig, "s1")
    assert len(refused) == 1
    rig.images = []
    rig.vm.domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    assert kvm.recreate_checkpoints(rig.site(), rig.place().volume, call())
    rig.change()
    assert take(rig, "s2").parent == rig.ref("s1").id
    assert rig.survivors() == ["s1", "s2"]


def test_a_running_vm_s_volume_is_not_touched(rig: Blank) -> None:
    """Told that nobody has a volume that a VM runs on, nothing is done to it."""
    rig.change()
    rig.images = [rig.image]
    with pytest.raises(InUse):
        take(rig, "s1")
    rig.images = []
    rig.change()
    assert take(rig, "s2").parent is None
    assert rig.left() == []
