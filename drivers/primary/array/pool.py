"""Opening the pool, and finding things in it. Each look goes to the array: nothing is remembered."""

from __future__ import annotations

from typing import ClassVar

from ....core.spi import (
    Call,
    Capacity,
    Conflict,
    Internal,
    InvalidArgument,
    LimitExceeded,
    ManagedPrimaryDriver,
    NotFound,
    Outcome,
    PoolInfo,
    ReportsCapacity,
    Traits,
    checked_id,
)
from ....transfer_objects.ids import VolumeId
from .answers import Json, member
from .client import ArrayClient, Conversation, path_of
from .names import Kind, array_name, check_owner, volume_kind
from .objects import FILLING, ID, KIND, MARK, NAME, ORIGIN, OWNER, STATE, VERSION, ArrayVolume
from .options import ArrayOptions

_FIRST_POLL, _LONGEST_POLL = 0.05, 1.0  # seconds


class ArrayPool(ManagedPrimaryDriver[ArrayOptions], ReportsCapacity):
    """A pool of the array under our account; the base of all concerns."""

    Options: ClassVar = ArrayOptions

    def __init__(self, options: ArrayOptions) -> None:
        super().__init__(options)
        check_owner(options.owner)
        self._opened: ArrayClient | None = None
        self._traits = Traits()

    def open(self, call: Call) -> PoolInfo:
        """See `PrimaryDriver.open`."""
        self.close()
        self._opened = ArrayClient(self.options)
        try:
            return self._introduce(self._client.talk(call))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """See `Driver.close`: logs out."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    @property
    def _client(self) -> ArrayClient:
        if self._opened is None:
            raise Internal("the pool is not open", outcome=Outcome.NOT_APPLIED)
        return self._opened

    def _introduce(self, talk: Conversation) -> PoolInfo:
        """Ask the array for its name and limits; fails if our pool is not there."""
        system = talk.get("/system")
        self._pool(talk)
        limits = member(system, "limits", dict)
        self._traits = Traits(
            min_size=member(limits, "volume_bytes_min", int),
            max_size=member(limits, "volume_bytes_max", int),
            size_granularity=member(limits, "volume_size_multiple", int),
            max_snapshots_per_volume=member(limits, "snapshots_per_volume", int),
        )
        model, firmware = member(system, "model", str), member(system, "firmware", str)
        identity = f"{member(system, 'serial', str)}/{self.options.pool}"
        return PoolInfo(identity=identity, name=self.options.pool, backend=f"{model} {firmware}")

    def traits(self) -> Traits:
        """See `PrimaryDriver.traits`; the limits are those that the array told at `open`."""
        return self._traits

    def capacity(self, call: Call) -> Capacity:
        """See `ReportsCapacity.capacity`."""
        shown = self._pool(self._client.talk(call))
        return Capacity(
            total=member(shown, "total_bytes", int),
            used=member(shown, "used_bytes", int),
            provisioned=member(shown, "provisioned_bytes", int),
        )

    def _pool(self, talk: Conversation) -> Json:
        return talk.get(path_of("pools", self.options.pool))

    # -- finding --------------------------------------------------------------------------------------

    def _name(self, volume: VolumeId) -> str:
        """Return a volume's name on the array.

        Raises:
            InvalidArgument: that is no id.
        """
        checked_id("volume", volume)
        return array_name(self.options.owner, volume_kind(volume), volume)

    def _named(self, talk: Conversation, name: str) -> ArrayVolume | None:
        """Return the volume of that name in our pool, whosever it is."""
        found, _ = talk.page("/volumes", name=name, pool=self.options.pool)
        if len(found) > 1:
            raise Internal(f"the array has {len(found)} volumes of the name {name} in one pool")
        return ArrayVolume.of(found[0]) if found else None

    def _find_any(self, talk: Conversation, volume: VolumeId) -> ArrayVolume | None:
        """Return our volume, also one that is still being filled."""
        found = self._named(talk, self._name(volume))
        return found if found is not None and found.is_of(self.options.owner) else None

    def _find(self, talk: Conversation, volume: VolumeId) -> ArrayVolume | None:
        """Return our volume if it exists, that is: if it is complete."""
        found = self._find_any(talk, volume)
        return found if found is not None and found.state != FILLING else None

    def _volume(self, talk: Conversation, volume: VolumeId) -> ArrayVolume:
        """Return our volume.

        Raises:
            NotFound: it does not exist.
        """
        found = self._find(talk, volume)
        if found is None:
            raise NotFound(f"volume {volume} does not exist")
        return found

    def _labels(self, volume: VolumeId, name: str, origin: str, state: str) -> dict[str, str]:
        return {
            MARK: VERSION,
            OWNER: self.options.owner,
            KIND: volume_kind(volume).name.lower(),
            ID: volume,
            NAME: name,
            ORIGIN: origin,
            STATE: state,
        }

    # -- rules that several concerns share ------------------------------------------------------------

    def _rounded(self, size: int) -> int:
        """Return `size` in bytes, rounded up to what the array can make.

        Raises:
            InvalidArgument: too small. LimitExceeded: too large.
        """
        traits = self._traits
        if size < traits.min_size:
            raise InvalidArgument(f"size must be at least {traits.min_size} bytes, got {size}")
        if size > traits.max_size:
            raise LimitExceeded(f"size must be at most {traits.max_size} bytes, got {size}")
        return -(-size // traits.size_granularity) * traits.size_granularity

    def _expect_same(self, found: ArrayVolume, size: int, origin: str) -> ArrayVolume:
        """Return the volume that is there already, if it is what is asked for."""
        if (found.size, found.origin) != (size, origin):
            raise Conflict(f"volume {found.labels.get(ID)} exists with {found.size} bytes, of {found.origin}")
        return found

    def _await_job(self, talk: Conversation, job: Json) -> bool:
        """Wait until a job ends; tell whether it succeeded."""
        path, pause = path_of("jobs", member(job, "id", str)), _FIRST_POLL
        while (state := member(job, "state", str)) == "running":
            talk.wait(pause)
            pause = min(2 * pause, _LONGEST_POLL)
            try:
                job = talk.get(path)
            except NotFound as error:
                raise Internal("the array forgot a job that it had begun", outcome=Outcome.UNKNOWN) from error
        return state == "done"


def refuse_seed(volume: VolumeId) -> None:
    """Refuse to treat the seed of a template as a volume of its own."""
    if volume_kind(volume) is Kind.TEMPLATE:
        raise InvalidArgument(f"volume {volume} is the seed of a template")
