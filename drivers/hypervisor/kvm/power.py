"""Starting and stopping VMs."""

from __future__ import annotations

import libvirt

from ....core.spi import Call, PowersVms, VmState
from ....transfer_objects.ids import VmId
from .disks import KvmDisks
from .machine import Machine
from .waiting import wait_until

_ASK_AGAIN = 5.0  # seconds: a guest that is just booting does not see the power button


class KvmPower(KvmDisks, PowersVms):
    """The VMs' power switches."""

    def start_vm(self, vm: VmId, call: Call) -> None:
        """See `PowersVms.start_vm`; one that is paused goes on."""
        machine = self._machine(vm, call)
        machine.resume(call)
        if machine.state(call) is VmState.STOPPED:
            machine.act(call, lambda domain: domain.create(), "starting it")

    def stop_vm(self, vm: VmId, call: Call, *, force: bool = False) -> None:
        """See `PowersVms.stop_vm`; the ACPI power button, pressed again every few seconds.

        With `force` QEMU gets the chance to write its own metadata (bitmaps) before it is ended.
        """
        machine = self._machine(vm, call)
        if machine.state(call) is VmState.STOPPED:
            return
        if force:
            machine.act(call, lambda domain: domain.destroy(), "cutting its power")
            return
        machine.resume(call)  # paused, it cannot hear the button
        _press_until_off(machine, call)


def _press_until_off(machine: Machine, call: Call) -> None:
    button = libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN
    pressed = -_ASK_AGAIN

    def off() -> bool:
        nonlocal pressed
        if machine.state(call) is VmState.STOPPED:
            return True
        if call.clock() - pressed >= _ASK_AGAIN:
            pressed = call.clock()
            machine.act(call, lambda domain: domain.shutdownFlags(button), "pressing its power button")
        return False

    wait_until(off, call, f"VM {machine.vm} does not stop")
