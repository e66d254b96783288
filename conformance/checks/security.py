"""Hostile names and ids at a primary driver, and what other tenants left behind."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ...core.spi import (
    AccessControl,
    Adopts,
    FileLocation,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Resizes,
    Snapshots,
    StorageError,
    Volume,
    VolumeSpec,
)
from ...transfer_objects.ids import SnapshotId, VolumeId
from .. import pattern
from ..lab import MIB, VOLUME_SIZE, ContractBroken, Lab, must, refused, zeros
from ..model import Tier
from ..registry import check

_REFUSED = (InvalidArgument, LimitExceeded)
_NAMES_OF_PATHS = (
    "../../../../tmp/x",
    "/etc/passwd",
    "..",
    ".",
    "..%2f..%2fx",
    "..\\..\\x",
    "-rf",
    "--help",
    "a/b/c",
    "nul\0byte",
    "line\nbreak",
    "~root",
    "con",
)
_NAMES_IN_DOCUMENTS = (
    "<a href='x'>&amp;</a>",
    "]]>",
    '"}, {"size": 1',
    "a\\u0041\\",
    "100%25 {0} {size} %s ${HOME}",
    "a\r\nX-Evil: 1",
    "?size=1&name=x#y",
    "' OR '1'='1",
    "\u05e9\u05dc\u05d5\u05dd \u202eabc",
    "\U0001f4be \u00e9 e\u0301",
    "n" * 255,
    "\u00fc" * 200,
)


# Ids that nobody may have, and other ways to write one that somebody has.
_NO_IDS = ("", ".", "..", "*", "%", "_", "/etc/passwd", "-rf", "a" * 300, "\U0001f4be")
_SPELLINGS = ("./{}", "../volumes/{}", "x/../{}", "{}/", " {}", "{}\0", "{}\n", "{}%00", "{}?x=1", "{}#")


@contextmanager
def _named(lab: Lab, name: str) -> Iterator[Volume | None]:
    """Create a volume of this name at the driver's own door; None if it is refused as it should be."""
    spec = VolumeSpec(id=lab.new_id(), size=MIB, name=name)
    try:
        volume = lab.pool.driver.create_volume(spec, lab.call())
    except _REFUSED as error:
        must(error.outcome.value == "not_applied", f"a refused name claims the outcome {error.outcome}")
        volume = None
    except StorageError as error:
        raise ContractBroken(f"the name {name!a} gives {type(error).__name__}: {error}") from error
    yield volume
    lab.pool.volumes.delete(spec.id)


@check(
    "sec.names_path_traversal",
    rule="any.text",
    field_bug="CVE-2015-5313 (libvirt): a volume name with '../' wrote outside of the pool",
)
def check_names_path_traversal(lab: Lab) -> None:
    """A name that looks like a path or an option is kept or refused, and places the volume nowhere else.

    Asked of the driver itself: core refuses most of them. If it fails: the name is a part of a path or of
    a command line; make both of the id, which needs no quoting anywhere.
    """
    home = _folder(lab, lab.volume(MIB).id)
    for name in _NAMES_OF_PATHS:
        with _named(lab, name) as volume:
            if volume is not None:
                must(_folder(lab, volume.id) == home, f"the name {name!a} moved the volume out of {home}")
                must(lab.pool.volumes.get(volume.id).id == volume.id, f"the name {name!a} changed the id")


def _folder(lab: Lab, volume: VolumeId) -> Path | None:
    """Return the directory of a volume's file, without its id; None where volumes are no files."""
    location = None if lab.pool.managed else lab.pool.volumes.locate(volume)
    if not isinstance(location, FileLocation):
        return None
    return Path(str(location.path).replace(volume, "ID")).parent  # each volume may have a directory of its id


@check("sec.names_shell_injection", rule="any.text")
def check_names_shell_injection(lab: Lab) -> None:
    """Commands in names of volumes, hosts and foreign objects are never run.

    Each would make a file, and there is none afterwards. If it fails: a command is built as one string;
    use a list of arguments, with `--` before what comes from outside.
    """
    with tempfile.TemporaryDirectory() as directory:
        spy = f"{directory}/canary"
        driver: Any = lab.pool.driver
        for command in (
            f"$(touch {spy})",
            f"`touch {spy}`",
            f"; touch {spy} #",
            f"| touch {spy}",
            f"' && touch {spy} '",
        ):
            with _named(lab, command) as volume:
                if volume is not None and isinstance(driver, AccessControl):
                    host = dataclasses.replace(lab.host(), name=command)
                    with suppress(*_REFUSED):
                        driver.grant(volume.id, host, lab.call())
                    driver.revoke(volume.id, host.id, lab.call())
            if isinstance(driver, Adopts):
                with suppress(StorageError):
                    driver.adopt_volume(command, VolumeSpec(id=lab.new_id(), size=MIB), lab.call())
        must(not list(Path(directory).iterdir()), "a name was run as a command")


