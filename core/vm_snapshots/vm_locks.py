"""One task per VM at a time, among all processes of a machine; the kernel frees the lock of a dead one."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...transfer_objects.ids import VmId
from ..checks import check_id
from ..dataplane.os_errors import os_errors
from ..spi import Busy


class VmLocks:
    """Lock files in a directory. Who holds a VM's knows that whatever its records say is under way is not."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def task(self, vm: VmId) -> Iterator[None]:
        """Hold the VM.

        Raises:
            Busy: another task of the VM is under way.
        """
        check_id("vm", vm)
        with os_errors(f"cannot lock VM {vm} in {self._directory}"):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = (self._directory / f"{vm}.lock").open("wb")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Busy(f"VM {vm} has a snapshot task under way") from error
            yield
