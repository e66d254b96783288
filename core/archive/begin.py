"""The first three steps of `create`, and what can be taken over of earlier runs.

run 1   begin.json ── part 0 ── part 1 ── kill -9
run 2                                       begin.json, naming run 1 ── is run 1's still there? yes:
                                            its parts may be used, collect will see that we do
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..spi.call import Call
from ..spi.errors import Busy, NotFound, Outcome
from .intent import Intent, Lease, Timing, WallClock, read_intent
from .manifest import Manifest
from .names import parse, volume_prefix
from .store import Store, keys_under, load_manifest


@dataclass(frozen=True, slots=True)
class Begun:
    """A run of `create` that may put parts now.

    Attributes:
        layer: where its parts go, `<snapshot>/<attempt>`.
        lease: its intent.
        parent: the manifest that the increment is based on.
        adopted: parts of earlier runs: (file name, bytes) to their layer.
    """

    volume: str
    layer: str
    lease: Lease
    parent: Manifest | None
    adopted: Mapping[tuple[str, int], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """Who begins to archive what.

    Attributes:
        replaced: the attempt whose image is to be replaced, or "": its run has ended, so nobody waits for it;
            and nothing of it is taken over, as it goes away.
    """

    store: Store
    volume: str
    snapshot: str
    attempt: str
    writer: str
    clock: WallClock
    timing: Timing
    replaced: str = ""

    def begin(self, parent: str | None, call: Call) -> Begun:
        """Put the intent and make sure that what it relies on was still there afterwards.

        Raises:
            NotFound: the parent is not in the archive, or was deleted just now.
            Busy: another writer is at it.
        """
        base = load_manifest(self.store, self.volume, parent, call) if parent else None
        earlier = self._earlier(call)
        layer = f"{self.snapshot}/{self.attempt}"
        lease = Lease(self.store, self._intent(layer, base, earlier), self.clock, self.timing)
        lease.put(call)
        if base and load_manifest(self.store, self.volume, base.snapshot, call) != base:
            raise NotFound(f"the parent {parent} of volume {self.volume} was replaced just now")
        return Begun(self.volume, layer, lease, base, self._adopt(earlier, call))

    def _intent(self, layer: str, base: Manifest | None, earlier: list[Intent]) -> Intent:
        layers = {layer, *(base.layers() if base else ()), *(intent.layer for intent in earlier)}
        return Intent(
            volume=self.volume,
            snapshot=self.snapshot,
            attempt=self.attempt,
            writer=self.writer,
            parent=base.snapshot if base else None,
            layers=tuple(sorted(layers)),
            expires=0,
        )

    @property
    def _prefix(self) -> str:
        return f"{volume_prefix(self.volume)}{self.snapshot}/"

    def _earlier(self, call: Call) -> list[Intent]:
        """Return the intents of earlier runs; `Busy` if one is alive and somebody else's."""
        keys = (parse(item.key) for item in keys_under(self.store, self._prefix, call))
        begun = {key.layer for key in keys if key and key.attempt and not key.part}
        layers = sorted(begun - {f"{self.snapshot}/{self.replaced}"})
        intents = [i for layer in layers if (i := read_intent(self.store, self.volume, layer, call))]
        for intent in intents:
            left = intent.expires / 1000 - self.clock()
            if intent.writer != self.writer and left > 0:
                text = f"{intent.writer} is archiving {self.volume}/{self.snapshot}"
                raise Busy(text, retry_after=left, outcome=Outcome.NOT_APPLIED)
        return intents

    def _adopt(self, earlier: list[Intent], call: Call) -> dict[tuple[str, int], str]:
        """Return the parts of those earlier runs whose intents are still there, after we put ours."""
        safe = {i.layer for i in earlier if read_intent(self.store, self.volume, i.layer, call)}
        if not safe:
            return {}
        found = ((parse(item.key), item.size) for item in keys_under(self.store, self._prefix, call))
        return {(key.part, size): key.layer for key, size in found if key and key.part and key.layer in safe}