@check("sec.names_escaped", rule="any.text")
def check_names_escaped(lab: Lab) -> None:
    """A name with the signs of XML, JSON, URLs, HTTP and SQL comes back as it was, or is not kept at all.

    Also 255 bytes, emoji, right-to-left and combining marks. If it fails: the name was pasted into a
    document; what comes back shows what the backend read.
    """
    for name in _NAMES_IN_DOCUMENTS:
        with _named(lab, name) as volume:
            if volume is None:
                continue
            found = lab.pool.volumes.get(volume.id)
            must(found.name in (name, ""), f"the name {name[:40]!a} became {found.name[:40]!a}")
            must(found.size == MIB, f"the name {name[:40]!a} changed the size to {found.size}")


@check("sec.ids_are_text", rule="any.text")
def check_ids_are_text(lab: Lab) -> None:
    """Ids that look like paths, patterns or other spellings of a volume's id reach no object.

    Asked of the driver itself. Looking gives `NotFound` or `InvalidArgument`, deleting may also succeed
    as for any missing id, and the volume that was meant stays. If it fails: ids are joined to paths, or
    compared with `LIKE`, a glob or without regard to case.
    """
    volume = lab.volume()
    lab.write(volume, 1)
    own = volume.id
    driver = lab.pool.driver
    for hostile in (
        *_NO_IDS,
        *(spelling.format(own) for spelling in _SPELLINGS),
        own.upper(),
        f"{own[:-1]}*",
    ):
        with suppress(NotFound, InvalidArgument, LimitExceeded):
            found = driver.get_volume(VolumeId(hostile), lab.call())
            raise ContractBroken(f"the id {hostile!a} shows the volume {found.id!a}")
        with suppress(NotFound, InvalidArgument, LimitExceeded):
            driver.delete_volume(VolumeId(hostile), lab.call())
        if isinstance(driver, Snapshots):
            with suppress(NotFound, InvalidArgument, LimitExceeded):
                driver.delete_snapshot(SnapshotId(hostile), lab.call())
    lab.verify(own, {0: 1})


@check("sec.native_names_stay_inside", rule="any.text", needs=(Adopts,))
def check_native_names_stay_inside(lab: Lab) -> None:
    """Only what stands in the pool under a plain name can be adopted: no path, no link, no file of the host.

    If it fails: a tenant's administrator reads any file of the host as a disk.
    """
    adopt = lab.pool.driver
    for name in ("../../etc/hostname", "/etc/hostname", ".", "..", "", "x\0y", "a/../../etc/hostname", "-v"):
        try:
            with refused(InvalidArgument, NotFound, LimitExceeded):
                adopt.adopt_volume(name, VolumeSpec(id=lab.new_id(), size=MIB), lab.call())  # type: ignore[attr-defined] # `needs`
        except ContractBroken as error:
            raise ContractBroken(f"adopting {name!a}: {error}") from error


@check("sec.other_tenants_volume_not_reachable", rule="vol.list-foreign", needs=(Adopts,))
def check_other_tenants_volume_not_reachable(lab: Lab) -> None:
    """A volume that is not ours (any more) is not shown, granted or deleted, though its id is known.

    It was released, and is somebody else's now; adopted again it holds its data. If it fails: the driver
    trusts the name that an object has, and not the mark that says whose it is.
    """
    volume = lab.volume()
    lab.write(volume, 1)
    native = lab.pool.volumes.release(volume.id)
    try:
        with refused(NotFound):
            lab.pool.volumes.get(volume.id)
        must(volume.id not in {v.id for v in lab.pool.volumes.list()}, "a released volume is still listed")
        if lab.pool.managed:
            with refused(NotFound):
                lab.pool.volumes.grant(volume.id, lab.host())
        with suppress(NotFound):
            lab.pool.volumes.delete(volume.id)
    finally:
        back = VolumeSpec(id=volume.id, size=volume.size)
        try:
            lab.pool.volumes.adopt(native, back)
        except NotFound as error:
            raise ContractBroken("deleting the id of a released volume deleted its data") from error
    lab.verify(volume.id, {0: 1})
    lab.pool.volumes.delete(volume.id)


@check(
    "sec.reused_blocks_zero",
    rule="vol.zero",
    tier=Tier.STANDARD,
    field_bug="OSSA-2023-003 / CVE-2023-2088: a volume showed another tenant's data",
)
def check_reused_blocks_zero(lab: Lab) -> None:
    """Whatever a deleted volume held, a new one, and what a volume grows by, reads zeros at each 64 KiB.

    Two volumes are written full and deleted first. If it fails: thin blocks are handed out unwiped, or a
    grown file keeps what lay behind its end.
    """
    places = range(0, 8 * MIB, 64 * 1024)
    for _ in range(2):
        old = lab.volume(8 * MIB)
        with lab.mover.writing_volume(lab.pool, old.id) as sink:
            for at in places:
                sink.write(at, pattern.block(old.id, at, 1))
            sink.flush()
        lab.pool.volumes.delete(old.id)
    nothing = dict.fromkeys(places, None)
    fresh = [lab.volume(8 * MIB) for _ in range(2)]
    for volume in fresh:
        lab.verify(volume.id, nothing)
    if isinstance(lab.pool.driver, Resizes):
        lab.pool.volumes.resize(fresh[0].id, VOLUME_SIZE)
        lab.verify(fresh[0].id, nothing | zeros(8 * MIB, VOLUME_SIZE - 8 * MIB))
