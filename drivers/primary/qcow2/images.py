"""What is done to image files: make, copy, grow, measure. Formats are always stated."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from ....core.dataplane import image_lock
from ....core.dataplane.durable import sync
from ....core.dataplane.image_info import probe
from ....core.dataplane.qemu_img import drop_inconsistent_bitmaps, run_qemu_img
from ....core.spi import DiskFormat, Outcome
from .directory import Job

_FICLONE = 0x40049409  # linux/fs.h
_CANNOT_CLONE = {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS}

# compat=1.1: only version 3 holds bitmaps and knows zero clusters. Lazy refcounts would need a repair
# after a crash of QEMU.
_OPTIONS = ("-o", "compat=1.1,lazy_refcounts=off,preallocation=off")


def virtual_size(image: Path, image_format: DiskFormat) -> int:
    """Return the bytes that a guest sees."""
    return probe(image, image_format).virtual_size


def create(job: Job, image_format: DiskFormat, size: int) -> None:
    """Make an empty image at `job.staged`."""
    if image_format == "raw":
        job.staged.touch(mode=0o600, exist_ok=False)
        os.truncate(job.staged, size)
    else:
        arguments = ["create", "-q", "-f", image_format, *_OPTIONS, str(job.staged), str(size)]
        _run(arguments, job)
    sync(job.staged)


def copy(job: Job, source: Path, image_format: DiskFormat, size: int | None = None) -> None:
    """Make a self-contained copy at `job.staged`, grown to `size` bytes if that is given.

    XFS and btrfs share the blocks at once; elsewhere every allocated byte is copied.

    Raises:
        InUse: a running QEMU may write to the source.
    """
    with image_lock.reading(source) as fd:
        if not _reflinked(fd, job.staged):
            formats = ["-f", image_format, "-O", image_format]
            options = _OPTIONS if image_format == "qcow2" else ()
            arguments = ["convert", "-q", *formats, *options, str(source), str(job.staged)]
            _run(arguments, job)
    if size is not None and size > virtual_size(job.staged, image_format):
        grow(job, job.staged, image_format, size)
    sync(job.staged)


def grow(job: Job, image: Path, image_format: DiskFormat, size: int) -> None:
    """Grow an image in place; the new size is one write, so a crash leaves the old or the new.

    Raises:
        InUse: a QEMU has the image open.
    """
    if image_format == "raw":
        with image_lock.alone(image, writable=True) as fd:
            os.ftruncate(fd, size)
            os.fsync(fd)
        return
    if image_format == "qcow2":
        drop_inconsistent_bitmaps(image, job.call, inherit=job.locks)
    arguments = ["resize", "-q", "-f", image_format, str(image), str(size)]
    _run(arguments, job, outcome=Outcome.UNKNOWN)
    sync(image)


def _run(arguments: Sequence[str], job: Job, *, outcome: Outcome = Outcome.NOT_APPLIED) -> None:
    """Run qemu-img under the job's locks; a new image is for its owner alone."""
    run_qemu_img(arguments, job.call, inherit=job.locks, outcome=outcome, umask=0o077)


def _reflinked(source: int, target: Path) -> bool:
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.ioctl(fd, _FICLONE, source)
    except OSError as error:
        if error.errno not in _CANNOT_CLONE:
            raise
        target.unlink()
        return False
    finally:
        os.close(fd)
    return True
