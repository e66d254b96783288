"""Ports of loopback for servers that must be told theirs.

    1024 ── 20000 ═══ ours, by chance ═══ 32000 ── 32768 ═══ the kernel's, for whoever asks for any ═══ 60999

One of the kernel's, asked for and given back, was now and then another's by the time that its server wanted
it: with several workers thousands of connections are made meanwhile.
"""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, suppress

_FIRST, _LAST = 20_000, 32_000
_CHANCE = random.SystemRandom()  # several sessions of tests may run on one machine


def free_ports(count: int) -> list[int]:
    """Return ports that nobody has, for TCP and UDP; held until all are found, so no two are the same."""
    with ExitStack() as held:
        return [_held(held) for _ in range(count)]


def free_port() -> int:
    """Return a port that nobody has, for TCP and UDP."""
    return free_ports(1)[0]


def _held(held: ExitStack) -> int:
    while True:
        port = _CHANCE.randint(_FIRST, _LAST)
        with suppress(OSError), ExitStack() as both:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                both.enter_context(socket.socket(socket.AF_INET, kind)).bind(("127.0.0.1", port))
            held.enter_context(both.pop_all())
            return port
