"""What is to be archived tonight: a file of jobs, or all volumes of a pool.

    [{"volume": "vol-1", "pool": "ssd-1"},
     {"volume": "vol-2", "pool": "ssd-1", "tenant": "acme", "parent": "none"}]

The snapshot's id is made of the run's name and the volume's id. So the same command finds tomorrow what
it had cut and archived today, and goes on with what is left.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from ...transfer_objects.errors import did_you_mean
from ...transfer_objects.ids import ID_RULE, SnapshotId, VolumeId, is_valid_id
from ..pool import Pool
from ..spi import InvalidArgument, NotFound

_KEYS = {"volume", "pool", "tenant", "parent"}

# The digest takes 12 characters and a hyphen of the 64 that an id may have.
_LONGEST_RUN = 51

# What `Mover` calls its temporary clones; one that lies there is of a job that runs beside this one.
_TEMPORARY = re.compile(r"tmp-[0-9a-f-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One volume to archive.

    Attributes:
        pool: its name in the configuration.
        tenant: volumes of a pool's tenants take turns.
        parent: an archived snapshot, "auto" for the newest, "none" for a full.
        size: bytes if known, else 0: the largest begin first, or they would end last.
    """

    volume: VolumeId
    pool: str
    tenant: str = ""
    parent: str = "auto"
    size: int = 0


def check_run(run: str) -> str:
    """Return the run's name, or raise `InvalidArgument` if no snapshot ids can be made of it."""
    if not is_valid_id(run) or len(run) > _LONGEST_RUN:
        raise InvalidArgument(
            f"run must be an id of at most {_LONGEST_RUN} characters ({ID_RULE}), got {run!r}"
        )
    return run


def snapshot_of(run: str, volume: VolumeId) -> SnapshotId:
    """Return the id of a run's snapshot of a volume, always the same; on a pool ids are unique."""
    return SnapshotId(f"{run}-{hashlib.sha256(volume.encode()).hexdigest()[:12]}")


def jobs_in(path: Path, pool: str) -> list[Job]:
    """Read a file of jobs.

    Args:
        pool: of jobs that name none.

    Raises:
        NotFound: there is no such file.
        InvalidArgument: naming the entry, the key and the rule.
    """
    try:
        entries = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise NotFound(f"no file of jobs at {path}") from error
    except ValueError as error:
        raise InvalidArgument(f"{path} is not JSON: {error}") from error
    if not isinstance(entries, list):
        raise InvalidArgument(f"{path} must be a list of jobs")
    jobs = [_job(f"{path}: job {number}", entry, pool) for number, entry in enumerate(entries)]
    names = [(job.pool, job.volume) for job in jobs]
    if (
        twice := sorted({name for name in names if names.count(name) > 1})[:1]
        if len(set(names)) < len(names)
        else []
    ):
        raise InvalidArgument(f"{path}: volume {twice[0][1]} of pool {twice[0][0]} is there twice")
    return jobs


def _job(place: str, entry: Any, pool: str) -> Job:
    if not isinstance(entry, dict):
        raise InvalidArgument(f"{place} must be an object")
    for key, value in entry.items():
        if key not in _KEYS:
            raise InvalidArgument(f"{place}: key {key!r} is unknown; {did_you_mean(key, sorted(_KEYS))}")
        if not isinstance(value, str):
            raise InvalidArgument(f"{place}: {key} must be text")
    if not is_valid_id(entry.get("volume", "")):
        raise InvalidArgument(f"{place}: volume is missing or not an id: {ID_RULE}")
    return Job(**{"pool": pool, **entry})


def jobs_of(pool: Pool) -> list[Job]:
    """Return a job for every volume of a pool."""
    return [
        Job(volume=volume.id, pool=pool.name, size=volume.size)
        for volume in pool.volumes.list()
        if not _TEMPORARY.fullmatch(volume.id)
    ]


def in_turns(jobs: Sequence[Job]) -> Iterator[Job]:
    """Yield jobs so that tenants take turns, the largest of each first."""
    tenants: dict[str, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: -job.size):
        tenants.setdefault(job.tenant, []).append(job)
    return (job for job in chain.from_iterable(zip_longest(*tenants.values())) if job is not None)
