"""Moving a volume to another pool: managed or not, with its limits lifted while it is copied.

    sweep ─> hold the source ─> lift its limits ─> make the target ─> copy ─> compare ─> limit the target
                                                                                               │
    delete the source <─ let go of it <─ take over: one step of the journal <──────────────────┘

The volume keeps its id. Until it is taken over the source is the volume, and a crash costs the target;
from then on the target is, and a crash costs the source a little later. A sweep of either pool, or the
repeated command, puts that in order, so that there is one volume in the end and never none.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..transfer_objects.ids import VolumeId
from .access import Mover
from .dataplane import BlockSource, compare, copy
from .pool import Pool
from .spi import (
    Call,
    Capability,
    Conflict,
    DataLoss,
    DeadlineExceeded,
    HasDependents,
    InUse,
    InvalidArgument,
    NotFound,
    Qos,
    Unsupported,
    Volume,
    VolumeSpec,
)
from .steps import step


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMigration:
    """Moves volumes from one pool to another.

    Attributes:
        verify: read both back and compare them before the source goes.
        keep_limits: the target gets the source's QoS; else none.
        drop_snapshots: the source's snapshots go with it; they are not moved.
    """

    source: Pool
    target: Pool
    mover: Mover
    verify: bool = True
    keep_limits: bool = True
    drop_snapshots: bool = False

    def migrate(self, volume: VolumeId, call: Call) -> Volume:
        """Move a volume that nobody uses; returns it as the target pool has it.

        Repeat the command after any failure. A volume that is on the target alone has been moved.

        Args:
            volume: its id, on either pool.
            call: deadline, cancelling, progress in bytes.

        Raises:
            NotFound: neither pool has it.
            InUse: a host has access to it, a VM writes to it, or something on this machine works on it.
            HasDependents: it has snapshots, and `drop_snapshots` is not set.
            Conflict: the target has a volume of this id.
            Unsupported: it has limits, which the target cannot keep.
            DataLoss: what was copied is not what was read. In all these cases the source stays.
        """
        if self.source.info.identity == self.target.info.identity:
            raise InvalidArgument(f"pools {self.source.name!r} and {self.target.name!r} are the same")
        # A killed run may have left half a target, or a source that is to go; and limits that are lifted.
        for pool in (self.target, self.source):
            self.mover.sweep_pool(pool)
        old = _find(self.source, volume, call)
        if old is None:
            return self.target.volumes.get(volume, step(call))
        with self.mover.holding_volume(self.source, volume) as opened:
            self._check(old, call)
            with (
                self.mover.unlimited(self.source, volume),
                self.mover.filling_volume(self.target, volume) as new,
                opened() as content,  # open, and so locked, until the target has taken over
            ):
                self._fill(old, self.source.throttle.source(content, call), call)
                self._check_again(old, call)
                new.take_over(self.source, old, with_snapshots=self.drop_snapshots)
        return self.target.volumes.get(volume, step(call))

    def _check(self, old: Volume, call: Call) -> None:
        """Refuse what could not be finished, before anything is made."""
        if _find(self.target, old.id, call) is not None:
            raise Conflict(f"pool {self.target.name!r} has a volume {old.id} already")
        if self._limits(old) is not None and Capability.QOS not in self.target.capabilities().native:
            raise Unsupported(f"volume {old.id} has limits, which pool {self.target.name!r} cannot keep")
        self._refuse_snapshots(old, call)

    def _check_again(self, old: Volume, call: Call) -> None:
        """Refuse what has come to the source while it was copied, and would be lost with it."""
        self._refuse_snapshots(old, call)
        if self.source.managed:
            grants = self.source.volumes.grants(old.id, step(call))
            others = [grant.host for grant in grants if grant.host != self.mover.host.id]
            if others:
                raise InUse(f"volume {old.id} was granted to {', '.join(others)} while it was copied")

    def _refuse_snapshots(self, old: Volume, call: Call) -> None:
        if self.drop_snapshots or Capability.SNAPSHOTS not in self.source.capabilities().native:
            return
        call.check()
        if (first := next(iter(self.source.snapshots.list(old.id)), None)) is not None:
            raise HasDependents(f"volume {old.id} has snapshots, such as {first.id}: they are not moved")

    def _limits(self, old: Volume) -> Qos | None:
        return old.qos if self.keep_limits and old.qos not in (None, Qos()) else None

    def _fill(self, old: Volume, content: BlockSource, call: Call) -> None:
        """Make the target, without limits, fill it, compare it, and limit it."""
        volumes, passes = self.target.volumes, 2 if self.verify else 1
        volumes.create(VolumeSpec(id=old.id, size=old.size, name=old.name), step(call))
        with self.mover.writing_volume(self.target, old.id) as sink:
            copy(
                content,
                self.target.throttle.sink(sink, call),
                sink_is_zero=True,
                progress=lambda done, total: call.progress(done, passes * total),
                cancelled=lambda: _is_over(call),
            )
        if self.verify:
            self._compare(old, content, call)
        if (limits := self._limits(old)) is not None:
            volumes.set_qos(old.id, limits, step(call))

    def _compare(self, old: Volume, content: BlockSource, call: Call) -> None:
        with self.mover.reading_volume(self.target, old.id) as copied:
            position = compare(
                content,
                copied,
                progress=lambda done, total: call.progress(total + done, 2 * total),
                cancelled=lambda: _is_over(call),
            )
        if position is not None:
            raise DataLoss(f"volume {old.id} differs at byte {position} from its copy; the source stays")


def _find(pool: Pool, volume: VolumeId, call: Call) -> Volume | None:
    try:
        return pool.volumes.get(volume, step(call))
    except NotFound:
        return None


def _is_over(call: Call) -> bool:
    try:
        call.check()
    except DeadlineExceeded:
        return True
    return False
