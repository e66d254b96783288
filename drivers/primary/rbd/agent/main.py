"""Requests and answers: a line of JSON on standard input, one on standard output, until the input ends.

The first line has the settings, with the key; it stands on no command line and in no environment. A request
that is not done by its deadline ends the process; the driver starts another.

    {"monitors": "...", "user": "...", "key": "...", "pool": "...", "owner": "..."}
    {"seconds": 30, "act": "create", "with": {...}}
    {"ok": ...}   or   {"error": {"code": "not_found", "message": "...", "outcome": "not_applied"}}
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import rados
import rbd

from . import access, snapshots, volumes
from .cluster import Cluster
from .errors import Refused
from .records import Records
from .volumes import Pool

_CODES = {
    errno.ENOSPC: ("out_of_capacity", "the pool is full", "unknown"),
    errno.EDQUOT: ("out_of_capacity", "the pool's quota is used up", "unknown"),
    errno.EPERM: ("permission_denied", "our user may not do that", "unknown"),
    errno.EACCES: ("permission_denied", "our user may not do that", "unknown"),
    errno.EBUSY: ("busy", "the image is in use", "unknown"),
    errno.ETIMEDOUT: ("unavailable", "the cluster did not answer in time", "unknown"),
    errno.ESHUTDOWN: ("unavailable", "we were cut off from the cluster", "unknown"),
}
# After these the connection is of no use any more, and we end.
_BROKEN = (errno.ETIMEDOUT, errno.ESHUTDOWN)


def main() -> None:
    """Answer the requests on standard input."""
    # librados prints to our output, too; the answers have a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    settings, cluster = json.loads(sys.stdin.readline()), None
    for line in sys.stdin:
        request = json.loads(line)
        seconds = float(request["seconds"])
        # Its default act ends us, also in the midst of librados, and when the driver is gone.
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            cluster = cluster or Cluster(settings, seconds)
            answer = {
                "ok": _ACTS[request["act"]](Pool(cluster, Records(cluster), seconds), **request["with"])
            }
        except Refused as error:
            answer = _error(error.code, error.message, error.outcome)
        except (OSError, rados.Error, rbd.Error) as error:  # the bindings have no OSError of Python's
            number = getattr(error, "errno", None) or 0
            answer = _failed(error, number)
            if number in _BROKEN:
                cluster = None
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        if cluster is None:
            return


def _failed(error: Exception, number: int) -> dict[str, Any]:
    default = ("internal", f"Ceph: {os.strerror(number)} ({type(error).__name__})", "unknown")
    return _error(*_CODES.get(number, default))


def _error(code: str, message: str, outcome: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "outcome": outcome}}


def _open(pool: Pool) -> str:
    pool.cluster.sessions()  # what a revoke needs, known before the first one
    return pool.cluster.identity()


def _capacity(pool: Pool) -> dict[str, int]:
    total, used = pool.cluster.capacity()
    provisioned = sum(record["size"] for _, record in pool.records.scan("v/"))
    return {"total": total, "used": min(used, total), "provisioned": provisioned}


_ACTS: dict[str, Callable[..., Any]] = {
    "open": _open,
    "capacity": _capacity,
    "get": volumes.get,
    "list": volumes.list_page,
    "create": volumes.create,
    "delete": volumes.delete,
    "resize": volumes.resize,
    "seal": volumes.seal,
    "adopt": volumes.adopt,
    "release": volumes.release,
    "snapshot": snapshots.create,
    "get-snapshot": snapshots.get,
    "list-snapshots": snapshots.list_page,
    "delete-snapshot": snapshots.delete,
    "revert": snapshots.revert,
    "changed": snapshots.changed,
    "locate-snapshot": access.locate_snapshot,
    "grant": access.grant,
    "list-grants": access.list_grants,
    "revoke": access.revoke,
}
