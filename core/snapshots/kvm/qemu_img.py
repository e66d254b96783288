"""qemu-img, for new image files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ...spi.call import Call
from ...spi.errors import DeadlineExceeded, Internal, Outcome, OutOfCapacity, Unsupported


def create(path: Path, size: int, call: Call, *, backing: str = "") -> None:
    """Create an empty qcow2 file of `size` bytes, replacing what is there.

    Args:
        backing: name of the qcow2 file below, as it is to stand in the header; not opened.

    Raises:
        Unsupported: qemu-img is not installed.
    """
    below = ["-u", "-b", backing, "-F", "qcow2"] if backing else []
    # v3 ("compat 1.1"): v2 has neither zero clusters nor bitmaps.
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=1.1", *below, str(path), str(size)]
    _run(command, path, call)


def set_backing(path: Path, backing: str, call: Call) -> None:
    """Write another name of the file below into the header; no data is looked at."""
    _run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", backing, str(path)], path, call)


def _run(command: Sequence[str], path: Path, call: Call) -> None:
    try:
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=call.remaining(),
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError as error:
        raise Unsupported("qemu-img is not installed (Debian: apt install qemu-utils)") from error
    except subprocess.TimeoutExpired as error:
        raise DeadlineExceeded(f"qemu-img took too long with {path}") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip()[-500:]
        kind = OutOfCapacity if "No space left" in said else Internal
        raise kind(f"qemu-img failed with {path}: {said}", outcome=Outcome.UNKNOWN) from error
