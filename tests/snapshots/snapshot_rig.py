"""One pool with an archive behind it, and ways to make either fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bollard.core.access import Mover
from bollard.core.archive import Archive
from bollard.core.pool import Pool
from bollard.core.snapshots import VolumeSnapshots, export_image
from bollard.core.spi import Call, Internal, Outcome, VolumeSpec
from bollard.core.store import Store
from bollard.drivers.secondary.nfs import NfsDriver

MIB = 2**20


def call() -> Call:
    """A call with a minute to go."""
    return Call.within(60)


class Striker:
    """Lets one call fail: the `at`-th of those that it watches, before it ran or after.

    Attributes:
        seen: how many it has watched.
    """

    def __init__(self) -> None:
        self.seen = 0
        self.at = 0
        self.after = False

    def arm(self, at: int, *, after: bool = False) -> None:
        """Count from zero and fail call number `at`; 0: none."""
        self.seen, self.at, self.after = 0, at, after

    def watch(self, target: object, *names: str) -> None:
        """Stand between an object and its users."""
        for name in names:
            setattr(target, name, self._guarded(getattr(target, name), name))

    def _guarded(self, method: Callable[..., Any], name: str) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            self.seen += 1
            hit = self.seen == self.at
            if hit and not self.after:
                raise Internal(f"struck before {name}", outcome=Outcome.NOT_APPLIED)
            result = method(*args, **kwargs)
            if hit:
                raise Internal(f"struck after {name}", outcome=Outcome.UNKNOWN)
            return result

        return guarded


class Damaging(NfsDriver):
    """A store that flips a bit of each part once it is stored, as long as `damage` is set."""

    damage = True

    def put(self, key: str, *args: Any, **kwargs: Any) -> Any:
        """Store, then damage."""
        stored = super().put(key, *args, **kwargs)
        if self.damage and key.endswith(".zip"):
            flip(self.directory / key)
        return stored


def flip(part: Path) -> None:
    """Flip a bit in the middle of a file."""
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.chmod(0o600)
    part.write_bytes(data)


class Meter:
    """A block source that counts the bytes that are read from it and all its clones."""

    def __init__(self, source: Any, counter: list[int]) -> None:
        self._source = source
        self._counter = counter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *error: object) -> None:
        self._source.close()

    def clone(self) -> Meter:
        """Count for the same counter."""
        return Meter(self._source.clone(), self._counter)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Count and read."""
        self._counter.append(len(buffer))
        self._source.read_into(offset, buffer)


class Rig:
    """One pool with an archive behind it: what a test acts on and looks at."""

    def __init__(self, pool: Pool, store: Store, mover: Mover, directory: Path) -> None:
        self.pool = pool
        self.store = store
        self.mover = mover
        self.archive = Archive(store)
        self.service = VolumeSnapshots(pool=pool, archive=self.archive, mover=mover)
        self._directory = directory

    def make(self, volume: Any, data: bytes) -> None:
        """Create a volume that begins with `data`; 1 MiB, or as many as it takes."""
        size = -(-max(len(data), 1) // MIB) * MIB
        self.pool.volumes.create(VolumeSpec(id=volume, size=size))
        self.write(volume, data)

    def write(self, volume: Any, data: bytes, offset: int = 0) -> None:
        """Write as a host; the rest of the last 4 KiB becomes zeros."""
        padded = data + bytes(-len(data) % 4096)
        with self.mover.writing_volume(self.pool, volume) as sink:
            sink.write(offset, padded)
            sink.flush()

    def read(self, volume: Any) -> bytes:
        """Read a volume as a host."""
        with self.mover.reading_volume(self.pool, volume) as source:
            content = bytearray(source.size)
            source.read_into(0, memoryview(content))
        return bytes(content)

    def archived(self, volume: Any, snapshot: Any) -> bytes:
        """Return what the archive holds."""
        path = self._directory / "export.raw"
        export_image(self.archive, volume, snapshot, path, "raw", call())
        content = path.read_bytes()
        path.unlink()
        return content

    def in_archive(self, volume: str) -> list[str]:
        """Return the snapshots of a volume in the archive."""
        return [entry.snapshot for entry in self.archive.list(call(), volume=volume)]

    def on_pool(self, volume: Any) -> list[str]:
        """Return the snapshots of a volume on the pool."""
        return [snapshot.id for snapshot in self.pool.snapshots.list(volume)]

    def volumes(self) -> list[str]:
        """Return all volumes of the pool."""
        return [volume.id for volume in self.pool.volumes.list()]

    def intents(self) -> list[str]:
        """Return what the journal still holds."""
        return sorted(p.name for p in (self._directory / "journal").glob("*.intent"))
