"""A process that does jobs, one of several on a catalog: `python job_racer.py URL DIRECTORY LEASE LIMIT`.

Each attempt is a line of DIRECTORY/attempts, "<job> <epoch> <jobs that are under way>", and a file in
DIRECTORY/running while it lasts; a job with the argument "hang" never ends. It ends with its standard input.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bollard.core.catalog import Catalog
from bollard.core.jobs import Claims, JobLimits, Run, Worker


class _Doing:
    def __init__(self, directory: Path) -> None:
        self._running = directory / "running"
        self._attempts = os.open(directory / "attempts", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def __call__(self, run: Run) -> Mapping[str, Any]:
        """Note the attempt, and end; or wait for the end of the world."""
        mine = self._running / run.job.id
        mine.touch()
        told = f"{run.job.id} {run.claim.epoch} {len(list(self._running.iterdir()))}\n"
        os.write(self._attempts, told.encode())  # one write of a line: appended whole
        if run.job.arguments.get("hang") and run.claim.epoch == 1:
            run.call.cancel.wait()
        mine.unlink()
        return {"epoch": run.claim.epoch}


def main(url: str, directory: str, lease: str, limit: str) -> None:
    """Work until nobody wants it any more."""
    claims = Claims(Catalog(url), limits=JobLimits(per_pool=int(limit)), lease=float(lease))
    with Worker(claims, {"test": _Doing(Path(directory))}, slots=2, poll=0.05, beat=0.2):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
