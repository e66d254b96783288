"""Ceph images as block sources and sinks: a private qemu-nbd with librbd inside, spoken to over NBD.

    us ── NBD, private unix socket ──> qemu-nbd ── librbd ──> monitors, OSDs

- The kernel is not asked: no /dev/rbd that another process could open, and what we started ends with us.
- Monitors and key go over as an open file in memory, which librados reads as its configuration from
  /proc/self/fd/N; on a command line everybody could. /etc/ceph is not looked at.
- Which image it is, is not asked but enforced: a key opens the objects of one image id, and an id never comes
  again. Another image of the same name is refused.
- What is allocated is read from the object map; zeros become discards, of any length: librbd leaves out
  discards of less than 64 KiB by default, and an increment would carry what a host has thrown away.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from ...transfer_objects.secret import Secret
from ..spi.errors import (
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from ..spi.location import RbdLocation
from .nbd import DEFAULT_TIMEOUT
from .nbd_source import NbdSink, NbdSource
from .qemu_nbd import PrivateServer, Reasons

_NO_NAME = Secret("")
_SPARSE = ("--discard=unmap", "--detect-zeroes=unmap")
# Seconds. Closing an image takes milliseconds; a client that was cut off may hang in it.
_PATIENCE = 5.0
_MONITORS = re.compile(r"[A-Za-z0-9.:,/\[\]_-]{1,1024}")
_KEY = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_IMAGE = re.compile(r"[^@/\x00-\x1f\x7f]+")

_REASONS: Reasons = (
    ("error connecting: Permission denied", Unauthenticated),
    ("error connecting: Operation not permitted", Unauthenticated),
    ("error connecting: Invalid argument", Unauthenticated),
    ("error connecting", Unavailable),
    ("No such file or directory", NotFound),
    ("Operation not permitted", PermissionDenied),
    ("Permission denied", PermissionDenied),
    ("read-only", PermissionDenied),
    ("unknown driver", Unsupported),
    ("block-rbd.so", Unsupported),
)


def open_rbd_source(location: RbdLocation, *, timeout: float = DEFAULT_TIMEOUT) -> NbdSource:
    """Open an image or snapshot for reading.

    Args:
        location: where it is, and as whom to open it.
        timeout: seconds that the cluster may stand still.

    Raises:
        InvalidArgument: a name that is none.
        NotFound: no such pool, image or snapshot.
        Unauthenticated: the cluster refuses the user or its key.
        PermissionDenied: the user may not open that image.
        DataLoss: it has another size than the location says.
        Unavailable: no monitor can be reached, or it does not answer in time.
        Unsupported: qemu-nbd or its RBD module is not installed.
    """
    server = _serve(location, ["--read-only"], timeout)
    try:
        return NbdSource(server, _NO_NAME, size=location.size, timeout=timeout)
    except Unavailable as error:
        raise server.explain(error) from error


def open_rbd_sink(location: RbdLocation, *, timeout: float = DEFAULT_TIMEOUT) -> NbdSink:
    """Open an image for writing; raises as `open_rbd_source`, also where the user may only read."""
    if location.snapshot:
        raise PermissionDenied("a snapshot is read-only")
    server = _serve(location, _SPARSE, timeout)
    try:
        return NbdSink(server, _NO_NAME, size=location.size, timeout=timeout)
    except Unavailable as error:
        raise server.explain(error) from error


def _serve(location: RbdLocation, arguments: Sequence[str], timeout: float) -> PrivateServer:
    options = _options(location)
    fd = _configuration(location, timeout)
    try:
        return PrivateServer(
            f"{location.pool}/{location.image}",
            [fd],
            lambda moved: [*arguments, "--image-opts", f"{options},file.conf=/proc/self/fd/{moved[0]}"],
            reasons=_REASONS,
            timeout=timeout,
            patience=_PATIENCE,
        )
    except BaseException:
        os.close(fd)
        raise


def _options(location: RbdLocation) -> str:
    """Return QEMU's options; none of the values can bring an option along."""
    for what, value, rule in (
        ("monitors", location.monitors, _MONITORS),
        ("pool", location.pool, _NAME),
        ("user", location.user, _NAME),
        ("image", location.image, _IMAGE),
        ("snapshot", location.snapshot or "none", _IMAGE),
    ):
        if not rule.fullmatch(value):
            raise InvalidArgument(f"{value!r} cannot be the {what} of an RBD location")
    parts = {"pool": location.pool, "image": location.image, "user": location.user}
    if location.snapshot:
        parts["snapshot"] = location.snapshot
    told = [f"file.{key}={value.replace(',', ',,')}" for key, value in parts.items()]
    return ",".join(["driver=raw", "file.driver=rbd", *told])


def _configuration(location: RbdLocation, timeout: float) -> int:
    """Return an open file that librados reads and that has no name anywhere."""
    if not _KEY.fullmatch(location.key.reveal()):
        raise InvalidArgument("the key of an RBD location must be base64")
    lines = (
        "[global]",
        f"mon_host = {location.monitors}",
        f"key = {location.key.reveal()}",
        # It says why it cannot connect before we take it for dead.
        f"client_mount_timeout = {max(1, int(timeout * 0.8))}",
        "rbd_skip_partial_discard = false",
        "rbd_discard_granularity_bytes = 0",
        "log_file = /dev/null",
        "log_to_stderr = false",
    )
    fd = os.memfd_create("ceph-conf")
    os.write(fd, "\n".join(lines).encode() + b"\n")
    return fd
