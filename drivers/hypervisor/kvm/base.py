"""What all parts of the driver share: its hosts, and the way to a VM on one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ....core.spi import Call, Host, HypervisorDriver, NotFound, StorageError, Unavailable, VmState
from ....transfer_objects.ids import HostId, VmId
from .connection import HostLink
from .machine import Machine, check_vm, is_there
from .options import KvmOptions, hosts_of
from .register import Register


class KvmHosts(HypervisorDriver[KvmOptions]):
    """The hosts. Making the driver opens no connection and touches no file."""

    Options: ClassVar = KvmOptions

    def __init__(self, options: KvmOptions) -> None:
        super().__init__(options)
        self._links = {
            host: HostLink(host, uri, keepalive=options.keepalive) for host, uri in hosts_of(options).items()
        }
        self._register = Register(options.state)

    def close(self) -> None:
        """See `Driver.close`."""
        for link in self._links.values():
            link.close()

    def list_hosts(self, call: Call) -> Sequence[Host]:
        """See `HypervisorDriver.list_hosts`; one that does not answer is left out."""
        return [Host(id=host) for host, link in self._links.items() if _answers(link, call)]

    def vm_state(self, vm: VmId, call: Call) -> VmState:
        """See `HypervisorDriver.vm_state`."""
        return self._machine(vm, call).state(call)

    def _link(self, host: HostId) -> HostLink:
        try:
            return self._links[host]
        except KeyError as error:
            raise NotFound(f"host {host!r} is not one of {sorted(self._links)}") from error

    def _machine(self, vm: VmId, call: Call) -> Machine:
        """Find a VM: where it runs, else where it is defined.

        Raises:
            NotFound: no host knows it.
            Unavailable: no host that answers knows it (not applied).
        """
        check_vm(vm)
        defined: Machine | None = None
        silent: StorageError | None = None
        for link in self._links.values():
            try:
                active = is_there(link, vm, call)
            except Unavailable as error:
                silent = error
                continue
            if active:
                return Machine(link, vm)
            if active is not None:
                defined = defined or Machine(link, vm)
        if defined is None and silent is not None:
            raise silent
        if defined is None:
            raise NotFound(f"no host knows VM {vm}")
        return defined


def _answers(link: HostLink, call: Call) -> bool:
    try:
        return bool(link.ask(call, lambda connection: connection.getLibVersion(), "asking its version"))
    except Unavailable:
        return False
