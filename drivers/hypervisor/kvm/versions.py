"""What the host's libvirt and QEMU must be for incremental backups, told with both versions."""

from __future__ import annotations

from ....core.spi import Call, Unsupported
from .connection import HostLink

# libvirt 7.6.0 verifies a checkpoint's bitmap when it is defined again; QEMU 6.1 merges bitmaps whole.
_LIBVIRT = 7_006_000
_QEMU = 6_001_000
_SETTING = "kvm.incremental.snapshot"


def check_versions(link: HostLink, call: Call) -> None:
    """Refuse to track changes where it is not safe.

    Raises:
        Unsupported: naming the versions found and needed, and the setting to turn off.
    """
    libvirt, qemu = link.ask(call, lambda one: (one.getLibVersion(), one.getVersion()), "asking for versions")
    if libvirt < _LIBVIRT or qemu < _QEMU:
        raise Unsupported(
            f"host {link.host} has libvirt {_text(libvirt)} and QEMU {_text(qemu)}; incremental snapshots "
            f"need libvirt {_text(_LIBVIRT)} and QEMU {_text(_QEMU)} or newer: "
            f"set {_SETTING} to false for this cluster"
        )


def _text(version: int) -> str:
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"
