"""Idempotency: an orchestrator that lost an answer asks again, and nothing may happen twice.

operation ── first ──> result, state ── a host writes ──> again (same or another process) ──> the same

One table of operations, two ways to repeat each: from here come the checks `idem.<operation>_<way>`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import nullcontext

from ...core.spi import Capability, NotFound, Volume
from ...transfer_objects.ids import VolumeId
from ..lab import Lab, must
from ..model import Tier
from ..registry import check
from ._bytes import digest
from ._operations import OPERATIONS, Operation

_MARK = 9  # the generation that a host writes between the first call and the repeat
_WHY = """
The answer of the first call may have been lost, and the caller, or another node of it after a
fail-over, can only ask again. A failure names what the repeat changed: a result that differs means that
a second object was made or the first was not found; a state that differs means that the work was done
twice, for example that data written meanwhile was overwritten."""


def _state(lab: Lab, volume: VolumeId) -> tuple[object, ...]:
    """Return what the driver and a host see of a volume."""
    try:
        found = lab.pool.volumes.get(volume)
    except NotFound:
        return ("absent",)
    native = lab.pool.capabilities().native
    cuts = lab.pool.snapshots.list(volume) if Capability.SNAPSHOTS in native else ()
    snapshots = sorted((cut.id, cut.created) for cut in cuts)
    grants = [(g.host, g.read_only) for g in lab.pool.volumes.grants(volume)] if lab.pool.managed else []
    return found.size, found.name, found.identity, found.qos, snapshots, grants, digest(lab, volume)


def _plain(result: object) -> object:
    """Return a result without what may change by itself."""
    return dataclasses.replace(result, allocated=None) if isinstance(result, Volume) else result


def _repeat(lab: Lab, operation: Operation, *, elsewhere: bool) -> None:
    """Do it, let a host write to what was made, do it again, and compare."""
    with operation.begin(lab) as attempt:
        first = attempt.act(lab.pool)
        looked = [*attempt.volumes]
        if isinstance(first, Volume) and attempt.mark:
            lab.write(first, _MARK)
            looked.append(first.id)
        before = {volume: _state(lab, volume) for volume in looked}
        with lab.second() if elsewhere else nullcontext(lab.pool) as pool:
            again = attempt.act(pool)
        must(_plain(again) == _plain(first), f"{operation.name} gave {first}, and then {again}")
        for volume, state in before.items():
            now = _state(lab, volume)
            must(now == state, f"repeating {operation.name} changed {volume} from {state} to {now}")


def _checking(operation: Operation, *, elsewhere: bool) -> Callable[[Lab], None]:
    """Return the check of one operation, with its own contract sentence."""

    def repeat(lab: Lab) -> None:
        _repeat(lab, operation, elsewhere=elsewhere)

    who = "by another process " if elsewhere else ""
    repeat.__doc__ = f"{operation.words} again {who}gives the same result and changes nothing.\n{_WHY}"
    way = "from_other_process" if elsewhere else "after_success"
    repeat.__name__ = repeat.__qualname__ = f"check_{operation.name}_repeat_{way}"
    return check(
        f"idem.{operation.name}_repeat_{way}",
        rule="any.idempotent",
        needs=operation.needs,
        kinds=operation.kinds,
        tier=Tier.STANDARD,
        field_bug=operation.field_bug,
    )(repeat)


# As attributes of the module, for that is where pytest and the registry look.
globals().update(
    {
        made.__name__: made
        for operation in OPERATIONS
        for made in (_checking(operation, elsewhere=False), _checking(operation, elsewhere=True))
    }
)
