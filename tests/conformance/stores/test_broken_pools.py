"""Each check of security, scale and compatibility fails a pool driver that breaks its sentence."""

from __future__ import annotations

import html
import importlib
import itertools
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bollard.conformance.checks import compat, scale, security, security_images, security_secrets
from bollard.conformance.hosting.client import hosted_class
from bollard.conformance.hosting.process import DriverHost
from bollard.conformance.lab import ContractBroken
from bollard.conformance.model import Level
from bollard.conformance.registry import ATTRIBUTE
from bollard.core.plugins import registered
from bollard.core.spi import (
    Call,
    FileLocation,
    Internal,
    NotFound,
    Page,
    PoolInfo,
    Snapshot,
    StorageError,
    Traits,
    Volume,
    VolumeSpec,
)
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.primary.qcow2 import Qcow2Driver
from bollard.transfer_objects.ids import SnapshotId, VolumeId

CHECKS: dict[str, tuple[Any, Callable[[Any], None]]] = {
    found.id: (found, function)
    for module in (compat, scale, security, security_images, security_secrets)
    for function in vars(module).values()
    if (found := getattr(function, ATTRIBUTE, None)) and found.kinds != ("image-store",)
}


class OwnMemory(Qcow2Driver):
    """Volumes that only the instance knows that made them."""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._mine: set[str] = set()

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        """Remember it."""
        self._mine.add(spec.id)
        return super().create_volume(spec, call)

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        """Only what is remembered."""
        if volume not in self._mine:
            raise NotFound("never heard of it")
        return super().get_volume(volume, call)


class CutsAgain(Qcow2Driver):
    """A repeat is a new cut."""

    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        """Say that it was made now."""
        return replace(super().create_snapshot(volume, snapshot, call), created=datetime.now(UTC))


class TimeInPrivate(Qcow2Driver):
    """Private data that differs each time."""

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        """With the time."""
        return replace(super().get_volume(volume, call), private={"seen": str(time.time_ns())})


class TraitsShrink(Qcow2Driver):
    """Traits that follow from what is there."""

    def traits(self) -> Traits:
        """Less with each volume."""
        made = len(list(self.options.path.glob("volumes/*.qcow2")))
        return replace(super().traits(), max_snapshots_per_volume=1000 - made)


class NameIsPath(Qcow2Driver):
    """A volume lies where its name says."""

    def locate_volume(self, volume: VolumeId, call: Call) -> FileLocation:
        """Join the name."""
        found = super().locate_volume(volume, call)
        name = self.get_volume(volume, call).name
        return replace(found, path=found.path.parent / name / found.path.name) if ".." in name else found


