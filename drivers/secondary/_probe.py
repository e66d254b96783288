"""What the probes of S3 and Swift share: hidden names, and a body in whose middle something is done."""

from __future__ import annotations

import secrets
from collections.abc import Callable


class HiddenNames:
    """Names for objects of a probe, each new, so that no attempt finds what an earlier one left.

    Attributes:
        given: all of them, to be deleted.
    """

    def __init__(self, base: str) -> None:
        self._base = base
        self.given: list[str] = []

    def new(self) -> str:
        """Return one that was never used; it is reserved, so listings of the store leave it out."""
        self.given.append(f"{self._base}.bollard-probe-{secrets.token_hex(8)}")
        return self.given[-1]


class Overtaken:
    """A body in whose middle something else is done, for one request only.

    conditional   headers, half ·····················  rest    412: the store looks when it commits
    plain                       ···· whole, done ····          2xx: it looked at the beginning, or never
    """

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act
        self._halves = [b"half of ", b"the probe"]
        self._size = sum(map(len, self._halves))

    def __len__(self) -> int:
        return self._size

    def read(self, _size: int = -1) -> bytes:
        """Return the next half; before the second one, act."""
        if len(self._halves) == 1:
            self._act()
        return self._halves.pop(0) if self._halves else b""
