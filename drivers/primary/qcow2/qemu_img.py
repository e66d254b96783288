"""Running qemu-img: argument lists, explicit formats, a deadline, and errors in the taxonomy."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from ....core.spi import (
    Call,
    DataLoss,
    Internal,
    InUse,
    LimitExceeded,
    Outcome,
    OutOfCapacity,
    PermissionDenied,
    StorageError,
    Unavailable,
)

_POLL = 0.1  # seconds until a cancelled call is noticed
_GRACE = 1.0  # seconds for a killed process to vanish; on a hung NFS server it stays until that returns

_TYPES: Sequence[tuple[str, type[StorageError]]] = (
    ("No space left on device", OutOfCapacity),
    ("Disk quota exceeded", OutOfCapacity),
    ('Failed to get "', InUse),
    ("Failed to get shared", InUse),
    ("Failed to lock byte", InUse),
    ("Permission denied", PermissionDenied),
    ("Read-only file system", PermissionDenied),
    ("File too large", LimitExceeded),
    ("Image is corrupt", DataLoss),
    ("Image is not in", DataLoss),
    ("Input/output error", Unavailable),
    ("Stale file handle", Unavailable),
)


def run(
    arguments: Sequence[str],
    call: Call,
    *,
    inherit: Sequence[int] = (),
    outcome: Outcome = Outcome.NOT_APPLIED,
) -> None:
    """Run `qemu-img ARGUMENTS` to its end; it is killed when the call is cancelled or late.

    Args:
        arguments: what follows `qemu-img`; paths are absolute, so none is taken for an option.
        call: gives the deadline.
        inherit: descriptors that the child keeps, so that a lock lives as long as its work.
        outcome: what is true of the pool if it fails or is killed.

    Raises:
        StorageError: by what it said on standard error.
    """
    call.check()
    try:
        process = subprocess.Popen(
            ["qemu-img", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},  # the messages below are English
            pass_fds=inherit,
            umask=0o077,
        )
    except FileNotFoundError as error:
        raise Unavailable("qemu-img is not installed", outcome=Outcome.NOT_APPLIED) from error
    try:
        said = _wait(process, call, outcome)
    finally:
        _end(process)
    if process.returncode != 0:
        raise _failed(arguments[0], process.returncode, said, outcome)


def _wait(process: subprocess.Popen[bytes], call: Call, outcome: Outcome) -> str:
    while True:
        try:
            return process.communicate(timeout=_POLL)[1].decode(errors="replace").strip()
        except subprocess.TimeoutExpired:
            call.check(outcome)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # uninterruptible; Python reaps it when it is back
            process.wait(_GRACE)
    if process.stderr is not None:
        process.stderr.close()


def _failed(command: str, code: int, said: str, outcome: Outcome) -> StorageError:
    kind = next((kind for words, kind in _TYPES if words in said), Internal)
    if kind is InUse:
        outcome = Outcome.NOT_APPLIED  # it did not even get to open the image
    return kind(f"qemu-img {command} failed ({code}): {said[-500:]}", outcome=outcome)
