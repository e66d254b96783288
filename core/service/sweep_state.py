"""What crashes left in this machine's own state: drafts of its identity, which hold a secret.

.mover-…     written before it is linked to mover.json; whoever died in between left it
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..dataplane.os_errors import os_errors
from ..mover import DRAFT
from .leftovers import Leftover, Run, Swept


@dataclass(frozen=True, slots=True, kw_only=True)
class StatePlace:
    """The directory of this machine's state."""

    directory: Path

    @property
    def name(self) -> str:
        """See `Place.name`."""
        return f"directory {self.directory}"

    def sweep(self, run: Run) -> Iterator[Swept]:
        """See `Place.sweep`; a draft that is younger may be somebody's who is about to link it."""
        for path in sorted(self.directory.glob(f"{DRAFT}*")):
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            age = run.clock() - found.st_mtime
            if age >= run.older_than:
                yield self._draft(path, found.st_size, age, run)

    def _draft(self, path: Path, size: int, age: float, run: Run) -> Swept:
        leftover = Leftover(
            place=self.name,
            kind="identity-draft",
            name=path.name,
            why="an identity is written and linked within a second",
            owner="a process that died when this machine got its identity",
            size=size,
            age=age,
        )

        def remove() -> str:
            with os_errors(f"cannot remove {path}"):
                path.unlink(missing_ok=True)
            return ""

        return run.end(leftover, remove)
