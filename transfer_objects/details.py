"""`details`: a driver's free key-value pairs, frozen like the object that carries them.

A command's other maps (`shapes.Keyed`) are frozen in the same class; their annotation tells what they hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .secret import Secret


class Details(Mapping[str, str | Secret]):
    """An immutable, hashable mapping.

    The standard library's `MappingProxyType` is neither hashable nor picklable, and a transfer object
    goes into sets and to worker processes.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, str | Secret] | None = None) -> None:
        self._items = dict(items or {})

    def __getitem__(self, key: str) -> str | Secret:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return f"Details({self._items!r})"
