"""One step within a longer operation."""

from __future__ import annotations

from .spi import Call


def step(call: Call) -> Call:
    """Return a call for one step within `call`, with a request id of its own and without its progress.

    A copy of a big volume takes longer than the pool's usual timeout; a backend that deduplicates by
    request id must not take the deletion for the creation; and who watches bytes wants no other figures.
    """
    return Call(deadline=call.deadline, cancel=call.cancel, clock=call.clock)
