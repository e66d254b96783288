"""A directory of objects of one kind: each is an image and a record beside it.

    volumes/web-1.qcow2    the image, under its final name only when it is complete
    volumes/web-1.json     the record: whose it is, its name, where it came from

An object exists if both are there. The record comes first and goes last, so a kill between any two
steps leaves a record without an image, which is nothing, and which the next one replaces or sweeps:

    make     image in staging | record | image moves in        <- the move is the commit
    delete   image goes                | record goes           <- the first step is the commit

An image without a record is a foreigner's file: not listed, not replaced, not deleted. Virtual size and
format facts stay in the image, where they cannot contradict it; extended attributes were no choice
(NFS before 4.2 and tmpfs before Linux 6.6 have none).
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, cast, get_args

from ....core.spi import Conflict, DiskFormat, InvalidArgument, checked_id
from ....transfer_objects.ids import ID_RULE, is_valid_id
from .posix import move, remove, write_atomically

FORMATS: tuple[DiskFormat, ...] = get_args(DiskFormat)
_VERSION = 1
_MAX_RECORD = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of an object beside its image.

    Attributes:
        key: file name without suffix: the id; of a snapshot `VOLUME.SNAPSHOT`.
        format: stated at creation and never probed.
        name: what a human calls it; of a template its id.
        origin: what it was made from: `empty`, `volume:ID`, `snapshot:ID`, `template:ID`, `adopted:NAME`.
        created: ISO 8601 with zone.
        sealed: True for a template that is ready and for each snapshot.
    """

    key: str
    format: DiskFormat
    name: str = ""
    origin: str = "empty"
    created: str = ""
    sealed: bool = False

    @property
    def own_id(self) -> str:
        """The object's id: all of the key, or the part behind the volume's id."""
        return self.key.rpartition(".")[2]

    @property
    def created_at(self) -> datetime:
        """When it was made."""
        return datetime.fromisoformat(self.created)

    def to_json(self) -> bytes:
        """Return the record as a file's content."""
        return json.dumps({"bollard": _VERSION, **asdict(self)}, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self | None:
        """Read a record; None if this is no record of ours."""
        try:
            values = json.loads(content)
        except ValueError:
            return None
        if not isinstance(values, dict) or values.pop("bollard", None) != _VERSION:
            return None
        kinds: dict[str, type] = {f.name: bool if f.name == "sealed" else str for f in fields(cls)}
        sound = values.keys() == kinds.keys() and all(type(values[n]) is kinds[n] for n in kinds)
        return cls(**cast("dict[str, Any]", values)) if sound and values["format"] in FORMATS else None


class Shelf:
    """The objects of one kind.

    Args:
        kind: `volume`, `snapshot` or `template`; names its locks.
        directory: where the objects stand.
        staging: where files are made, on the same file system.
        key_parts: how many ids make a key; the last is the object's own.
    """

    def __init__(self, kind: str, directory: Path, staging: Path, *, key_parts: int = 1) -> None:
        self.kind = kind
        self._key_parts = key_parts
        self.directory = directory
        self._staging = staging

    def lock_name(self, own_id: str) -> str:
        """Return the name of the lock that guards an object, and of what is staged for it.

        Raises:
            InvalidArgument: that is no id.
        """
        return f"{self.kind}.{checked_id(self.kind, own_id)}"

    def image(self, record: Record) -> Path:
        """Return the path of an object's image."""
        return self.directory / f"{record.key}.{record.format}"

    def find(self, key: str) -> Record | None:
        """Return the record of an object that exists."""
        if not self._is_key(key):
            raise InvalidArgument(f"{self.kind} id {key!r} is not valid: {ID_RULE}")
        record = self._read(key)
        return record if record and _is_regular(self.image(record)) else None

    def sorted_keys(self) -> list[str]:
        """Return the keys of all objects, sorted; reads names only."""
        return sorted(key for key, has_image in self._names() if has_image)

    def records(self, after: str = "") -> Iterator[Record]:
        """Yield the objects whose key is greater than `after`, sorted by key."""
        for key in self.sorted_keys():
            if key > after and (record := self.find(key)) is not None:
                yield record

    def publish(self, record: Record, image: Path) -> None:
        """Make an object exist by moving its complete image in.

        Raises:
            Conflict: a foreign file is in the way.
        """
        if os.path.lexists(self.image(record)):
            raise Conflict(f"a file {self.image(record).name} that is not ours is in the way")
        self.write(record)
        try:
            move(image, self.image(record))
        except OSError:
            remove(self._record(record.key))
            raise

    def replace_image(self, record: Record, image: Path) -> None:
        """Put another image in the place of an object's, in one step."""
        move(image, self.image(record))

    def write(self, record: Record) -> None:
        """Write a record."""
        staged = self._staging / f"{self.lock_name(record.own_id)}.json"
        write_atomically(self._record(record.key), record.to_json(), staged)

    def seal(self, record: Record) -> None:
        """Mark an object as never to be written again."""
        self.image(record).chmod(0o440)
        self.write(replace(record, sealed=True))

    def discard(self, record: Record) -> None:
        """Delete an object: image first."""
        remove(self.image(record))
        remove(self._record(record.key))

    def give_away(self, record: Record, target: Path) -> None:
        """Move an object's image out, to be ours no longer."""
        move(self.image(record), target)
        remove(self._record(record.key))

    def orphans(self) -> list[Record]:
        """Return our records that have no image."""
        found = [self._read(key) for key, has_image in self._names() if not has_image]
        return [record for record in found if record is not None]

    def sweep(self, key: str) -> None:
        """Remove a record of ours that has no image. Call it under the object's lock."""
        record = self._read(key)
        if record is not None and not os.path.lexists(self.image(record)):
            remove(self._record(key))

    def _names(self) -> Iterator[tuple[str, bool]]:
        """Yield the key of each file that may be a record, and whether an image is beside it."""
        if not self.directory.is_dir():
            return
        names = frozenset(path.name for path in self.directory.iterdir())
        for name in names:
            key = name.removesuffix(".json")
            if key != name and self._is_key(key):
                yield key, any(f"{key}.{suffix}" in names for suffix in FORMATS)

    def _is_key(self, key: str) -> bool:
        parts = key.split(".")
        return len(parts) == self._key_parts and all(is_valid_id(part) for part in parts)

    def _record(self, key: str) -> Path:
        return self.directory / f"{key}.json"

    def _read(self, key: str) -> Record | None:
        path = self._record(key)
        if not _is_regular(path):
            return None
        with path.open("rb") as file:
            record = Record.from_json(file.read(_MAX_RECORD))
        return record if record is not None and record.key == key else None


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def now() -> str:
    """Return the present time for `Record.created`."""
    return datetime.now(UTC).isoformat()
