"""Disk images with a file system in them, made without a mount."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

MIB = 1024 * 1024

_MAKERS = {
    # Neither writes zeros nor waits to do so in the guest's first minutes.
    "ext4": ["mke2fs", "-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=1,nodiscard"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
}
# Debian keeps mkfs where an ordinary user's PATH does not look.
_ENVIRONMENT = os.environ | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}


def qcow2(path: Path, size: int = 256 * MIB, file_system: str = "ext4") -> Path:
    """Create a qcow2 image with a file system; "" for an empty one.

    xfs needs at least 300 MiB. The image has compat 1.1, without which it could not hold bitmaps.
    """
    if not file_system:
        _run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=1.1", path, size)
        return path
    raw = path.with_name(path.name + ".raw")
    with raw.open("xb") as file:
        file.truncate(size)
    _run(*_MAKERS[file_system], raw)
    _run("qemu-img", "convert", "-O", "qcow2", "-o", "compat=1.1", raw, path)
    raw.unlink()
    return path


def _run(*command: str | Path | int) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=_ENVIRONMENT,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
