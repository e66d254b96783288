"""Durable jobs: ordered once, done by any worker of any machine, taken over when a worker dies.

    Orders   submit, look, cancel          for who wants something
    Claims   claim, heartbeat, finish      for who does it; fenced by an epoch
    Worker   threads around Claims         what `bollard api serve` runs

No library does this on SQLite and PostgreSQL alike in tables of the catalog: procrastinate and pgqueuer need
PostgreSQL, dramatiq and celery a broker, APScheduler 3 has neither leases nor progress, and huey takes a task
out of its table when it begins, so that a killed worker loses it.
"""

from __future__ import annotations

from .claims import Beat, Claim, Claims
from .limits import JobLimits
from .orders import Order, Orders
from .retry import RetryPolicy
from .run import Run
from .states import JOB, JobEvent, JobState
from .table import Job
from .worker import Handler, Worker

__all__ = [
    "JOB",
    "Beat",
    "Claim",
    "Claims",
    "Handler",
    "Job",
    "JobEvent",
    "JobLimits",
    "JobState",
    "Order",
    "Orders",
    "RetryPolicy",
    "Run",
    "Worker",
]
