"""CHAP passwords as libvirt secrets: QEMU gets them from libvirt, nobody gets them back.

    private = yes     no client can read the value; the domain's XML holds the usage name only
    ephemeral = no    it is there again after libvirtd or the host restarted

The usage name says whose it is, so that forget finds it without a register of its own.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from xml.etree import ElementTree

import libvirt

from ....core.spi import Call, Introduction, IscsiLocation, NotFound, ObjectKind
from ....transfer_objects.secret import Secret
from .connection import HostLink
from .domain_xml import sub, text_of


def usage_of(kind: ObjectKind, object_id: str) -> str:
    """Return the name that the secret of an object has."""
    return f"bollard-{kind}-{object_id}"


def needs_secret(what: Introduction) -> bool:
    """Tell whether an object is reached with a password."""
    return isinstance(what.location, IscsiLocation) and bool(what.location.chap_user)


def keep_secret(link: HostLink, usage: str, value: Secret, call: Call) -> None:
    """Define the secret, or give it this value."""
    wanted = ElementTree.Element("secret", ephemeral="no", private="yes")
    sub(wanted, "description", "CHAP password of an object that Bollard introduced")
    sub(sub(wanted, "usage", type="iscsi"), "target", usage)

    def define(connection: Any) -> None:
        with suppress(libvirt.libvirtError):  # it is there: then only the value is set
            connection.secretDefineXML(text_of(wanted))
        _lookup(connection, usage).setValue(value.reveal().encode())

    link.act(call, define, "keeping a CHAP secret")


def drop_secret(link: HostLink, usage: str, call: Call) -> None:
    """Remove the secret; fine if it is not there."""
    with suppress(NotFound):
        link.act(call, lambda connection: _lookup(connection, usage).undefine(), "removing a CHAP secret")


def _lookup(connection: Any, usage: str) -> Any:
    return connection.secretLookupByUsage(libvirt.VIR_SECRET_USAGE_TYPE_ISCSI, usage)
