"""Checkpoints: from when on QEMU tracks what a disk's guest writes.

    libvirt's checkpoint (metadata)  ──names──>  bitmap in the qcow2 file
      lost when the VM is defined anew,            lost or inconsistent when QEMU is killed
      and when it migrates

Either can be there without the other. A checkpoint counts when its bitmap is there and whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from xml.etree import ElementTree

import libvirt

from ....core.spi import Call, Checkpoint, NotFound, StorageError
from .bitmaps import Bitmaps
from .domain_xml import Element, disks_of, parse, sub, target_of, text_of
from .machine import Machine

_PARENTS_FIRST = libvirt.VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL
_NO_DOMAIN = libvirt.VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN | libvirt.VIR_DOMAIN_CHECKPOINT_XML_SECURE
_REDEFINE = libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE
_METADATA_ONLY = libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY


def whole_checkpoints(machine: Machine, call: Call) -> Sequence[Checkpoint]:
    """Return what libvirt knows and whose bitmaps are whole, oldest first."""
    bitmaps = Bitmaps(machine, call)
    return [one for one in _registered(machine, call) if _is_whole(bitmaps, one, call)]


def restore(machine: Machine, checkpoints: Sequence[Checkpoint], call: Call) -> Sequence[str]:
    """Tell libvirt again; return the names of those whose bitmaps are gone."""
    bitmaps = Bitmaps(machine, call)
    _forget_lost(machine, bitmaps, {one.device for one in checkpoints}, call)
    known = {one.name for one in _registered(machine, call)}
    gone = []
    for one in checkpoints:
        if not _is_whole(bitmaps, one, call):
            gone.append(one.name)
        elif one.name not in known:
            if _speaks_of(one.text, one.device):
                _register(machine, _with_known_parent(one.text, known), call)
            else:
                register(machine, one.device, one.name, call)
            known.add(one.name)
    return gone


def _forget_lost(machine: Machine, bitmaps: Bitmaps, devices: set[str], call: Call) -> None:
    """Let libvirt forget what has no bitmap any more: it went while another VM, or none, had the volume."""
    for one in _registered(machine, call):
        if one.device in devices and one.name not in bitmaps.of(one.device, call):
            with suppress(NotFound):
                machine.act(call, partial(_forget, one.name), f"forgetting checkpoint {one.name}")


def _forget(name: str, domain: Any) -> None:
    domain.checkpointLookupByName(name).delete(_METADATA_ONLY)


def delete(machine: Machine, device: str, name: str, call: Call) -> None:
    """Take a checkpoint away with its bitmap; either may be missing or broken."""
    with suppress(NotFound):
        machine.act(call, lambda domain: _delete(domain, name), f"deleting checkpoint {name}")
    Bitmaps(machine, call).remove(device, name, call)


def register(machine: Machine, device: str, name: str, call: Call) -> None:
    """Tell libvirt of a bitmap that was made behind its back."""
    root = new_checkpoint(machine, device, name, call)
    sub(root, "creationTime", str(int(time.time())))
    before = _registered(machine, call)
    if before:  # else two of one second would have no order
        sub(sub(root, "parent"), "name", before[-1].name)
    _register(machine, text_of(root), call)


def new_checkpoint(machine: Machine, device: str, name: str, call: Call) -> Element:
    """Return the XML of a checkpoint of one disk alone."""
    root = ElementTree.Element("domaincheckpoint")
    sub(root, "name", name)
    disks = sub(root, "disks")
    for disk in disks_of(machine.definition(call)):
        target = target_of(disk)
        if target == device:
            sub(disks, "disk", name=target, checkpoint="bitmap", bitmap=name)
        else:
            sub(disks, "disk", name=target, checkpoint="no")
    return root


def _registered(machine: Machine, call: Call) -> list[Checkpoint]:
    found = machine.ask(call, lambda domain: list(_each(domain)), "listing its checkpoints")
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def _each(domain: Any) -> Iterator[tuple[tuple[int, int], Checkpoint]]:
    """Yield each checkpoint with its age: libvirt's time has seconds only, so its order decides the rest."""
    for number, checkpoint in enumerate(domain.listAllCheckpoints(_PARENTS_FIRST)):
        text = checkpoint.getXMLDesc(_NO_DOMAIN)
        content = parse(text)
        device = next((str(one.get("name")) for one in _tracked(content)), "")
        age = int(content.findtext("creationTime", "0")), number
        yield age, Checkpoint(name=checkpoint.getName(), device=device, text=text)


def _speaks_of(text: str, device: str) -> bool:
    """Tell whether it is of this device: a detached volume may come back as another one, or have no text."""
    return bool(text) and any(one.get("name") == device for one in _tracked(parse(text)))


def _tracked(content: Element) -> Iterator[Element]:
    return (one for one in content.iterfind("disks/disk") if one.get("checkpoint") == "bitmap")


def _is_whole(bitmaps: Bitmaps, checkpoint: Checkpoint, call: Call) -> bool:
    found = bitmaps.of(checkpoint.device, call).get(checkpoint.name)
    return found is not None and found.whole


def _register(machine: Machine, text: str, call: Call) -> None:
    machine.act(call, lambda domain: domain.checkpointCreateXML(text, _REDEFINE), "registering a checkpoint")


def _with_known_parent(text: str, known: set[str]) -> str:
    """Return the XML without a parent that libvirt does not know: it would refuse the child."""
    content = parse(text)
    parent = content.find("parent")
    if parent is not None and parent.findtext("name") not in known:
        content.remove(parent)
    return text_of(content)


def _delete(domain: Any, name: str) -> None:
    """Delete it with its bitmap in all images of the chain, or at least libvirt's knowledge of it."""
    checkpoint = domain.checkpointLookupByName(name)
    try:
        checkpoint.delete(0)
    except libvirt.libvirtError:  # its bitmap is not there, or cannot be opened
        checkpoint.delete(_METADATA_ONLY)


def clean(machine: Machine, device: str, name: str) -> bool:
    """Try to take a checkpoint away after a failure; tell whether it is gone."""
    try:
        delete(machine, device, name, Call.within(30))
    except StorageError:
        return False
    return True
