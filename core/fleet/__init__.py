"""Archiving beyond one machine: tasks that travel, engines that run them, a queue that is fair.

Fleet ── a thread per job ──> Spreader ── WindowTask ──> Engine ──> store_windows on a worker
                              Gate: whose turn
"""

from .engine import Engine, ExecutorEngine, open_engine
from .fleet import Fleet, Limits, Row
from .jobs import Job, jobs_in, jobs_of
from .site import Site, close_sites, site_of
from .task import StoredWindows, WindowTask, store_windows

__all__ = [
    "Engine",
    "ExecutorEngine",
    "Fleet",
    "Job",
    "Limits",
    "Row",
    "Site",
    "StoredWindows",
    "WindowTask",
    "close_sites",
    "jobs_in",
    "jobs_of",
    "open_engine",
    "site_of",
    "store_windows",
]
