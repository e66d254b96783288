"""Deleting snapshots and freeing what nobody needs. Nothing here needs a lock, atime, or listing order.

    delete    manifest.json first (the commit of the deletion), then begin.json of the run that made it
    collect   1  t0 = now
              2  list the volume                      only parts seen here can be removed in 7
              3  remove intents that were dead at t0
              4  read all manifests                   listed in 2, or known to the caller
              5  (listing lags: wait until what began before 4 is listed)
              6  list the volume again, read all intents that lived at t0; one that is gone by then: once more
                 (it took long: list, and read all manifests again: the intents of new ones may be over)
              7  remove the parts of 2 that neither 4 nor 6 protects

Why this is safe, against a writer that runs at the same time: it puts its intent and *then* looks for the
parent's manifest; collect reads manifests and *then* looks for intents. Whichever comes first, one sees
the other. The parts of a writer whose intent came after 6 came after 2 as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple

from ..spi.call import Call
from ..spi.errors import DataLoss, InUse, InvalidArgument, NotFound
from .intent import Intent, Timing, WallClock, read_intent
from .manifest import Manifest
from .names import begin_key, manifest_key, parse, volume_prefix
from .store import Store, keys_under, load_manifest

_LOOKS = 5  # for intents that go while they are read; more than two need as many rivals, each just in between


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection did.

    Attributes:
        parts: removed, `size` bytes in all.
        intents: removed of runs that ended without us.
        kept: parts that no manifest needs, but a running backup may, or a lock of the store protects.
    """

    parts: int
    size: int
    intents: int
    kept: int


class _Seen(NamedTuple):
    """What a listing of a volume showed: parts with their sizes, snapshots, and layers with an intent."""

    parts: dict[str, int]
    snapshots: set[str]
    begun: set[str]


@dataclass(slots=True)
class Collector:
    """Frees space of one volume.

    Attributes:
        known: ids of snapshots that the caller has begun and not yet deleted; needed where a new key
            may be missing from a listing for a while.
        pause: waits so many seconds; None: until then or the end of the call.
    """

    store: Store
    volume: str
    clock: WallClock
    timing: Timing
    known: Iterable[str] | None
    pause: Callable[[float], object] | None

    def collect(self, call: Call) -> Collected:
        """Remove what no live manifest and no live intent of this volume refers to.

        Raises:
            DataLoss: a manifest or an intent cannot be read; nothing was removed.
            InvalidArgument: the store's listing lags and `known` was not given.
        """
        consistent = self.store.traits().listing_consistent
        if not consistent and self.known is None:
            raise InvalidArgument(
                "the listing of this store may lag: pass `known` (on the command line: --trust-listing)"
            )
        now = self.clock()
        seen = self._look(call)
        intents = self._intents(seen.begun, call)
        dead = {i.layer for i in intents if i.is_dead(now, self.timing)}
        self._remove_dead(dead, call)
        alive = {i.layer for i in intents} - dead
        needed = self._needed(seen.snapshots, call)
        self._settle(call)
        protected = self._protected(alive, now, call, seen.begun - alive)
        if self.clock() - now > self.timing.grace / 2:  # so long that what was committed since may have
            needed |= self._needed(self._look(call).snapshots, call)  # no intent any more
        garbage = [key for key in seen.parts if key not in needed]
        doomed = [] if protected is None else [key for key in garbage if _layer(key) not in protected]
        doomed = [key for key in doomed if self._remove(key, call)]
        self.store.abort_uploads(volume_prefix(self.volume), call, older_than=self.timing.lease)
        size = sum(seen.parts[key] for key in doomed)
        return Collected(parts=len(doomed), size=size, intents=len(dead), kept=len(garbage) - len(doomed))

    def _needed(self, snapshots: set[str], call: Call) -> set[str]:
        """Return the keys of the parts that manifests name: of listed snapshots, and of those of `known`."""
        manifests = self._manifests(snapshots.union(self.known or ()), call)
        return {m.key_of(window, part) for m in manifests for window, part in m.parts()}

    def _settle(self, call: Call) -> None:
        """Wait, where listings lag, until they show what there is now."""
        if not self.store.traits().listing_consistent:
            (self.pause or call.cancel.wait)(self.timing.settle)
            call.check()

    def _remove(self, key: str, call: Call) -> bool:
        """Delete a part; a locked one is for a collect after its date."""
        call.check()
        try:
            self.store.delete(key, call)
        except InUse as error:
            call.log.info("not freed: %s", error)
            return False
        return True

    def _look(self, call: Call) -> _Seen:
        seen = _Seen({}, set(), set())
        for item in keys_under(self.store, volume_prefix(self.volume), call):
            key = parse(item.key)
            if key is None:
                continue
            seen.snapshots.add(key.snapshot)
            if key.part:
                seen.parts[item.key] = item.size
            elif key.attempt:
                seen.begun.add(key.layer)
        return seen

    def _intents(self, layers: Iterable[str], call: Call) -> list[Intent]:
        found = (read_intent(self.store, self.volume, layer, call) for layer in sorted(layers))
        return [intent for intent in found if intent]

    def _remove_dead(self, dead: set[str], call: Call) -> None:
        for layer in sorted(dead):
            self.store.delete(begin_key(self.volume, layer), call)

    def _manifests(self, snapshots: Iterable[str], call: Call) -> list[Manifest]:
        found = []
        for snapshot in sorted(snapshots):
            call.check()
            try:
                found.append(load_manifest(self.store, self.volume, snapshot, call))
            except NotFound:
                continue
        return found

    def _protected(
        self, begun: set[str], now: float, call: Call, gone: AbstractSet[str] = frozenset()
    ) -> set[str] | None:
        """Return the layers of live intents; None: they change faster than they can be looked at.

        One that was listed, and is gone when it is read, had parts that a run may have taken over in
        between, whose own intent came after the listing: so the volume is listed once more.

        Args:
            begun: those that lived at first; a listing by another replica may show less.
            gone: those that were gone before the manifests were read, which a listing may still show.
        """
        for _ in range(_LOOKS):
            begun = begun | (self._look(call).begun - gone)
            intents = self._intents(begun, call)
            there = {intent.layer for intent in intents}
            if there == begun:
                return {layer for i in intents if not i.is_dead(now, self.timing) for layer in i.layers}
            begun = there
            self._settle(call)
        return None


def _layer(key: str) -> str:
    """Return `<snapshot>/<attempt>` of a part's key."""
    return "/".join(key.split("/")[2:4])


def remove_manifest(store: Store, volume: str, snapshot: str, call: Call) -> None:
    """Take a snapshot out of the archive; its parts stay for `collect`. A missing one is fine.

    The intent of the run that committed it goes too, or its parts would be kept until the lease is
    over. Intents of other runs stay: they may still be about to commit.
    """
    attempt = None
    try:
        attempt = load_manifest(store, volume, snapshot, call).attempt
    except NotFound:
        return
    except DataLoss:  # a damaged snapshot must be deletable; its intent ends by itself
        call.log.warning("deleting %s/%s, whose manifest is damaged", volume, snapshot)
    store.delete(manifest_key(volume, snapshot), call)
    if attempt:
        store.delete(begin_key(volume, f"{snapshot}/{attempt}"), call)
