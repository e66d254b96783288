"""A note on a VM's run: libvirt keeps it as long as the run lasts, and no longer."""

from __future__ import annotations

import libvirt
import pytest

from kvm_driving import KvmRig, call

pytest_plugins = ["kvm_rig_fixture"]
pytestmark = pytest.mark.real(root=True)


def test_the_note_ends_with_the_run(kvm_rig: KvmRig) -> None:
    """It is replaced, taken away, kept over a restart of libvirtd; and gone when the VM was off."""
    vm, driver = kvm_rig.blank(), kvm_rig.driver
    assert driver.run_note(vm.name, call()) == ""
    for note in ("one-1", "two-2", "", "three-3"):
        assert driver.note_run(vm.name, note, call())
        assert driver.run_note(vm.name, call()) == note
    vm.host.kill_libvirtd()
    vm.host.start_libvirtd()
    assert driver.run_note(vm.name, call()) == "three-3"
    for end in (vm.stop, vm.kill_qemu):
        assert driver.note_run(vm.name, "four-4", call())
        end()
        assert driver.run_note(vm.name, call()) == ""
        assert not driver.note_run(vm.name, "five-5", call())
        vm.start()
        assert driver.run_note(vm.name, call()) == ""


def test_the_next_start_has_no_note(kvm_rig: KvmRig) -> None:
    """The definition of now has it; that of the next start, which others read and write, has not."""
    vm = kvm_rig.blank()
    kvm_rig.driver.note_run(vm.name, "one-1", call())
    assert "one-1" in vm.domain.XMLDesc(0)
    assert "one-1" not in vm.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
