"""Where things are in a pool, and whose.

    POOL/                            XFS with reflink, mounted; files of others lie here
        .bollard/                    root only
            pool.json                identity, portal, tgtd's socket
            lock                     one request that changes something at a time
            agent-DIGEST/            this program
            OWNER/
                v/VOLUME/            data, meta.json, grants/HOST.json, snapshots/SNAPSHOT
                s/SNAPSHOT/          data, meta.json
                g/GROUP/SNAPSHOT/    idem, of a VM snapshot
                a/ACCOUNT/           account.json, uses/VOLUME
                tmp/                 what is being made or removed

What is made is made in tmp/ and renamed into place when it is whole; what is removed is renamed to tmp/
first. So there are no half-made objects, a request that died is repeated from the beginning, and the next
one of any kind removes what it left.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import Refused, not_found
from .files import names_in, read_json, remove_tree, sync
from .tgt import Tgt

VERSION = 1
HOME = ".bollard"
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_OWNER = re.compile(r"[a-z0-9]{1,16}")
_PRIVATE_DIRECTORY = 0o700
_TGT_TIMEOUT = 10.0
# Bytes that are kept for who is writing already: tgtd tells a guest of a full pool "I/O error", and no more.
_RESERVE = 256 * 2**20


class Pool:
    """A pool as one owner sees it.

    Args:
        root: where the file system is mounted.
        owner: whose objects.

    Raises:
        Refused: not_found, if `install` has not prepared it; invalid_argument, if the owner is none.
    """

    def __init__(self, root: Path, owner: str) -> None:
        if not _OWNER.fullmatch(owner):
            raise Refused("invalid_argument", f"owner must be 1 to 16 of a-z and 0-9, got {owner!r}")
        described = read_json(root / HOME / "pool.json")
        if described is None:
            raise Refused("not_found", f"there is no pool at {root} on the array")
        self.root = root
        self.owner = owner
        self.described: dict[str, Any] = described
        self.home = root / HOME / owner
        self.tgt = Tgt(Path(described["socket"]), _TGT_TIMEOUT)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Let nobody else change anything; the kernel ends it with the process."""
        descriptor = os.open(self.root / HOME / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for name in ("v", "s", "g", "a", "tmp"):
                (self.home / name).mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            for name in os.listdir(self.home / "tmp"):  # noqa: PTH208 - short
                remove_tree(self.home / "tmp" / name)  # of who died: nobody else is at work
            yield
        finally:
            os.close(descriptor)

    # -- places ----------------------------------------------------------------------------------------

    def volume(self, volume: str) -> Path:
        """Return a volume's directory, which may not exist."""
        return self.home / "v" / checked(volume, "volume")

    def existing_volume(self, volume: str) -> Path:
        """Return a volume's directory."""
        place = self.volume(volume)
        if not place.exists():
            raise not_found(f"volume {volume}")
        return place

    def snapshot(self, snapshot: str) -> Path:
        """Return a snapshot's directory, which may not exist."""
        checked(snapshot, "snapshot")
        group = group_of(snapshot)
        return self.home / "g" / group / snapshot if group else self.home / "s" / snapshot

    def existing_snapshot(self, snapshot: str) -> Path:
        """Return a snapshot's directory."""
        place = self.snapshot(snapshot)
        if not place.exists():
            raise not_found(f"snapshot {snapshot}")
        return place

    # -- appearing and disappearing --------------------------------------------------------------------

    def draft(self, name: str) -> Path:
        """Return a fresh directory to make something in."""
        place = self.home / "tmp" / name
        place.mkdir(mode=_PRIVATE_DIRECTORY)
        return place

    def commit(self, draft: Path, place: Path) -> None:
        """Let a draft appear, durably."""
        draft.rename(place)
        sync(place.parent)

    def discard(self, place: Path) -> None:
        """Remove an object, if it is there; it disappears at once, and durably."""
        grave = self.home / "tmp" / f"gone-{place.name}"
        if place.exists():
            place.rename(grave)
            sync(place.parent)
            remove_tree(grave)

    def require_space(self, need: Callable[[], int]) -> None:
        """Refuse what may take `need` bytes now or later, when they are not there beside the reserve's rest.

        More than the reserve is not asked for: volumes may promise more than the pool has.
        """
        found = os.statvfs(self.root)
        free = found.f_bavail * found.f_frsize
        if free < _RESERVE and free < need():
            raise Refused("out_of_capacity", "the pool is full, but for what its writers may need")

    def grants(self, volume: Path) -> list[dict[str, Any]]:
        """Return a volume's grants, sorted by host."""
        found = [read_json(volume / "grants" / name) for name in names_in(volume / "grants")]
        return [grant for grant in found if grant is not None]


def checked(text: str, what: str) -> str:
    """Return an id that is one; it becomes a file's name and a part of a target's."""
    if not _ID.fullmatch(text):
        raise Refused("invalid_argument", f"{what} id {text!r} is not valid")
    return text


def group_of(snapshot: str) -> str:
    """Return the group that a snapshot of this id belongs to: "vms-GROUP-MEMBER", or ""."""
    found = re.fullmatch(r"vms-([0-9a-f]{24})-[0-9a-f]{24}", snapshot)
    return found[1] if found else ""
