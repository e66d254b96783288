"""Where the incremental snapshots of a pool's volumes go, as the configuration has it.

    [increments.files]                        for the volumes of [pools.files]
    hypervisor = "kvm-7"                      whose VMs have them
    directory = "/mnt/pool/increments"        snapshots that stay on primary storage
    secondary = "nas"                         the others: one of [directories], or one of [stores]

    [directories.nas]                         secondary storage that is mounted here, of qcow2 files
    path = "/mnt/nas/bollard"

Refs in the catalog call these stores `pool:files`, `directory:nas` and `archive:NAME`: they stay true when
something is mounted elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..transfer_objects.errors import did_you_mean
from .settings import BACKUP_TO_SECONDARY, DELTA_MAX, INCREMENTAL_SNAPSHOT, Settings
from .spi import InvalidArgument, option, parse_options


@dataclass(frozen=True, slots=True, kw_only=True)
class Increments:
    """What one table says; a name of CloudStack stands where it has the same setting."""

    hypervisor: str = option(help="The hypervisor whose VMs have the volumes", example="kvm-7")
    directory: Path = option(
        help="Directory for snapshots that stay on primary storage", example="/mnt/pool/increments"
    )
    secondary: str = option(help="Where the others go: one of [directories] or of [stores]", default="")
    backup: bool | None = option(
        help="New ones go to secondary storage (snapshot.backup.to.secondary); else as `secondary` is named",
        default=None,
    )
    incremental: bool = option(
        help="They are deltas where they can be (kvm.incremental.snapshot)", default=True
    )
    longest_chain: int = option(
        help="Snapshots in a chain, its full among them (snapshot.delta.max)",
        default=DELTA_MAX.default,
        minimum=DELTA_MAX.minimum,
        maximum=DELTA_MAX.maximum,
    )
    scratch: Path | None = option(
        help="Directory of this machine for archived snapshots while they are read; else that of its state",
        default=None,
    )

    @property
    def backs_up(self) -> bool:
        """Tell whether the next snapshot goes to secondary storage."""
        return bool(self.secondary) if self.backup is None else self.backup

    def settings(self) -> Settings:
        """Return the settings of the volumes of this pool."""
        settings = Settings()
        settings.set(INCREMENTAL_SNAPSHOT.name, self.incremental)
        settings.set(DELTA_MAX.name, self.longest_chain)
        settings.set(BACKUP_TO_SECONDARY.name, self.backs_up)
        return settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """Secondary storage that is mounted on this machine."""

    path: Path = option(
        help="It must exist; below a mount point, so that it is not there while nothing is mounted",
        example="/mnt/nas/bollard",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """The names that a table may refer to."""

    pools: Collection[str]
    stores: Collection[str]
    hypervisors: Collection[str]


def parse_directories(raw: Mapping[str, Any]) -> dict[str, Directory]:
    """Return [directories].

    Raises:
        InvalidArgument: naming the place and the rule, here and below.
    """
    found = {}
    for name, table in raw.items():
        found[name] = _parsed(Directory, f"directories.{name}", table)
        _check_absolute(f"directories.{name}.path", found[name].path)
    return found


def parse_increments(
    raw: Mapping[str, Any], directories: Mapping[str, Directory], named: Named
) -> dict[str, Increments]:
    """Return [increments]: each table fits to what it refers to, and no two share a directory."""
    found: dict[str, Increments] = {}
    for name, table in raw.items():
        place = f"increments.{name}"
        one = found[name] = _parsed(Increments, place, table)
        _check_named(place, "pool", name, named.pools)
        _check_named(f"{place}.hypervisor", "hypervisor", one.hypervisor, named.hypervisors)
        _check_secondary(place, one, directories, named.stores)
        _check_absolute(f"{place}.directory", one.directory)
    _check_apart(
        {f"increments.{name}.directory": one.directory for name, one in found.items()}
        | {f"directories.{name}.path": one.path for name, one in directories.items()}
    )
    return found


def _parsed(cls: type[Any], place: str, table: object) -> Any:
    if not isinstance(table, dict):
        raise InvalidArgument(f"[{place}] must be a table")
    try:
        return parse_options(cls, table)
    except InvalidArgument as error:
        raise InvalidArgument(f"[{place}]: {error.message}") from error


def _check_named(place: str, kind: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise InvalidArgument(f"{place}: there is no {kind} {name!r}; {did_you_mean(name, sorted(known))}")


def _check_secondary(
    place: str, one: Increments, directories: Mapping[str, Directory], stores: Collection[str]
) -> None:
    if not one.secondary:
        if one.backs_up:
            raise InvalidArgument(f"{place}.backup is true, and {place}.secondary names no place for them")
        return
    _check_named(f"{place}.secondary", "directory or store", one.secondary, {*directories, *stores})
    if one.secondary in directories and one.secondary in stores:
        raise InvalidArgument(f"{place}.secondary: {one.secondary!r} is a directory, and a store as well")


def _check_absolute(place: str, path: Path) -> None:
    if not path.is_absolute() or ".." in path.parts:
        raise InvalidArgument(f"{place} must be an absolute path without '..', got '{path}'")


def _check_apart(paths: Mapping[str, Path]) -> None:
    """Refuse a directory of two: each would take the other's files for its own."""
    seen: dict[Path, str] = {}
    for place, path in paths.items():
        other = seen.setdefault(path, place)
        if other != place:
            raise InvalidArgument(f"{other} and {place} are the same directory, {path}")
