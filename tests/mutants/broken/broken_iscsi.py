"""The driver `iscsi_ssh` with one method wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bollard.core.spi import Call, Outcome, PoolInfo, StorageError
from bollard.drivers.primary.iscsi_ssh import IscsiSshDriver
from bollard.drivers.primary.iscsi_ssh.array import Array


class LostReplyIsSuccess(IscsiSshDriver):
    """A command whose exit status never came has been done."""

    def open(self, call: Call) -> PoolInfo:
        """See `PrimaryDriver.open`."""
        info = super().open(call)
        self._array.close()
        self._opened = _Hopeful(self.options)
        return info


class _Hopeful(Array):
    def ask(self, act: str, call: Call, **arguments: Any) -> Any:
        """See `Array.ask`."""
        try:
            return super().ask(act, call, **arguments)
        except StorageError as error:
            if error.outcome is not Outcome.UNKNOWN:
                raise
            done: Mapping[str, Any] = {}
            return done
