"""A VM as libvirt's domain, on the host where it is now."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import libvirt

from ....core.spi import Busy, Call, InvalidArgument, NotFound, VmState
from ....transfer_objects.cloudstack.ids import wire_id
from ....transfer_objects.ids import ID_RULE, VmId, is_valid_id
from .connection import HostLink
from .domain_xml import Element, parse, text_of

T = TypeVar("T")

_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: VmState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: VmState.RUNNING,
    libvirt.VIR_DOMAIN_SHUTDOWN: VmState.RUNNING,  # being shut down: QEMU is still there
    libvirt.VIR_DOMAIN_PAUSED: VmState.PAUSED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: VmState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTOFF: VmState.STOPPED,
    libvirt.VIR_DOMAIN_CRASHED: VmState.STOPPED,
    libvirt.VIR_DOMAIN_NOSTATE: VmState.STOPPED,
}


class Machine:
    """One VM on one host. A domain's handle dies with its connection, so it is looked up at each use."""

    def __init__(self, link: HostLink, vm: VmId) -> None:
        self.link = link
        self.vm = vm

    def ask(self, call: Call, question: Callable[[Any], T], what: str) -> T:
        """Ask the domain something; see `HostLink.ask`."""
        return self.link.ask(call, lambda connection: question(self._domain(connection)), self._told(what))

    def act(self, call: Call, deed: Callable[[Any], T], what: str) -> T:
        """Do something with the domain; see `HostLink.act`."""
        return self.link.act(call, lambda connection: deed(self._domain(connection)), self._told(what))

    def _told(self, what: str) -> str:
        return f"VM {self.vm}: {what}"

    def _domain(self, connection: Any) -> Any:
        return lookup(connection, self.vm)

    def state(self, call: Call) -> VmState:
        """Return the power state."""
        return _STATES[self.ask(call, lambda domain: domain.state()[0], "asking its state")]

    def active(self, call: Call) -> bool:
        """Tell whether it has a QEMU."""
        return bool(self.ask(call, lambda domain: domain.isActive(), "asking its state"))

    def define(self, definition: Element, call: Call) -> None:
        """Change its definition: what it starts with the next time."""
        text = text_of(definition)
        self.link.act(
            call, lambda connection: connection.defineXML(text), self._told("changing its definition")
        )

    def refuse_if_busy(self, call: Call) -> None:
        """Refuse at once what libvirt would refuse after 30 s: a backup, a migration or another save runs.

        Raises:
            Busy: naming it (not applied).
        """
        if not self.active(call):
            return
        job = self.ask(call, lambda domain: domain.jobStats(), "asking for its job")
        if job.get("type", libvirt.VIR_DOMAIN_JOB_NONE) != libvirt.VIR_DOMAIN_JOB_NONE:
            raise Busy(f"VM {self.vm}: another job runs on it")

    def resume(self, call: Call) -> None:
        """Let a paused VM go on; one that is not paused any more is fine.

        libvirtd, started again after a kill -9 in the midst of a snapshot, shows the VM as paused and then
        ends it.
        """
        if self.state(call) is not VmState.PAUSED:
            return
        try:
            self.act(call, lambda domain: domain.resume(), "resuming it")
        except InvalidArgument:
            if self.state(call) is VmState.PAUSED:
                raise

    def go_on(self, call: Call) -> None:
        """Resume a guest that QEMU has stopped for want of space, now that it writes elsewhere.

        If there is no room either it is stopped again, and nothing is lost.
        """
        state = self.ask(call, lambda domain: tuple(domain.state()), "asking its state")
        if state == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR):
            self.resume(call)

    def persistent(self, call: Call) -> bool:
        """Tell whether it is still defined when it is off."""
        return bool(self.ask(call, lambda domain: domain.isPersistent(), "asking whether it is persistent"))

    def definition(self, call: Call, *, inactive: bool = False, migratable: bool = False) -> Element:
        """Return its XML, of now or of the next start, with what libvirt hides from readers.

        Args:
            migratable: leave out what belongs to this host, as another host wants it.
        """
        flags = libvirt.VIR_DOMAIN_XML_SECURE
        flags |= libvirt.VIR_DOMAIN_XML_INACTIVE if inactive else 0
        flags |= libvirt.VIR_DOMAIN_XML_MIGRATABLE if migratable else 0
        return parse(self.ask(call, lambda domain: domain.XMLDesc(flags), "reading its definition"))


def domain_name(vm: VmId) -> str:
    """Return libvirt's name of a VM: an id that was escaped at CloudStack's border is its text again."""
    return wire_id(vm) or vm


def lookup(connection: Any, vm: VmId) -> Any:
    """Return the domain of this name, or of this UUID."""
    try:
        return connection.lookupByName(domain_name(vm))
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN or not _is_uuid(vm):
            raise
    return connection.lookupByUUIDString(vm)


def is_there(link: HostLink, vm: VmId, call: Call) -> bool | None:
    """Tell whether a host knows a VM: None if not, else whether it is active there."""
    with suppress(NotFound):
        return Machine(link, vm).active(call)
    return None


def check_vm(vm: VmId) -> None:
    """Refuse what cannot be a VM's id.

    Raises:
        InvalidArgument: naming the rule.
    """
    if not is_valid_id(vm):
        raise InvalidArgument(f"VM id {vm!r} is not valid: {ID_RULE}")


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
