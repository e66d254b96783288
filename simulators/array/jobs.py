"""Jobs that take time.

A job's effect is committed together with the job, in one transaction; what takes time is only that the array
says "running" until the job is due. So a restart neither loses a job nor finds it half done.
"""

from __future__ import annotations

import sqlite3

from .core import Core, Json, Query, new_id, stamp
from .defects import Defect
from .errors import ArrayError

_NEVER = 1e18  # seconds; a due time that does not come
_STATES = {"clone_volume": "creating", "clone_snapshot": "creating", "revert": "reverting"}


class Jobs:
    """Starts and shows jobs; tells which volumes are busy."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def start(self, kind: str, volume_id: str) -> Json:
        """Record a job on a volume; inside the transaction of its effect."""
        core, job_id, now = self._core, new_id("job"), self._core.clock()
        never = Defect.JOB_NEVER_FINISHES in core.defects
        due = _NEVER if never else now + core.settings.job_seconds
        core.db.run(
            "INSERT INTO jobs (id, type, target, started, due) VALUES (?, ?, ?, ?, ?)",
            *(job_id, kind, volume_id, now, due),
        )
        return self.get(job_id)

    def get(self, job_id: str) -> Json:
        """One job."""
        return self._show(self._core.find("jobs", job_id))

    def search(self, arguments: dict[str, str]) -> Json:
        """All jobs."""
        return self._core.page("jobs", Query(arguments, {}), self._show)

    def state_of(self, volume_id: str) -> str:
        """A volume's state: online, or what its running job makes of it."""
        sql = "SELECT type FROM jobs WHERE target = ? AND due > ? ORDER BY seq DESC"
        row = self._core.db.one(sql, volume_id, self._core.clock())
        return "online" if row is None else _STATES[row["type"]]

    def refuse_busy(self, volume_id: str) -> None:
        """Raise busy while a job runs on the volume."""
        state = self.state_of(volume_id)
        if state != "online":
            raise ArrayError("busy", f"volume {volume_id} is {state}")

    def _show(self, row: sqlite3.Row) -> Json:
        now, started, due = self._core.clock(), row["started"], row["due"]
        done = now >= due
        passed = 100 if done else int(100 * max(0.0, now - started) / (due - started))
        return {
            "id": row["id"],
            "type": row["type"],
            "state": "done" if done else "running",
            "progress": min(passed, 100 if done else 99),
            "target": {"type": "volume", "id": row["target"]},
            "error": None,
            "created_at": stamp(started),
            "finished_at": stamp(due) if done else None,
        }
