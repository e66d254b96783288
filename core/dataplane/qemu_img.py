"""Running qemu-img: argument lists, explicit formats, a deadline, and errors in the taxonomy.

qemu-img has no error codes, so what it says is looked at. It opens all images before it changes one: where
it did not get to open them, nothing was done, whatever the command.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..spi.call import Call
from ..spi.errors import (
    DataLoss,
    Internal,
    InUse,
    LimitExceeded,
    NotFound,
    Outcome,
    OutOfCapacity,
    PermissionDenied,
    StorageError,
    Unavailable,
    Unsupported,
)
from ..spi.location import DiskFormat
from .foreign import ImageFormat

_POLL = 0.1  # seconds until a cancelled call is noticed
_GRACE = 1.0  # seconds for a killed process to vanish; on a hung NFS server it stays until that returns
_LONGEST = 500  # characters of what it said

_CREATE: Mapping[ImageFormat, Sequence[str]] = {
    # v3 ("compat 1.1"): v2 has neither zero clusters nor bitmaps.
    "qcow2": ["-o", "compat=1.1"],
    # Else the size is rounded up to what cylinders, heads and sectors can say.
    "vpc": ["-o", "force_size=on"],
}

# The first that fits; an outcome of its own where the images were not even opened.
_WORDS: Sequence[tuple[str, type[StorageError], Outcome | None]] = (
    ('Failed to get "', InUse, Outcome.NOT_APPLIED),
    ("Failed to get shared", InUse, Outcome.NOT_APPLIED),
    ("Failed to lock byte", InUse, Outcome.NOT_APPLIED),
    ("Failed to load snapshot", DataLoss, Outcome.NOT_APPLIED),
    ("No such file or directory", NotFound, Outcome.NOT_APPLIED),
    ("Permission denied", PermissionDenied, Outcome.NOT_APPLIED),
    ("Read-only file system", PermissionDenied, Outcome.NOT_APPLIED),
    ("Image is corrupt", DataLoss, Outcome.NOT_APPLIED),
    ("Image is not in", DataLoss, Outcome.NOT_APPLIED),
    ("No space left", OutOfCapacity, None),
    ("Disk quota exceeded", OutOfCapacity, None),
    ("File too large", LimitExceeded, None),
    ("size is too large", LimitExceeded, Outcome.NOT_APPLIED),
    ("too large for", LimitExceeded, Outcome.NOT_APPLIED),
    ("Input/output error", Unavailable, None),
    ("Stale file handle", Unavailable, None),
)


def run_qemu_img(
    arguments: Sequence[str],
    call: Call,
    *,
    outcome: Outcome = Outcome.UNKNOWN,
    inherit: Sequence[int] = (),
    umask: int = -1,
) -> bytes:
    """Run `qemu-img ARGUMENTS` to its end and return what it printed.

    Args:
        arguments: paths are absolute, so that none is taken for an option or a protocol.
        call: it is killed when the call is cancelled or late.
        outcome: what is true if it is killed, or fails for a reason that does not tell.
        inherit: descriptors that the child keeps, so that a lock lives as long as its work.
        umask: of the child; -1: ours.

    Raises:
        StorageError: by what it said on standard error.
        Unsupported: it is not installed.
    """
    call.check()
    try:
        process = subprocess.Popen(
            ["qemu-img", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},  # the words above are English
            pass_fds=inherit,
            umask=umask,
        )
    except FileNotFoundError as error:
        raise Unsupported("qemu-img is not installed (Debian: apt install qemu-utils)") from error
    try:
        printed, said = _wait(process, call, outcome)
    finally:
        _end(process)
    if process.returncode != 0:
        raise _failed(arguments[0], process.returncode, said.decode(errors="replace").strip(), outcome)
    return printed


def _wait(process: subprocess.Popen[bytes], call: Call, outcome: Outcome) -> tuple[bytes, bytes]:
    while True:
        try:
            return process.communicate(timeout=_POLL)
        except subprocess.TimeoutExpired:
            call.check(outcome)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # uninterruptible; Python reaps it when it is back
            process.wait(_GRACE)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _failed(command: str, code: int, said: str, outcome: Outcome) -> StorageError:
    message = f"qemu-img {command} failed ({code}): {said[-_LONGEST:]}"
    for words, kind, known in _WORDS:
        if words in said:
            return kind(message, outcome=known or outcome)
    return Internal(message, outcome=outcome)


def image_info(path: Path, format: DiskFormat, call: Call) -> dict[str, Any]:  # noqa: A002 - its name
    """Return what qemu-img tells of an image, which QEMU may have open."""
    arguments = ["info", "-U", "--output", "json", "-f", format, str(path)]
    info: dict[str, Any] = json.loads(run_qemu_img(arguments, call, outcome=Outcome.NOT_APPLIED))
    return info


def create_image(
    path: Path,
    size: int,
    call: Call,
    *,
    image_format: ImageFormat = "qcow2",
    backing: str = "",
    backing_format: DiskFormat = "qcow2",
) -> None:
    """Create an empty image of `size` bytes, replacing what is there.

    Args:
        backing: name of the file below, of `backing_format`, as it is to stand in the header; not opened.
    """
    below = ["-u", "-b", backing, "-F", backing_format] if backing else []
    options = _CREATE.get(image_format, ())
    run_qemu_img(
        ["create", "-q", "-f", image_format, *options, *below, str(path.absolute()), str(size)], call
    )


def drop_inconsistent_bitmaps(path: Path, call: Call, *, inherit: Sequence[int] = ()) -> None:
    """Remove the bitmaps of a qcow2 image that a killed QEMU has left: nobody can use them any more.

    As long as they are there QEMU refuses to resize the image (qcow2_truncate_bitmaps_check). One that QEMU
    has open now looks the same from here: then its lock makes this `InUse`.
    """
    data = image_info(path, "qcow2", call).get("format-specific", {}).get("data", {})
    for one in data.get("bitmaps", ()):
        if "in-use" in one["flags"]:
            run_qemu_img(["bitmap", "--remove", "-f", "qcow2", str(path), one["name"]], call, inherit=inherit)


def set_backing(path: Path, backing: str, call: Call) -> None:
    """Write another name of the file below into a qcow2 header; no data is looked at."""
    arguments = ["rebase", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", backing]
    run_qemu_img([*arguments, str(path.absolute())], call)
