"""What the probes of S3 and Swift share: hidden names, and a body in whose middle something is done."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from ...core.spi import FoundBy, FoundTrait

_Value = bool | int | str | None

# Sorted as UTF-8 is, and as no locale, no file system and no UTF-16 sorts them.
_IN_ORDER = ("B", "a", "a-b", "a/b", "a0", "\u00e9", "\uffee", "\U0001f600")


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


def probed(name: str, value: _Value, how: str) -> FoundTrait:
    """Return a trait that the store itself has shown."""
    return FoundTrait(name=name, value=value, found_by=FoundBy.PROBED, how=how)


def documented(name: str, value: _Value, how: str) -> FoundTrait:
    """Return a trait that somebody says the store has."""
    return FoundTrait(name=name, value=value, found_by=FoundBy.DOCUMENTED, how=how)


def asked(name: str, value: _Value, how: str, *, said: str) -> FoundTrait:
    """Return a trait that was probed, unless its option, which has its name, `said` something else."""
    if said == "probe":
        return probed(name, value, how)
    return FoundTrait(name=name, value=value, found_by=FoundBy.CONFIGURED, how=f"option {name} = {said}")


def listed(
    names: HiddenNames, put: Callable[[str], object], listing: Callable[[str], Sequence[str]]
) -> list[FoundTrait]:
    """Put hidden objects in no order, and see in which one and when they are listed.

    Args:
        put: stores an object of a name.
        listing: returns the names that begin with a prefix.
    """
    folder = names.new()
    expected = [f"{folder}/{part}" for part in _IN_ORDER]
    names.given += expected
    for name in reversed(expected):
        put(name)
    found = listing(f"{folder}/")
    how = f"{len(expected)} hidden objects were put and listed"
    complete = sorted(found) == sorted(expected)
    order = ("utf-8" if found == sorted(found) else "other") if complete else None
    return [probed("listing_order", order, how), probed("listed_at_once", complete, how)]
