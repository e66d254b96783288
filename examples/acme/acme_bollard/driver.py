"""Acme's storage: sparse raw files in a directory that the hypervisor hosts mount.

    POOL/
    ├── pool.id              written by the operator; where it is missing, nothing is mounted; holds the lock
    ├── volume.ID            the bytes; the length is the size
    ├── volume.ID.json       name, origin, time; written once, before the bytes appear
    ├── snapshot.ID, .json   the same
    └── staging.raw          bytes in the making; gone after each change, at the latest after the next one

    make     fill staging.raw ── write the .json ── rename staging.raw to volume.ID   <- the commit
    revert   fill staging.raw ── rename it over volume.ID                             <- the commit
    delete   the bytes go  <- the commit ── the .json goes

A kill before the commit leaves the old state, one after it the new state, none leaves half of either: a
.json alone is nothing. There is no retry, no log and no fall-back in here: core does that for all drivers.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bollard.core import spi as api  # in the class, `spi` is the version
from bollard.core.dataplane import copy, open_sink, open_source
from bollard.core.dataplane.os_errors import os_errors
from bollard.core.spi import Call, FileLocation, Page, Snapshot, Volume, VolumeSpec
from bollard.transfer_objects.ids import ID_RULE, SnapshotId, VolumeId, is_valid_id

# ext4 ends one block before 16 TiB. Without reflinks a snapshot is a copy, which a running VM would tear.
# One lock serves the whole pool: simple, and slow where copies are long (drivers/primary/qcow2 has many).
TRAITS = api.Traits(max_size=8 * api.TIB, snapshot_while_attached=False, concurrent_calls=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcmeOptions:
    """What an operator configures; Bollard makes validation, schema and a template of it."""

    path: Path = api.option(help="Directory of the pool, with a pool.id in it", example="/srv/acme")


class AcmeDriver(
    # A volume is a file in a pool that hosts mount; the other bases are what it can do besides.
    api.HostPrimaryDriver[AcmeOptions], api.Resizes, api.ReportsCapacity,
    api.Snapshots, api.DirectSnapshotRead, api.Reverts, api.ClonesVolume, api.VolumeFromSnapshot,
):  # fmt: skip
    """A pool of raw files. The instance knows where it is; all else is in the files."""

    Options = AcmeOptions
    spi = (1, 0)  # what this was written for

    def open(self, call: Call) -> api.PoolInfo:
        """Find the pool. Its identity is what the operator wrote: the same from each host that mounts it."""
        with os_errors("cannot open the pool"):
            identity = (self.options.path / "pool.id").read_text(encoding="utf-8").strip()
        return api.PoolInfo(identity=identity, name=str(self._path("pool.id", call).parent))

    def close(self) -> None:
        """Nothing is kept between calls, so there is nothing that a restart could lose."""

    def traits(self) -> api.Traits:
        """Return the limits."""
        return TRAITS

    def capacity(self, call: Call) -> api.Capacity:
        """Return what the file system says: one question, however many volumes there are."""
        with os_errors("cannot read the capacity"):
            found = shutil.disk_usage(self._path("pool.id", call))
        return api.Capacity(total=found.total, used=found.used, provisioned=found.used)

    # -- volumes ---------------------------------------------------------------------------------------

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        """Make a volume of zeros."""
        return self._make(f"volume.{spec.id}", "", call, spec.size, spec.name)

    def clone_volume(self, source: VolumeId, spec: VolumeSpec, call: Call) -> Volume:
        """Make a volume out of another."""
        return self._make(f"volume.{spec.id}", f"volume.{source}", call, spec.size, spec.name)

    def create_volume_from_snapshot(self, snapshot: SnapshotId, spec: VolumeSpec, call: Call) -> Volume:
        """Make a volume out of a snapshot."""
        return self._make(f"volume.{spec.id}", f"snapshot.{snapshot}", call, spec.size, spec.name)

    def delete_volume(self, volume: VolumeId, call: Call) -> None:
        """Remove a volume that has no snapshots; a missing one is fine."""
        self._remove(f"volume.{volume}", call)

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        """Look at a volume."""
        return self._get(f"volume.{volume}", call)

    def list_volumes(self, call: Call, *, after: str | None = None, limit: int = 1000) -> Page[Volume]:
        """List the volumes by id."""
        return Page.first(self._all("volume", after, call), limit)

    def locate_volume(self, volume: VolumeId, call: Call) -> FileLocation:
        """Return the path. The format is stated, so that nobody probes what a guest has written."""
        return FileLocation(path=Path(self._get(f"volume.{volume}", call).identity), format="raw")

    def resize_volume(self, volume: VolumeId, size: int, call: Call) -> Volume:
        """Grow a volume: truncate(2) is one step, and what it adds reads as zeros."""
        with self._changing("resize", f"volume.{volume}", call) as (path, _):
            if size < (present := self._get(path.name, call).size):
                raise api.InvalidArgument(f"{path.name} has {present} bytes and cannot shrink to {size}")
            os.truncate(path, TRAITS.rounded(size))
            _sync(path)
        return self._get(path.name, call)

    # -- snapshots -------------------------------------------------------------------------------------

    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        """Make a snapshot: a file that shares the volume's blocks, or a copy of what is not a hole."""
        return _snapshot(self._make(f"snapshot.{snapshot}", f"volume.{volume}", call))

    def delete_snapshot(self, snapshot: SnapshotId, call: Call) -> None:
        """Remove a snapshot; a missing one is fine, and nothing depends on one."""
        self._remove(f"snapshot.{snapshot}", call)

    def get_snapshot(self, snapshot: SnapshotId, call: Call) -> Snapshot:
        """Look at a snapshot."""
        return _snapshot(self._get(f"snapshot.{snapshot}", call))

    def list_snapshots(
        self, volume: VolumeId, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[Snapshot]:
        """List a volume's snapshots by id."""
        taken = map(_snapshot, self._all("snapshot", after, call))
        return Page.first((s for s in taken if s.volume == volume), limit)

    def locate_snapshot(self, snapshot: SnapshotId, call: Call) -> FileLocation:
        """Return the path, for reading only."""
        path = Path(self._get(f"snapshot.{snapshot}", call).identity)
        return FileLocation(path=path, format="raw", read_only=True)

    def revert_volume(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Volume:
        """Put a copy of the snapshot in the place of the volume's file."""
        with self._changing("revert", f"volume.{volume}", call) as (path, staging):
            target, source = self._get(path.name, call), self._get(f"snapshot.{snapshot}", call)
            if source.private["origin"] != path.name:
                raise api.InvalidArgument(f"snapshot {snapshot} is not of volume {target.id}")
            _fill(staging, source.size, source, call)
            _move(staging, path)
        return self._get(path.name, call)

    # -- files: a key is `volume.ID` or `snapshot.ID` --------------------------------------------------

    def _path(self, name: str, call: Call) -> Path:
        """Return the path of a file of the pool; of what callers say, only a valid id becomes part of one."""
        call.check()
        if not is_valid_id(name.partition(".")[2]):
            raise api.InvalidArgument(f"{name!r} is not valid: {ID_RULE}")
        if not (self.options.path / "pool.id").is_file():  # else an unmount would look like an empty pool
            raise api.Unavailable("the pool is not mounted", outcome=api.Outcome.NOT_APPLIED)
        return self.options.path.absolute() / name

    def _get(self, key: str, call: Call) -> Volume:
        path, own = self._path(key, call), VolumeId(key.partition(".")[2])
        with os_errors(f"cannot find {key}"):
            stat, known = path.stat(), json.loads(Path(f"{path}.json").read_bytes())
        # st_blocks counts in units of 512 bytes, whatever the disk and the file system use.
        return Volume(id=own, size=stat.st_size, allocated=stat.st_blocks * 512, identity=str(path), **known)

    def _all(self, kind: str, after: str | None, call: Call) -> Iterator[Volume]:
        """Yield what is ours and still there, sorted by id, from behind the id `after`."""
        keys = (path.name for path in self._path("pool.id", call).parent.glob(f"{kind}.*"))
        for key in sorted(key for key in keys if key > f"{kind}.{after or ''}"):
            with suppress(api.NotFound, api.InvalidArgument):
                yield self._get(key, call)

    @contextmanager
    def _changing(self, verb: str, key: str, call: Call) -> Iterator[tuple[Path, Path]]:
        """Hold the pool's lock, which the kernel drops if we die; yield the object's and the staging path."""
        path, staging = self._path(key, call), self._path("staging.raw", call)
        with os_errors(f"cannot {verb} {key}"), path.with_name("pool.id").open("r+b") as lock:
            # Never wait for it: core repeats a call that finds it taken, as long as there is time.
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as taken:
                raise api.Busy("another call is changing the pool") from taken
            try:
                yield path, staging
            finally:  # a copy that filled the disk must not keep it full
                staging.unlink(missing_ok=True)

    def _make(self, key: str, origin: str, call: Call, size: int | None = None, name: str = "") -> Volume:
        """Make an object of zeros, or of the bytes (and size) of `origin`, unless an earlier try did."""
        with self._changing("make", key, call) as (path, staging):
            if not path.exists():
                _fill(staging, size, self._get(origin, call) if origin else None, call)
                known = {"name": name, "private": {"origin": origin, "created": str(datetime.now(UTC))}}
                Path(f"{path}.json").write_text(json.dumps(known), encoding="utf-8")
                _sync(Path(f"{path}.json"))
                _move(staging, path)
            found = self._get(key, call)
            if found.private["origin"] != origin or (size and TRAITS.rounded(size) != found.size):
                raise api.Conflict(f"{key} exists with {found.size} bytes, made of {origin or 'zeros'}")
            return found

    def _remove(self, key: str, call: Call) -> None:
        with self._changing("delete", key, call) as (path, _):
            if any(s.private["origin"] == key for s in self._all("snapshot", None, call)):
                raise api.HasDependents(f"{key} has snapshots")
            path.unlink(missing_ok=True)
            Path(f"{path}.json").unlink(missing_ok=True)
            _sync(path.parent)


def _fill(target: Path, size: int | None, source: Volume | None, call: Call) -> None:
    """Make a sparse file of `size` (None: the source's): the bytes of `source`, and zeros behind."""
    # These are customers' disks: nobody else on the host may read them, whatever the umask is.
    with os.fdopen(os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as new:
        new.truncate(TRAITS.rounded(source.size if source and size is None else size or 0))
    if source and not _reflinked(source, target):
        old, copied = (FileLocation(path=Path(p), format="raw") for p in (source.identity, target))
        with open_source(old) as reader, open_sink(copied) as writer:  # skips holes, refuses a smaller target
            copy(reader, writer, sink_is_zero=True, cancelled=lambda: call.remaining() <= 0)


def _reflinked(source: Volume, target: Path) -> bool:
    """Share the blocks of `source` if it fits and the file system can: XFS and btrfs."""
    # 0x40049409 is FICLONE of <linux/fs.h>, for which Python has no name.
    with Path(source.identity).open("rb") as old, target.open("r+b") as new, suppress(OSError):
        return source.size <= target.stat().st_size and fcntl.ioctl(new, 0x40049409, old.fileno()) == 0
    return False


def _move(source: Path, target: Path) -> None:
    """Rename, durably: the bytes are on disk before they have their name."""
    _sync(source)
    source.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    """Make bytes or names durable. If that fails, nobody knows what a power cut would leave."""
    with os_errors(f"cannot make {path} durable", outcome=api.Outcome.UNKNOWN), ExitStack() as stack:
        stack.callback(os.close, fd := os.open(path, os.O_RDONLY))
        os.fsync(fd)


def _snapshot(item: Volume) -> Snapshot:
    volume = VolumeId(item.private["origin"].removeprefix("volume."))
    created = datetime.fromisoformat(item.private["created"])
    return Snapshot(id=SnapshotId(item.id), volume=volume, size=item.size, created=created)
