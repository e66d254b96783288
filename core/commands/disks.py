"""Attach, dettach, introduce and forget."""

from __future__ import annotations

from contextlib import suppress

from ...transfer_objects.commands import (
    AttachAnswer,
    AttachCommand,
    DetachAnswer,
    DetachCommand,
    DettachAnswer,
    DettachCommand,
    ForgetObjectCmd,
    IntroduceObjectAnswer,
    IntroduceObjectCmd,
)
from ...transfer_objects.enums import VolumeType
from ...transfer_objects.ids import VmId
from ...transfer_objects.objects import DiskTO, VolumeObjectTO
from ..site import Site
from ..spi import Call, Introduced, NotFound, StorageError, Unsupported
from ..steps import step
from ..vm_snapshots.hypervisor import Hypervisor
from .guests import hypervisor_of, refuse_encryption
from .introducing import forget, introduce
from .names import vm_id, volume_id
from .storages import given, object_of
from .telling import told, told_disk


def introduce_object(command: IntroduceObjectCmd, site: Site, call: Call) -> IntroduceObjectAnswer:
    """Make the host know an object; the answer has it under the path that the host knows it by."""
    data = object_of(command.data)
    hypervisor = hypervisor_of(site, getattr(data, "vm_name", None), call)
    introduced = introduce(data, site, hypervisor, call)
    return IntroduceObjectAnswer(data=told(data, path=introduced.path))


def forget_object(command: ForgetObjectCmd, site: Site, call: Call) -> IntroduceObjectAnswer:
    """Make the host forget an object; its data stay."""
    data = object_of(command.data)
    forget(data, site, hypervisor_of(site, getattr(data, "vm_name", None), call), call)
    return IntroduceObjectAnswer(data=told(data))


def attach(command: AttachCommand, site: Site, call: Call) -> AttachAnswer:
    """Introduce a volume and attach it; the answer's details name the device."""
    disk = given(command.disk, "disk")
    volume, vm = _volume(disk), vm_id(command.vm_name)
    hypervisor = hypervisor_of(site, command.vm_name, call)
    hypervisor.vm_state(vm, step(call))  # a wrong name is told before anything is granted
    introduced = introduce(volume, site, hypervisor, call)
    try:
        device = hypervisor.run(
            "disk.attach", lambda c: hypervisor.driver.attach(vm, introduced, c), step(call)
        )
    except StorageError:
        with suppress(StorageError):  # in use by a VM after all; and why it failed matters more
            forget(volume, site, hypervisor, call)
        raise
    return AttachAnswer(disk=told_disk(disk), details=device)


def detach(command: DettachCommand, site: Site, call: Call) -> DettachAnswer:
    """Detach a volume, and make the host forget it; a VM that is gone has let go of it."""
    disk = given(command.disk, "disk")
    volume, vm = _volume(disk), vm_id(command.vm_name)
    try:
        hypervisors = [hypervisor_of(site, command.vm_name, call)]
    except NotFound:  # of several; whichever had it is to forget the volume, or its grant would stay for ever
        hypervisors = [site.hypervisor(name) for name in site.config.hypervisors]
    for hypervisor in hypervisors:
        _detach(volume, vm, site, hypervisor, call)
    answer = DetachAnswer if isinstance(command, DetachCommand) else DettachAnswer
    return answer(disk=told_disk(disk))


def _detach(volume: VolumeObjectTO, vm: VmId, site: Site, hypervisor: Hypervisor, call: Call) -> None:
    host = site.host_for(hypervisor, step(call))
    attached = Introduced(object_id=str(volume_id(volume)), host=host.id, path=volume.path or "")
    with suppress(NotFound):
        hypervisor.run("disk.detach", lambda c: hypervisor.driver.detach(vm, attached, c), step(call))
    forget(volume, site, hypervisor, call)


def _volume(disk: DiskTO) -> VolumeObjectTO:
    if disk.volume_type is VolumeType.ISO or not isinstance(disk.data, VolumeObjectTO):
        raise Unsupported("no hypervisor driver here has a CD drive: only volumes are attached")
    refuse_encryption(disk.data.requires_encryption)
    return disk.data
