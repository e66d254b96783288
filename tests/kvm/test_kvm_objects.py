"""Introducing and forgetting: what the host finds is compared, nothing stays behind, data is not touched."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from bollard.core.spi import (
    Conflict,
    DataLoss,
    FileLocation,
    Introduction,
    InUse,
    InvalidArgument,
    NotFound,
    ObjectKind,
    Outcome,
    StorageError,
)
from kvm_driving import MIB, KvmRig, call, driver_for, path_of

pytest_plugins = ["kvm_rig_fixture"]
pytestmark = pytest.mark.real(root=True)


def _register(rig: KvmRig) -> list[Path]:
    return list((rig.directory / "state").rglob("*.json"))


def _forget(rig: KvmRig, what: Introduction) -> None:
    rig.driver.forget(what.kind, what.object_id, what.host, call())


@pytest.mark.parametrize("form", ["raw", "qcow2"])
@pytest.mark.parametrize("kind", list(ObjectKind))
def test_introduce_is_repeatable_and_survives(kvm_rig: KvmRig, form: str, kind: ObjectKind) -> None:
    """The same object gives the same answer, from another process and after libvirtd was killed, too."""
    what = dataclasses.replace(kvm_rig.volume(format_=form), kind=kind)
    before = hashlib.sha256(path_of(what).read_bytes()).digest()
    first = kvm_rig.driver.introduce(what, call())
    kvm_rig.host.kill_libvirtd()
    kvm_rig.host.start_libvirtd()
    another = driver_for(kvm_rig.directory, kvm_rig.host)
    assert another.introduce(what, call()) == first
    vm = kvm_rig.blank()
    assert another.attach(vm.name, first, call()) == "vda"
    vm.stop()
    another.detach(vm.name, first, call())
    another.forget(kind, what.object_id, what.host, call())
    another.forget(kind, what.object_id, what.host, call())
    another.close()
    assert _register(kvm_rig) == []
    assert hashlib.sha256(path_of(what).read_bytes()).digest() == before


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"size": 32 * MIB}, DataLoss),
        ({"size": 128 * MIB}, DataLoss),
        ({"identity": "/somewhere/else"}, DataLoss),
        ({"location": FileLocation(path=Path("/nowhere"), format="qcow2")}, NotFound),
        ({"location": FileLocation(path=Path("relative"), format="qcow2")}, InvalidArgument),
        ({"size": 0}, InvalidArgument),
        ({"identity": ""}, InvalidArgument),
        ({"object_id": "../x"}, InvalidArgument),
        ({"host": "host-nobody"}, NotFound),
    ],
)
def test_what_is_not_as_told_is_refused(kvm_rig: KvmRig, changes: dict, error: type[StorageError]) -> None:
    """A wrong size, identity, place, id or host is refused, and leaves no trace."""
    true = kvm_rig.volume()
    with pytest.raises(error) as caught:
        kvm_rig.driver.introduce(dataclasses.replace(true, **changes), call())
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert _register(kvm_rig) == []
    kvm_rig.driver.introduce(true, call())


def test_a_raw_image_that_pretends_to_be_qcow2_is_raw(kvm_rig: KvmRig) -> None:
    """The format is what was told: a guest that writes a qcow2 header into its raw disk changes nothing."""
    inner = kvm_rig.volume(size=MIB)
    outer = kvm_rig.volume(size=2 * MIB, format_="raw")
    with path_of(outer).open("r+b") as file:
        file.write(path_of(inner).read_bytes()[: 2 * MIB])
    with pytest.raises(DataLoss):
        kvm_rig.driver.introduce(dataclasses.replace(outer, size=MIB), call())
    kvm_rig.driver.introduce(outer, call())


def test_a_link_leads_to_the_object_or_to_data_loss(kvm_rig: KvmRig) -> None:
    """A link to the true object is fine; one that has come to point elsewhere is data loss."""
    wanted, other = kvm_rig.volume(), kvm_rig.volume()
    link = kvm_rig.directory / "link"
    through = dataclasses.replace(wanted, location=FileLocation(path=link, format="qcow2"))
    link.symlink_to(path_of(other))
    with pytest.raises(DataLoss):
        kvm_rig.driver.introduce(through, call())
    link.unlink()
    link.symlink_to(path_of(wanted))
    assert kvm_rig.driver.introduce(through, call()) == kvm_rig.driver.introduce(wanted, call())


def test_another_object_under_a_known_id_is_a_conflict(kvm_rig: KvmRig) -> None:
    """Another object under the id is refused, and the first stays."""
    first, other = kvm_rig.volume(), kvm_rig.volume()
    known = kvm_rig.driver.introduce(first, call())
    with pytest.raises(Conflict):
        kvm_rig.driver.introduce(dataclasses.replace(other, object_id=first.object_id), call())
    assert kvm_rig.driver.introduce(first, call()) == known


def test_a_grown_object_is_the_same(kvm_rig: KvmRig) -> None:
    """An object that has grown on its storage is introduced anew with its new size."""
    vm = kvm_rig.blank()
    vm.stop()
    (disk,) = kvm_rig.disks(vm, 1)
    kvm_rig.driver.resize_disk(vm.name, "vda", 128 * MIB, call())
    with pytest.raises(DataLoss):
        kvm_rig.driver.introduce(disk, call())
    grown = dataclasses.replace(disk, size=128 * MIB)
    assert kvm_rig.driver.introduce(grown, call()) == kvm_rig.known[disk.object_id]


@pytest.mark.parametrize("running", [True, False])
def test_a_used_object_is_not_forgotten(kvm_rig: KvmRig, *, running: bool) -> None:
    """A disk of a VM, on or off, is in use."""
    vm = kvm_rig.blank()
    (disk,) = kvm_rig.disks(vm, 1)
    if not running:
        vm.stop()
    with pytest.raises(InUse, match=vm.name):
        _forget(kvm_rig, disk)


def test_what_was_forgotten_cannot_be_attached(kvm_rig: KvmRig) -> None:
    """An object is attached only as long as its host knows it."""
    what = kvm_rig.volume()
    known = kvm_rig.driver.introduce(what, call())
    _forget(kvm_rig, what)
    with pytest.raises(NotFound):
        kvm_rig.driver.attach(kvm_rig.blank().name, known, call())


def test_forgetting_what_nobody_knows_is_fine(kvm_rig: KvmRig) -> None:
    """Neither a strange object nor a strange host is an error."""
    kvm_rig.driver.forget(ObjectKind.VOLUME, "v-nobody", kvm_rig.host.name, call())
    kvm_rig.driver.forget(ObjectKind.VOLUME, "v-nobody", "host-nobody", call())
