"""When something was seen first: the age of what tells none.

    <state>/swept/<place>.json      {name: seconds since the epoch}

An array keeps no creation time that the driver interface would show. A temporary clone that is not in this
machine's journal may be another machine's, which works on it just now; one that was there already a day ago
is nobody's.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from ..dataplane.os_errors import os_errors


class Seen:
    """The memory of this machine's sweeps. Processes that share the directory share it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def look(self, place: str, names: Collection[str], now: float, *, keep: bool) -> Mapping[str, float]:
        """Return when each of `names` was seen first at `place`, in seconds since the epoch; new: `now`.

        Args:
            keep: remember it; what is not among `names` any more is forgotten.
        """
        path = self._directory / f"{hashlib.sha256(place.encode()).hexdigest()[:32]}.json"
        if not keep:
            return {name: min(now, _read(path).get(name, now)) for name in names}
        with os_errors(f"cannot keep {path}"):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.with_suffix(".lock").open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                known = _read(path)
                seen = {name: min(now, known.get(name, now)) for name in names}
                _write(path, seen)
        return seen


def _read(path: Path) -> dict[str, float]:
    """Return what was kept; a damaged memory is none: everything is new then, and waits once more."""
    try:
        content = json.loads(path.read_bytes())
        return {str(name): float(when) for name, when in content.items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return {}


def _write(path: Path, seen: Mapping[str, float]) -> None:
    draft = path.with_suffix(".new")
    with draft.open("wb") as file:
        file.write(json.dumps(seen).encode())
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
