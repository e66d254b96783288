"""Random histories of a secondary store; the model is a dictionary."""

from __future__ import annotations

from hypothesis import strategies as st

from ..store_lab import StoreLab
from .planner import Kind, Planner, Watch
from .store_player import StorePlayer

# No key goes on behind the slash of another: a file system cannot hold "a" and "a/b".
_KEYS = st.sampled_from(("a/b", "a/c", "a-b", "a/bc", "d/e/f", "ä"))
_SIZES = st.sampled_from((0, 1, 4095, 65536, 70_000, 1_048_577))
_OFFSETS = st.sampled_from((0, 1, 4095, 65536, 1_048_576))
_LENGTHS = st.sampled_from((None, 1, 4096, 65536))
_PREFIXES, _LIMITS = st.sampled_from(("", "a", "a/", "d/e", "x")), st.sampled_from((1, 2, 1000))

_KINDS = (
    Kind(4, "put", (), "", {"key": _KEYS, "size": _SIZES, "if_absent": st.booleans()}),
    Kind(1, "put_broken", (), "", {"key": _KEYS, "size": st.sampled_from((1, 70_000))}),
    Kind(3, "get", (), "", {"key": _KEYS, "offset": _OFFSETS, "length": _LENGTHS}),
    Kind(2, "delete", (), "", {"key": _KEYS}),
    Kind(2, "list", (), "lists", {"prefix": _PREFIXES, "limit": _LIMITS}),
)


class StorePlanner(Planner):
    """One history; the model: key -> generation and size of what is stored there."""

    kinds = _KINDS

    def __init__(self, lab: StoreLab, watch: Watch) -> None:
        super().__init__(watch)
        self._model: dict[str, tuple[int, int]] = {}
        self._lists_at_once = lab.store.traits().listing_consistent
        self._conditions = lab.store.traits().conditional_put
        self._player = StorePlayer(lab.store, lab.prefix)
        self._generation = 0

    def put(self, key: str, size: int, *, if_absent: bool) -> None:
        """Put, over what is there or only if nothing is, which a store without conditions refuses."""
        self._generation += 1
        refusal = ("Conflict",) if self._conditions else ("Unsupported",)
        refused = if_absent and (key in self._model or not self._conditions)
        if not refused:
            self._model[key] = (self._generation, size)
        expect = refusal if refused else ("ok",)
        self.plan(self._player.put, key, self._generation, size, if_absent=if_absent, expect=expect)
        self._look(key)

    def put_broken(self, key: str, size: int) -> None:
        """Put bytes of another digest: what was there stays."""
        self.plan(self._player.put_broken, key, size)
        self._look(key)

    def get(self, key: str, offset: int, length: int | None) -> None:
        """Get a range, also one outside; from the very end without a length, the contract says nothing."""
        present = self._model.get(key)
        if length is not None or present is None or offset < present[1] or offset == 0:
            self.plan(self._player.get, key, present, offset, length)

    def delete(self, key: str) -> None:
        """Delete, also what is not there."""
        self._model.pop(key, None)
        self.plan(self._player.delete, key)
        self._look(key)

    def list(self, prefix: str, limit: int) -> None:
        """List in pages."""
        sizes = {key: size for key, (_, size) in sorted(self._model.items()) if key.startswith(prefix)}
        self.plan(self._player.listed, prefix, sizes, limit)

    def can(self, kind: Kind) -> bool:
        """Tell whether a list shows what was put just before."""
        return kind.on != "lists" or self._lists_at_once

    def finish(self) -> None:
        """Read all that there is."""
        for key, present in sorted(self._model.items()):
            self.plan(self._player.get, key, present, 0, None)

    def clean(self) -> None:
        """Remove what was put."""
        self._player.clean()

    def _look(self, key: str) -> None:
        present = self._model.get(key)
        self.plan(self._player.head, key, present[1] if present else None)