class RunsNames(Qcow2Driver):
    """A command line made of a name."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        """Ask the shell."""
        if spec.name.isprintable():
            subprocess.run(f"echo {spec.name}", shell=True, check=False, capture_output=True)  # noqa: S602 - the defect
        return super().create_volume(spec, call)


class ReadsMarkup(Qcow2Driver):
    """A name that went through a document."""

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        """Unescape it once too often."""
        found = super().get_volume(volume, call)
        return replace(found, name=html.unescape(found.name))


class TidiesIds(Qcow2Driver):
    """Ids in any spelling."""

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        """Without regard to case and space."""
        return super().get_volume(VolumeId(volume.strip().lower()), call)


class AdoptsAnything(Qcow2Driver):
    """Whatever is called a volume is one."""

    def adopt_volume(self, native_name: str, spec: VolumeSpec, call: Call) -> Volume:  # noqa: ARG002 - ignoring it is the defect
        """Believe it."""
        return Volume(id=spec.id, size=spec.size, name=native_name)


class DeletesByName(Qcow2Driver):
    """A delete of what is not ours any more."""

    def delete_volume(self, volume: VolumeId, call: Call) -> None:
        """Take the file that has the name."""
        (self.options.path / f"{volume}.qcow2").unlink(missing_ok=True)
        super().delete_volume(volume, call)


class OpenForAll(Qcow2Driver):
    """Images as the umask leaves them."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        """Readable for everybody."""
        made = super().create_volume(spec, call)
        self.locate_volume(spec.id, call).path.chmod(0o644)
        return made


class MakesPool(Qcow2Driver):
    """A pool that is not there is made."""

    def open(self, call: Call) -> PoolInfo:
        """For convenience."""
        self.options.path.mkdir(parents=True, exist_ok=True)
        return super().open(call)


class IgnoresLimit(Qcow2Driver):
    """One page is all."""

    def list_volumes(self, call: Call, *, after: str | None = None, limit: int = 1000) -> Page[Volume]:  # noqa: ARG002 - ignoring it is the defect
        """Whatever was asked for."""
        return super().list_volumes(call, after=after, limit=1000)


class SessionPerCall(Qcow2Driver):
    """Something opened for each call."""

    kept: list[int] = []  # noqa: RUF012 - what it leaks

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        """And never closed."""
        self.kept.append(os.open("/dev/null", os.O_RDONLY))
        return super().get_volume(volume, call)


class SecretInPrivate(ArrayDriver):
    """A password for those who come after."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        """In the private data, in hex."""
        secret = self.options.password.reveal().encode().hex()
        return replace(super().create_volume(spec, call), private={"auth": secret})


class SecretInError(ArrayDriver):
    """Who one is, in each error."""

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        """With the URL of the session."""
        try:
            return super().get_volume(volume, call)
        except NotFound as error:
            raise NotFound(f"{error} at admin:{self.options.password.reveal()}@array") from error


class EverythingInternal(ArrayDriver):
    """One class of error for all."""

    def open(self, call: Call) -> PoolInfo:
        """Something went wrong."""
        try:
            return super().open(call)
        except StorageError as error:
            raise Internal("the array could not be opened") from error


class OneAuthority(ArrayDriver):
    """The first authority ever given is trusted for good."""

    first: dict[str, Path] = {}  # noqa: RUF012 - shared on purpose: that is the defect

    def __init__(self, options: Any) -> None:
        super().__init__(replace(options, ca=self.first.setdefault(options.url, options.ca)))


KILLS: Mapping[str, type[Any]] = {
    "compat.objects_survive_restart": OwnMemory,
    "compat.private_data_sound": TimeInPrivate,
    "compat.snapshots_survive_restart": CutsAgain,
    "compat.traits_are_constant": TraitsShrink,
    "pool.open_missing": MakesPool,
    "pool.open_unreachable": EverythingInternal,
    "scale.list_pages_are_bounded": IgnoresLimit,
    "scale.session_per_call": SessionPerCall,
    "sec.files_not_for_all": OpenForAll,
    "sec.ids_are_text": TidiesIds,
    "sec.image_backing_file_refused": AdoptsAnything,
    "sec.names_escaped": ReadsMarkup,
    "sec.names_path_traversal": NameIsPath,
    "sec.names_shell_injection": RunsNames,
    "sec.native_names_stay_inside": AdoptsAnything,
    "sec.other_tenants_volume_not_reachable": DeletesByName,
    "sec.private_data_has_no_secret": SecretInPrivate,
    "sec.secret_in_error": SecretInError,
    "sec.tls_verified": OneAuthority,
    "sec.wrong_credentials_typed": EverythingInternal,
}
# Killed below by a defect of the simulator, and in a driver host.
ELSEWHERE = {"sec.reused_blocks_zero", "scale.calls_per_op_are_constant"}


def test_each_check_has_a_broken_pool() -> None:
    """No MUST check of these modules is without a driver that it fails."""
    musts = {found.id for found, _ in CHECKS.values() if found.level is Level.MUST}
    assert musts - KILLS.keys() == ELSEWHERE


@pytest.mark.parametrize("check", sorted(KILLS))
def test_broken_pool_is_found(check: str, lab_on_pool: Any, request: pytest.FixtureRequest) -> None:
    """A driver that breaks the sentence of a check fails it."""
    broken = KILLS[check]
    rig = request.getfixturevalue("array_rig" if issubclass(broken, ArrayDriver) else "qcow2_rig")
    with (
        registered("broken", broken),
        lab_on_pool("broken", rig.options) as lab,
        pytest.raises((ContractBroken, StorageError)),
    ):
        CHECKS[check][1](lab)


def test_old_bytes_are_found(array_rig: Any, lab_on_pool: Any) -> None:
    """An array that hands out what deleted volumes held is told so."""
    array_rig.simulator.defects.set("new_volume_shows_old_bytes")
    with (
        lab_on_pool("array", array_rig.options) as lab,
        pytest.raises(ContractBroken, match="ANOTHER VOLUME"),
    ):
        security.check_reused_blocks_zero(lab)


@pytest.mark.parametrize("healthy", [True, False])
def test_calls_are_counted_in_a_host(
    healthy: bool, array_rig: Any, lab_on_pool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that looks at all volumes to find one is told which operation grows; a good one passes."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    listing = importlib.import_module("listing_driver").ListingDriver
    number = itertools.count()

    def start(target: str) -> DriverHost:
        return DriverHost.start(target, tmp_path / f"host-{next(number)}")

    hosted = hosted_class(ArrayDriver if healthy else listing, start)
    with registered("hosted", hosted), lab_on_pool("hosted", array_rig.options) as lab:
        if healthy:
            scale.check_calls_per_op_are_constant(lab)
            assert {m.name for m in lab.notes.measures} >= {"external_calls_of_get", "bytes_read_by_get"}
            return
        with pytest.raises(ContractBroken, match="get reads"):
            scale.check_calls_per_op_are_constant(lab)
