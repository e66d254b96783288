"""Drivers that trust names, ids and files of others, and tell what they must keep to themselves."""

# ruff: noqa: ARG002 - the SPI says what the arguments are

from __future__ import annotations

import logging
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from bollard.core.spi import (
    Call,
    FileLocation,
    Internal,
    NotFound,
    ObjectKind,
    Outcome,
    PoolInfo,
    StorageError,
    Volume,
    VolumeSpec,
)
from bollard.drivers.hypervisor.driver import SimulatedHypervisorDriver
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.primary.qcow2 import Qcow2Driver
from bollard.transfer_objects.ids import HostId, VolumeId

_log = logging.getLogger("vendor.array")


class NamesAreDecoded(ArrayDriver):
    """A name is percent-decoded on its way, though nobody encoded it."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        """Decode."""
        return super().create_volume(replace(spec, name=unquote(spec.name)), call)


class NamesAreCommands(ArrayDriver):
    """A volume is announced by a command that is built as one string."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        """Announce."""
        if "\0" not in spec.name:
            subprocess.run(f": {spec.name}", shell=True, check=False, capture_output=True)  # noqa: S602 - the defect
        return super().create_volume(spec, call)


class IdsAreTidied(ArrayDriver):
    """Ids are looked up without regard to case and to what stands around them."""

    def _name(self, volume: VolumeId) -> str:
        return super()._name(VolumeId(volume.strip(" /#\n\0").lower()))


class TrustsItsNames(ArrayDriver):
    """A volume with a name of ours is shown, whosever mark it bears."""

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        """Show it."""
        found = self._named(self._client.talk(call), self._name(volume))
        if found is None:
            raise NotFound(f"volume {volume} does not exist")
        return replace(found.to_spi(), id=volume)


class LoginsFailInternally(ArrayDriver):
    """Whatever goes wrong while the pool is opened is an internal error."""

    def open(self, call: Call) -> PoolInfo:
        """Open."""
        try:
            return super().open(call)
        except StorageError as error:
            raise Internal("the pool cannot be opened", outcome=Outcome.UNKNOWN) from error


class LogsThePassword(ArrayDriver):
    """The login is logged with all that it needs."""

    def open(self, call: Call) -> PoolInfo:
        """Log."""
        _log.warning("login as %s with %s", self.options.username, self.options.password.reveal())
        return super().open(call)


class FilesForEverybody(Qcow2Driver):
    """Images can be read by everybody on the host."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        """Open them to all."""
        volume = super().create_volume(spec, call)
        self.locate_volume(volume.id, call).path.chmod(0o644)
        return volume


class NamesArePaths(Qcow2Driver):
    """A volume is said to lie in a directory that its name leads to."""

    def locate_volume(self, volume: VolumeId, call: Call) -> FileLocation:
        """Join the name to the path."""
        found = super().locate_volume(volume, call)
        name = self.get_volume(volume, call).name
        place = os.path.normpath(found.path.parent / name.replace("\0", "") / ".." / found.path.name)
        return replace(found, path=Path(place))


class TakesAnyImage(Qcow2Driver):
    """What is adopted is not looked into."""

    def _check(self, native: Path, fd: int, size: int) -> None:
        return


class ImportsByPath(Qcow2Driver):
    """Whatever the host finds under a name is taken for something to adopt."""

    def adopt_volume(self, native_name: str, spec: VolumeSpec, call: Call) -> Volume:
        """Take it."""
        if "\0" not in native_name and (self.options.path / native_name).exists():
            return self.create_volume(spec, call)  # as an import would; the bytes do not matter here
        return super().adopt_volume(native_name, spec, call)


class ForgetFails(SimulatedHypervisorDriver):
    """An object is not let go of by its host, once it is there."""

    def forget(self, kind: ObjectKind, object_id: str, host: HostId, call: Call) -> None:
        """Fail."""
        raise Internal(f"host {host} still uses {kind} {object_id}", outcome=Outcome.NOT_APPLIED)
