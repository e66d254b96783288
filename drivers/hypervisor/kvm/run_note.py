"""A note on a VM's run, in the metadata of its live definition.

    <domain>                                   of now: libvirt drops it with the run, keeps it over its own
      <metadata>                               restart, and takes it along when the VM moves
        <bollard:run xmlns:bollard="urn:bollard:run">note</bollard:run>

It is never written to what the VM starts with the next time: the next run must not have it.
"""

from __future__ import annotations

import libvirt

from ....core.spi import Call
from .domain_xml import parse
from .machine import Machine

_URI = "urn:bollard:run"
_LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
_ELEMENT = libvirt.VIR_DOMAIN_METADATA_ELEMENT


def put_note(machine: Machine, note: str, call: Call) -> bool:
    """See `Overlays.note_run`."""
    if not machine.active(call):
        return False
    text = f"<run>{note}</run>" if note else None  # libvirt adds the name space; None removes the element
    machine.act(
        call, lambda domain: domain.setMetadata(_ELEMENT, text, "bollard", _URI, _LIVE), "noting its run"
    )
    return True


def read_note(machine: Machine, call: Call) -> str:
    """See `Overlays.run_note`."""
    if not machine.active(call):
        return ""

    def metadata(domain: libvirt.virDomain) -> str:
        try:
            return str(domain.metadata(_ELEMENT, _URI, _LIVE))
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
                return ""
            raise

    found = machine.ask(call, metadata, "reading the note on its run")
    return (parse(found).text or "") if found else ""
