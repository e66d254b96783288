"""The pool: a directory with a fixed layout, an identity, and no leftovers.

POOL/
├── volumes/ snapshots/ templates/     see shelf.py
├── (anything else)                    foreign; may be adopted by name
└── .bollard/
    ├── pool.json                      identity, written with the first object
    ├── locks/                         see object_locks.py
    └── staging/LOCKNAME.img           images in the making, guarded by the lock of that name
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ....core.dataplane.durable import sync
from ....core.dataplane.os_errors import os_errors
from ....core.spi import Busy, Call, DataLoss, Internal, NotFound, Outcome, Unavailable
from .object_locks import ObjectLocks
from .posix import remove, write_atomically
from .shelf import Shelf

_IDENTITY_LOCK = "pool"


@dataclass(frozen=True, slots=True)
class Job:
    """One operation on one object, under its lock.

    Attributes:
        staged: where a new image is made; gone when the job ends, unless it was moved in.
        locks: descriptors that child processes inherit.
    """

    call: Call
    staged: Path
    locks: Sequence[int]


class PoolDirectory:
    """Layout and life cycle of the directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._own = root / ".bollard"
        self._staging = self._own / "staging"
        self._locks = ObjectLocks(self._own / "locks")
        self.volumes = Shelf("volume", root / "volumes", self._staging)
        self.snapshots = Shelf("snapshot", root / "snapshots", self._staging, key_parts=2)
        self.templates = Shelf("template", root / "templates", self._staging)
        self._shelves = (self.volumes, self.snapshots, self.templates)
        self._device: int | None = None

    def open(self, *, must_be_mounted: bool) -> str:
        """Check the directory, sweep what killed processes left, and return the pool's identity.

        Raises:
            NotFound: there is no such directory.
            Unavailable: it should be a mount point and is none.
        """
        with os_errors(f"cannot open pool directory {self.root}"):
            if not self.root.is_dir():
                raise NotFound(f"pool directory {self.root} does not exist")
            if must_be_mounted and not os.path.ismount(self.root):
                raise Unavailable(f"nothing is mounted on {self.root}", outcome=Outcome.NOT_APPLIED)
            self._device = self.root.stat().st_dev
            self._sweep()
            return self._identity()

    def close(self) -> None:
        """Forget the directory until the next `open`."""
        self._device = None

    def check(self) -> None:
        """Refuse to work where the pool is not: after an unmount its path is an empty directory.

        Raises:
            Unavailable: another file system is there than the one that was opened.
        """
        if self._device is None:
            raise Internal("the pool is not open", outcome=Outcome.NOT_APPLIED)
        try:
            same = self.root.stat().st_dev == self._device
        except OSError:
            same = False
        if not same:
            raise Unavailable(f"{self.root} is no longer mounted", outcome=Outcome.NOT_APPLIED)

    @contextmanager
    def reading(self, call: Call) -> Iterator[None]:
        """Look without a lock: everything is complete under its final name."""
        call.check()
        self.check()
        with os_errors(f"cannot read pool directory {self.root}"):
            yield

    @contextmanager
    def job(self, shelf: Shelf, own_id: str, call: Call, *, shared: Sequence[str] = ()) -> Iterator[Job]:
        """Work on one object, under its lock and those of `shared`, which must not change meanwhile.

        Raises:
            Busy: somebody else works on one of them.
        """
        lock = shelf.lock_name(own_id)
        call.check()
        self.check()
        with os_errors(f"cannot work on {shelf.kind} {own_id}"):
            self._lay_out()
            staged = self._staging / f"{lock}.img"
            with self._locks.hold([lock], shared) as held:
                staged.unlink(missing_ok=True)  # of a process that was killed
                try:
                    yield Job(call, staged, held)
                finally:
                    staged.unlink(missing_ok=True)

    def _lay_out(self) -> None:
        self._own.mkdir(mode=0o700, exist_ok=True)
        for directory in (self._staging, self._locks.directory):
            directory.mkdir(mode=0o700, exist_ok=True)
        for shelf in self._shelves:
            shelf.directory.mkdir(mode=0o755, exist_ok=True)
        if not self._identity_file.exists():
            self._write_identity()

    # -- identity -------------------------------------------------------------------------------------

    @property
    def _identity_file(self) -> Path:
        return self._own / "pool.json"

    def _identity(self) -> str:
        """Return what is written, or, as long as there is no object, what will be written."""
        if not self._identity_file.exists():
            return self._derived_identity()
        try:
            return str(uuid.UUID(json.loads(self._identity_file.read_bytes())["identity"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataLoss(f"{self._identity_file} is damaged") from error

    def _derived_identity(self) -> str:
        # The path alone is the same on every machine that has a /var/lib/pool.
        place = f"{socket.gethostname()}:{self.root.resolve()}:{self.root.stat().st_ino}"
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"bollard-pool:{place}"))

    def _write_identity(self) -> None:
        with self._locks.hold([_IDENTITY_LOCK]):
            if not self._identity_file.exists():
                content = json.dumps({"bollard": 1, "identity": self._derived_identity()})
                write_atomically(
                    self._identity_file, content.encode(), self._staging / f"{_IDENTITY_LOCK}.json"
                )
                sync(self.root)

    # -- leftovers ------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Remove what has no living owner: whoever works holds the lock that is asked for here."""
        if not self._locks.directory.is_dir():
            return
        for path in sorted(self._staging.iterdir()) if self._staging.is_dir() else []:
            self._sweep_one(path.stem, partial(remove, path))
        for shelf in self._shelves:
            for record in shelf.orphans():
                self._sweep_one(shelf.lock_name(record.own_id), partial(shelf.sweep, record.key))
        for lock in self._locks.names():
            self._sweep_one(lock, lambda: None)

    def _sweep_one(self, lock: str, act: Callable[[], None]) -> None:
        try:
            with self._locks.hold([lock]):
                act()
        except Busy:
            pass
