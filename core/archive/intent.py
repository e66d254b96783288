"""The intent: what a running backup relies on, and until when it may commit.

    t0                      expires              expires + grace
    |-- renewed in time ... --|-------- nobody ---------|--- dead: its begin.json may be removed --->
     the writer may commit      too late to commit,
                                too early to collect

`begin.json` is put before the first part and names every layer that the manifest may refer to. While it
lives, collect takes nothing from these layers. Its key is never used again, so removing it cannot hit
another run. A writer whose lease is over, or whose intent was removed, must not commit: its parts may be
gone. The grace covers clocks that differ and requests that are still on their way.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..spi.call import Call
from ..spi.errors import Conflict, DataLoss, DeadlineExceeded, InvalidArgument, NotFound, Outcome
from ..spi.image_store import Body
from .canonical import Fields, decode, milliseconds_of, time_text
from .names import begin_key, is_layer
from .store import Store, read_all

WallClock = Callable[[], float]
"""Seconds since the epoch."""

_FORMAT = "bollard-archive-intent"
_KEYS = ("format", "version", "volume", "snapshot", "attempt", "writer", "parent", "layers", "expires")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long things may take, in seconds.

    Attributes:
        lease: a writer that has not renewed its intent for so long must not commit any more.
        grace: after that, until the intent counts as dead: more than the difference of two clocks
            plus the longest request.
        settle: how late a store whose listing lags may show a new key.
    """

    lease: float = 900.0
    grace: float = 900.0
    settle: float = 60.0

    def __post_init__(self) -> None:
        if self.lease <= 0 or self.grace < 0 or self.settle < 0:
            raise InvalidArgument("lease must be positive, grace and settle not negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """The content of a begin.json.

    Attributes:
        writer: who runs it; the same writer may take over at once what it had begun before.
        parent: the snapshot that the increment is based on, or None.
        layers: `<snapshot>/<attempt>` of all parts that the manifest may refer to, its own included.
        expires: end of the lease, milliseconds since the epoch.
    """

    volume: str
    snapshot: str
    attempt: str
    writer: str
    parent: str | None
    layers: tuple[str, ...]
    expires: int

    @property
    def layer(self) -> str:
        """Where the parts of this attempt lie."""
        return f"{self.snapshot}/{self.attempt}"

    def is_dead(self, now: float, timing: Timing) -> bool:
        """Tell whether nobody can commit on the strength of it any more; `now` in seconds."""
        return self.expires + timing.grace * 1000 < now * 1000

    def to_bytes(self) -> bytes:
        """Return the JSON text."""
        values = {name: getattr(self, name) for name in _KEYS[2:-1]}
        head = {"format": _FORMAT, "version": 1}
        return (json.dumps(head | values | {"expires": time_text(self.expires)}, indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, volume: str, layer: str) -> Intent:
        """Read an intent.

        Raises:
            DataLoss: it is damaged; nothing of this volume may be collected then.
        """
        what = f"the intent {begin_key(volume, layer)}"
        fields = Fields(what, decode(what, data), _KEYS)
        layers = fields.list("layers")
        if not all(isinstance(item, str) and is_layer(item) for item in layers):
            raise fields.fail("layers", "a list of <snapshot>/<attempt>")
        intent = cls(
            volume=fields.id("volume"),
            snapshot=fields.id("snapshot"),
            attempt=fields.id("attempt"),
            writer=fields.text("writer"),
            parent=None if fields.raw("parent") is None else fields.id("parent"),
            layers=tuple(layers),
            expires=milliseconds_of(fields.time("expires")),
        )
        if (intent.volume, intent.layer) != (volume, layer) or intent.to_bytes() != data:
            raise DataLoss(f"{what} was altered")
        return intent


def read_intent(store: Store, volume: str, layer: str, call: Call) -> Intent | None:
    """Return the intent of an attempt, or None if it is gone."""
    try:
        return Intent.from_bytes(read_all(store, begin_key(volume, layer), call), volume, layer)
    except NotFound:
        return None


class Lease:
    """An intent on the store, held and renewed by its writer."""

    def __init__(self, store: Store, intent: Intent, clock: WallClock, timing: Timing) -> None:
        self._store = store
        self._intent = intent
        self._clock = clock
        self._timing = timing

    def put(self, call: Call) -> None:
        """Write the intent, with a new term."""
        self._intent = replace(self._intent, expires=int((self._clock() + self._timing.lease) * 1000))
        body = Body.of(self._intent.to_bytes())
        self._store.put(begin_key(self._intent.volume, self._intent.layer), body, call)

    def renew(self, call: Call) -> None:
        """Renew the term once a third of it is over.

        Raises:
            DeadlineExceeded: the lease is over.
            Conflict: the intent was removed.
        """
        if self._left() < self._timing.lease * 2 / 3:
            self.put(self.confirm(call))

    def confirm(self, call: Call) -> Call:
        """Check that this writer may still commit; return `call` with the lease's end as its deadline.

        Raises:
            DeadlineExceeded: the lease is over.
            Conflict: the intent was removed.
        """
        intent = self._intent
        if read_intent(self._store, intent.volume, intent.layer, call) != intent:
            raise Conflict(f"the intent of {intent.volume}/{intent.layer} was taken away")
        end = call.clock() + self._term()
        return replace(call, deadline=end if call.deadline is None else min(end, call.deadline))

    def _term(self) -> float:
        """Return the seconds left; raise `DeadlineExceeded` if there are none."""
        left = self._left()
        if left <= 0:
            text = f"the lease of {self._intent.volume}/{self._intent.layer} is over"
            raise DeadlineExceeded(f"{text}; a new run reuses its parts", outcome=Outcome.NOT_APPLIED)
        return left

    def _left(self) -> float:
        return self._intent.expires / 1000 - self._clock()


class WatchedLease(Lease):
    """Somebody else's lease, as a worker far away sees it: he looks at it, its holder renews it.

    A holder that lives renews long before the end, so the store is asked only when the term that was
    seen last is over.
    """

    def __init__(self, store: Store, volume: str, layer: str, clock: WallClock, call: Call) -> None:
        super().__init__(store, _living(store, volume, layer, call), clock, Timing())

    def renew(self, call: Call) -> None:
        """Check that the holder still wants the work.

        Raises:
            DeadlineExceeded: he let the lease run out.
            Conflict: the intent was removed.
        """
        if self._left() <= 0:
            self._intent = _living(self._store, self._intent.volume, self._intent.layer, call)
            self._term()


def _living(store: Store, volume: str, layer: str, call: Call) -> Intent:
    intent = read_intent(store, volume, layer, call)
    if intent is None:
        raise Conflict(f"the intent of {volume}/{layer} was taken away")
    return intent
