"""Objects on a host: introduce verifies and writes down, forget strikes out; neither touches data.

    introduce   look at the object ── compare with the register ── register ── CHAP secret
    forget      is it a disk, or below one? ── CHAP secret away ── register away

After a kill -9 anywhere in between a repeat finishes: the register's entry comes first and goes last.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import libvirt

from ....core.spi import (
    Call,
    Conflict,
    FileLocation,
    Introduced,
    Introduction,
    InUse,
    IscsiLocation,
    NotFound,
    ObjectKind,
)
from ....transfer_objects.ids import HostId
from .base import KvmHosts
from .chap import drop_secret, keep_secret, needs_secret, usage_of
from .connection import HostLink
from .domain_xml import Element, disks_of, files_of, parse
from .verify import place_of, verified


class KvmObjects(KvmHosts):
    """What the hosts know."""

    def introduce(self, what: Introduction, call: Call) -> Introduced:
        """See `HypervisorDriver.introduce`."""
        link = self._link(what.host)
        known = self._register.find(what.host, what.kind, what.object_id)
        seen = verified(what, call)
        link.ask(call, lambda connection: connection.getHostname(), "asking for its name")
        if known is not None and not _same_object(known, seen):
            raise Conflict(f"host {what.host} knows {what.kind} {what.object_id} as another object")
        if known is not None and needs_secret(known) and not needs_secret(seen):
            drop_secret(link, usage_of(what.kind, what.object_id), call)
        if known != _without_secret(seen):  # new; or it has grown since, or the host has another account
            self._register.keep(_without_secret(seen))
        if isinstance(seen.location, IscsiLocation) and seen.location.chap_secret is not None:
            keep_secret(link, usage_of(what.kind, what.object_id), seen.location.chap_secret, call)
        return _introduced(seen)

    def forget(self, kind: ObjectKind, object_id: str, host: HostId, call: Call) -> None:
        """See `HypervisorDriver.forget`; an unknown host knows nothing, so that is fine."""
        known = self._register.find(host, kind, object_id)
        if host not in self._links or known is None:
            return
        link = self._link(host)
        user = _user_of(known, link, call)
        if user:
            raise InUse(f"{kind} {object_id} is in use by VM {user}")
        if needs_secret(known):
            drop_secret(link, usage_of(kind, object_id), call)
        self._register.drop(host, kind, object_id)

    def introductions(self, host: HostId, call: Call) -> Sequence[Introduced]:
        """See `HypervisorDriver.introductions`."""
        call.check()
        known = self._register.all(host, ObjectKind.VOLUME) if host in self._links else ()
        return [_introduced(one) for one in known]

    def _known(self, disk: Introduced) -> Introduction:
        """Return the object as its host knows it now."""
        for known in self._register.of_id(disk.host, disk.object_id):
            if place_of(known.location) == disk.path:
                return known
        raise NotFound(f"host {disk.host} does not know {disk.object_id} at {disk.path}")


def _introduced(what: Introduction) -> Introduced:
    return Introduced(object_id=what.object_id, host=what.host, path=place_of(what.location))


def _without_secret(what: Introduction) -> Introduction:
    if isinstance(what.location, IscsiLocation):
        return dataclasses.replace(what, location=dataclasses.replace(what.location, chap_secret=None))
    return what


def _same_object(known: Introduction, seen: Introduction) -> bool:
    """Tell whether two introductions mean one object; a LUN's account and any object's size may change."""
    if known.identity != seen.identity or known.location.read_only != seen.location.read_only:
        return False
    formats = [one.location.format for one in (known, seen) if isinstance(one.location, FileLocation)]
    return place_of(known.location) == place_of(seen.location) and len(set(formats)) <= 1


def _user_of(what: Introduction, link: HostLink, call: Call) -> str:
    """Return a VM that has the object as a disk, or has a disk that stands on it; "" if none has."""
    definitions = link.ask(call, _definitions, "looking for users of an object")
    for name, definition in definitions:
        for disk in disks_of(definition):
            if disk.findtext("serial") == what.object_id or _stands_on(disk, what):
                return name
    return ""


def _definitions(connection: Any) -> list[tuple[str, Element]]:
    """Return what the VMs have now, and what they will start with."""
    return list(_each_definition(connection))


def _each_definition(connection: Any) -> Iterator[tuple[str, Element]]:
    for domain in connection.listAllDomains():
        for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
            try:
                yield domain.name(), parse(domain.XMLDesc(flags))
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:  # else it has just gone
                    raise


def _stands_on(disk: Element, what: Introduction) -> bool:
    location = what.location
    return isinstance(location, FileLocation) and location.path in set(map(Path.resolve, files_of(disk)))
