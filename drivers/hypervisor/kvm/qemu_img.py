"""Running qemu-img on images of stopped VMs: argument lists, explicit formats, a deadline, typed errors."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ....core.spi import (
    Call,
    DataLoss,
    DiskFormat,
    Internal,
    InUse,
    LimitExceeded,
    NotFound,
    Outcome,
    OutOfCapacity,
    PermissionDenied,
    StorageError,
    Unavailable,
)

_POLL = 0.1  # seconds until a cancelled call is noticed
_GRACE = 1.0  # seconds for a killed process to vanish; on a hung NFS server it stays until that returns

# What qemu-img says; it has no codes. It opens all images before it changes one.
_WORDS: Sequence[tuple[str, type[StorageError], Outcome]] = (
    ('Failed to get "', InUse, Outcome.NOT_APPLIED),
    ("Failed to get shared", InUse, Outcome.NOT_APPLIED),
    ("No such file or directory", NotFound, Outcome.NOT_APPLIED),
    ("Permission denied", PermissionDenied, Outcome.NOT_APPLIED),
    ("Read-only file system", PermissionDenied, Outcome.NOT_APPLIED),
    ("No space left on device", OutOfCapacity, Outcome.UNKNOWN),
    ("Disk quota exceeded", OutOfCapacity, Outcome.UNKNOWN),
    ("File too large", LimitExceeded, Outcome.UNKNOWN),
    ("Image is corrupt", DataLoss, Outcome.NOT_APPLIED),
    ("Image is not in", DataLoss, Outcome.NOT_APPLIED),
    ("Input/output error", Unavailable, Outcome.UNKNOWN),
)


def run_qemu_img(arguments: Sequence[str], call: Call, *, outcome: Outcome = Outcome.UNKNOWN) -> bytes:
    """Run `qemu-img ARGUMENTS` to its end and return what it printed.

    Args:
        arguments: paths are absolute, so none is taken for an option or a protocol.
        call: it is killed when the call is cancelled or late.
        outcome: what is known if it is killed or fails for a reason that tells nothing.

    Raises:
        StorageError: by what it said on standard error.
    """
    call.check()
    try:
        process = subprocess.Popen(
            ["qemu-img", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},  # the words above are English
        )
    except FileNotFoundError as error:
        raise Unavailable("qemu-img is not installed", outcome=Outcome.NOT_APPLIED) from error
    with process:
        try:
            printed, said = _wait(process, call, outcome)
        finally:
            _end(process)
    if process.returncode != 0:
        raise _failed(arguments[0], said.decode(errors="replace").strip(), outcome)
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
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)


def _failed(command: str, said: str, outcome: Outcome) -> StorageError:
    for words, kind, known in _WORDS:
        if words in said:
            return kind(f"qemu-img {command}: {said[-500:]}", outcome=known)
    return Internal(f"qemu-img {command}: {said[-500:]}", outcome=outcome)


def image_info(path: Path, format: DiskFormat, call: Call) -> dict[str, Any]:  # noqa: A002 - its name
    """Return what qemu-img tells of an image, which QEMU may have open."""
    arguments = ["info", "-U", "--output", "json", "-f", format, str(path)]
    info: dict[str, Any] = json.loads(run_qemu_img(arguments, call, outcome=Outcome.NOT_APPLIED))
    return info
