"""What a check works with: the opened driver, volumes that are cleaned up, and data that can be judged.

Every name that the suite makes starts with the run's prefix. The driver writes the ledger before it makes
anything (`recording.py`), and the audit removes it after the check (`leaks.py`): the lab has nothing to undo.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import NoReturn

from ..core.access import Mover
from ..core.dataplane import BlockSource
from ..core.pool import Pool
from ..core.spi import Call, Capability, Host, Snapshot, StorageError, Volume, VolumeSpec
from ..core.store import Store
from ..simulators.faults.http import HttpProxy
from ..transfer_objects.ids import HostId, SnapshotId, VolumeId, new_id
from ..transfer_objects.secret import Secret
from . import pattern
from .model import Measure

MIB = 2**20
VOLUME_SIZE = 16 * MIB
STRIDE = 2 * MIB
# For each check of long random histories, if the user says nothing.
DEEP_SECONDS = 900.0
# Every CHAP secret of this process begins with it, so that the canary has one thing to look for.
CHAP_MARK = secrets.token_hex(5)


class ContractBroken(AssertionError):
    """The driver broke the sentence of the contract that a check tests."""


class NotApplicable(Exception):
    """A trait of the driver makes the check meaningless."""


def must(holds: object, message: str) -> None:
    """Fail the check with a sentence that an engineer can act on."""
    if not holds:
        raise ContractBroken(message)


def not_applicable(why: str) -> NoReturn:
    """End the check: it means nothing for this driver. `why` names the trait."""
    raise NotApplicable(why)


@dataclass(slots=True, kw_only=True)
class Notes:
    """What a check says beside pass and fail.

    Attributes:
        random: seeded by the run's seed and the check's id, so that a failure can be had again.
        seed: the same as a number, for Hypothesis.
        deep_seconds: that each check of long random histories may spend.
        reproducer: a stand-alone script that shows the failure, or "".
    """

    random: Random
    seed: int
    deep_seconds: float = DEEP_SECONDS
    measures: list[Measure] = field(default_factory=list)
    reproducer: str = ""

    def measure(
        self, name: str, value: float, unit: str, series: tuple[tuple[float, float], ...] = ()
    ) -> None:
        """Write a figure down; it decides nothing."""
        self.measures.append(Measure(name=name, value=value, unit=unit, series=series))


@dataclass(slots=True, kw_only=True)
class Lab:
    """One check's workplace on a primary pool.

    Attributes:
        pool: the pool under test, opened once for all checks.
        second: opens the pool once more, in a driver host of its own; with other options if given, and
            with `fork=True` in one that costs little, see `open_recorded_pool`.
        proxied: opens it once more through a fault proxy; yields the proxy and the pool.
        notes: figures, randomness and the reproducer.
    """

    pool: Pool
    mover: Mover
    prefix: str
    archive_store: Store
    second: Callable[..., AbstractContextManager[Pool]]
    proxied: Callable[..., AbstractContextManager[tuple[HttpProxy, Pool]]]
    notes: Notes

    def call(self, seconds: float = 60.0) -> Call:
        """Return a call with a deadline."""
        return Call.within(seconds)

    def new_id(self) -> VolumeId:
        """Return a fresh volume id of this run."""
        return VolumeId(new_id(self.prefix))

    def volume(self, size: int = VOLUME_SIZE) -> Volume:
        """Create a volume that is deleted after the check."""
        return self.pool.volumes.create(VolumeSpec(id=self.new_id(), size=size, name="bollard conformance"))

    def snapshot(self, volume: VolumeId) -> Snapshot:
        """Take a snapshot that is deleted after the check."""
        return self.pool.snapshots.create(volume, SnapshotId(new_id(self.prefix)))

    def host(self) -> Host:
        """Return a host that nobody else is."""
        name = new_id(self.prefix)[:40]
        return Host(
            id=HostId(name),
            name=name,
            iqn=f"iqn.2026-11.bollard:{name}",
            chap_user=name,
            chap_secret=self.chap_secret(),
        )

    def chap_secret(self) -> Secret:
        """Return a secret that no host has; 16 characters, which every initiator takes."""
        return Secret(CHAP_MARK + secrets.token_hex(3))

    # -- data ----------------------------------------------------------------------------------------

    def write(self, volume: Volume, generation: int, *, offset: int = 0, length: int | None = None) -> None:
        """Write one 4 KiB block of `generation` in each 2 MiB of a range, as a host would."""
        with self.mover.writing_volume(self.pool, volume.id) as sink:
            for at in _places(offset, length or volume.size - offset):
                sink.write(at, pattern.block(volume.id, at, generation))
            sink.flush()

    def verify(self, volume: VolumeId, expected: dict[int, int | None], *, owner: str | None = None) -> None:
        """Read a volume as a host would and judge the block at each offset (None: zeros)."""
        with self.mover.reading_volume(self.pool, volume) as source:
            judge(source, owner or volume, expected)

    def verify_snapshot(self, snapshot: SnapshotId, owner: str, expected: dict[int, int | None]) -> None:
        """Read a snapshot as the archive would and judge the block at each offset."""
        ways = {Capability.VOLUME_FROM_SNAPSHOT, Capability.DIRECT_SNAPSHOT_READ}
        must(
            ways & self.pool.capabilities().native,
            "no way to read a snapshot is declared: neither VolumeFromSnapshot nor DirectSnapshotRead",
        )
        with self.mover.reading_snapshot(self.pool, snapshot) as source:
            judge(source, owner, expected)

    def size_seen(self, volume: VolumeId) -> int:
        """Return the size that a host sees when it attaches the volume."""
        with self.mover.reading_volume(self.pool, volume) as source:
            return source.size


def _places(offset: int, length: int) -> Iterator[int]:
    """Yield the offsets of a range at which blocks are written: each 2 MiB, and the last block."""
    yield from range(offset, offset + length - pattern.BLOCK, STRIDE)
    yield offset + length - pattern.BLOCK


def expected(size: int, generation: int | None) -> dict[int, int | None]:
    """Return what `Lab.write` leaves on a volume of `size`, with the gaps between as zeros."""
    written: dict[int, int | None] = dict.fromkeys(_places(0, size), generation)
    gaps = [at + STRIDE // 2 for at in range(0, size - STRIDE, STRIDE)]
    return written | dict.fromkeys(gaps, None)


def zeros(offset: int, length: int) -> dict[int, int | None]:
    """Return the expectation of zeros at each MiB of a range."""
    return dict.fromkeys(range(offset, offset + length, MIB), None)


def judge(source: BlockSource, owner: str, want: dict[int, int | None]) -> None:
    """Fail with the first three things that are wrong."""
    wrong = []
    buffer = memoryview(bytearray(pattern.BLOCK))
    for offset, generation in sorted(want.items()):
        must(offset + pattern.BLOCK <= source.size, f"the volume ends at {source.size}, before {offset}")
        source.read_into(offset, buffer)
        if sentence := pattern.difference(buffer, owner, offset, generation):
            wrong.append(sentence)
    must(not wrong, "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""))


@contextmanager
def refused(*classes: type[StorageError]) -> Iterator[None]:
    """Expect one of these errors with outcome not applied."""
    names = " or ".join(c.__name__ for c in classes)
    try:
        yield
    except classes as error:
        must(
            error.outcome.value == "not_applied",
            f"{type(error).__name__} claims outcome {error.outcome}: a refusal must be 'not_applied'",
        )
        return
    except StorageError as error:
        raise ContractBroken(f"expected {names}, got {type(error).__name__}: {error.message}") from error
    raise ContractBroken(f"expected {names}, but the call succeeded")


@contextmanager
def failing() -> Iterator[None]:
    """Expect an error of the taxonomy, whichever: what it leaves behind is what the check is about."""
    try:
        yield
    except StorageError:
        return
    raise ContractBroken("expected an error, but the call succeeded")
