"""FreezeThawVMCommand: the guest's file systems, in the guest agent's own words.

A guest that is frozen thaws by itself when `wait` is over (10 s where the command says nothing), whatever
becomes of the orchestrator.
"""

from __future__ import annotations

from ...transfer_objects.commands import FreezeOption, FreezeThawVMAnswer, FreezeThawVMCommand
from ..site import Site
from ..spi import Call, GuestState
from ..steps import step
from ..vm_snapshots.quiesce import DEFAULT_WINDOW, guest_state, thaw
from .guests import hypervisor_of
from .names import vm_id
from .storages import given


def freeze_or_thaw(command: FreezeThawVMCommand, site: Site, call: Call) -> FreezeThawVMAnswer:
    """Freeze or thaw, or only ask; details are what the guest says afterwards: "frozen" or "thawed"."""
    option, vm = given(command.option, "option"), vm_id(command.vm_name)
    hypervisor = hypervisor_of(site, command.vm_name, call)
    if option is FreezeOption.THAW:
        thaw(hypervisor, vm)
    elif option is FreezeOption.FREEZE and guest_state(hypervisor, vm, call) is GuestState.THAWED:
        window = Call.within(min(command.wait or DEFAULT_WINDOW, call.remaining()))
        hypervisor.run("vm.freeze", lambda c: hypervisor.driver.freeze(vm, c), window)
    state = guest_state(hypervisor, vm, step(call))
    asked = {FreezeOption.FREEZE: GuestState.FROZEN, FreezeOption.THAW: GuestState.THAWED}
    return FreezeThawVMAnswer(result=asked.get(option, state) is state, details=str(state))
