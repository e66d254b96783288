"""Applying a policy to a volume: judge all snapshots first, then delete, then free the space once.

Nothing is deleted where a manifest cannot be read: a damaged snapshot may be the one that a rule would
have kept, and its parts could not be told from garbage. The newest snapshot is always kept, so what an
increment that runs meanwhile has taken as its parent stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ..spi.call import Call
from ..spi.errors import InUse, NotFound
from .collect import Collected, remove_manifest
from .names import parse, volume_prefix
from .retention import Dated, Policy, Verdict
from .store import Store, keys_under, load_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Retained:
    """What retention decided for a volume and did.

    Attributes:
        verdicts: newest first.
        collected: what was freed; None if nothing was deleted, or the listing lags and space is freed
            by a later collect.
    """

    volume: str
    verdicts: tuple[Verdict, ...]
    collected: Collected | None


def judge(store: Store, volume: str, policy: Policy, now: float, call: Call) -> tuple[Verdict, ...]:
    """Return what `policy` says of each snapshot of a volume; `now` in seconds since the epoch.

    Raises:
        DataLoss: a manifest cannot be read.
    """
    return tuple(policy.apply(_dated(store, volume, call), datetime.fromtimestamp(now, UTC)))


def _dated(store: Store, volume: str, call: Call) -> Iterator[Dated]:
    for item in list(keys_under(store, volume_prefix(volume), call)):
        key = parse(item.key)
        if key is None or key.attempt:
            continue
        try:
            manifest = load_manifest(store, volume, key.snapshot, call)
        except NotFound:  # deleted since the listing
            continue
        yield Dated(key.snapshot, datetime.fromisoformat(manifest.created))


def carry_out(
    store: Store,
    volume: str,
    verdicts: tuple[Verdict, ...],
    collect: Callable[[], Collected | None],
    call: Call,
) -> Retained:
    """Delete what no rule wants, oldest first, and free the space; what is locked stays, and says so."""
    after: list[Verdict] = []
    for verdict in reversed(verdicts):
        call.check()
        reasons = verdict.reasons
        if not verdict.keep:
            try:
                remove_manifest(store, volume, verdict.snapshot, call)
            except InUse as error:
                reasons = (error.message,)
        after.append(replace(verdict, reasons=reasons))
    gone = any(not verdict.keep for verdict in after)
    return Retained(volume=volume, verdicts=tuple(reversed(after)), collected=collect() if gone else None)
