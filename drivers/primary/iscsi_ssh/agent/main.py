"""Requests and answers: a line of JSON on standard input, one on standard output, until the input ends.

A request that is not done by its deadline ends the process; the next one starts another.

    {"pool": "/srv/pool", "owner": "bollard", "seconds": 30, "act": "create", "with": {...}}
    {"ok": ...}   or   {"error": {"code": "not_found", "message": "...", "outcome": "not_applied"}}
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import exports, groups, snapshots, volumes
from .errors import Refused
from .files import names_in
from .pool import HOME, Pool
from .prepare import prepare
from .tgt import TgtError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def main() -> None:
    """Answer the requests on standard input."""
    for line in sys.stdin:
        request = json.loads(line)
        # Nobody waits for us after the deadline; what is half done then is repeated from the beginning.
        signal.setitimer(signal.ITIMER_REAL, float(request["seconds"]))
        answer = json.dumps(_answer(request))
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"ok": _act(request)}
    except Refused as error:
        return _error(error.code, error.message, error.outcome)
    except TgtError as error:
        return _error("internal", str(error), "unknown")
    except OSError as error:
        if error.errno in _FULL:
            return _error("out_of_capacity", "the pool is full", "not_applied")
        return _error("internal", f"the array: {os.strerror(error.errno or 0)}", "unknown")


def _error(code: str, message: str, outcome: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "outcome": outcome}}


def _act(request: dict[str, Any]) -> Any:
    name, root, arguments = request["act"], Path(request["pool"]), request["with"]
    if name == "prepare":
        return prepare(root, **arguments)
    pool = Pool(root, request["owner"])
    if name in _LOOKS:
        return _LOOKS[name](pool, **arguments)
    with pool.changing():
        return _CHANGES[name](pool, **arguments)


def _open(pool: Pool) -> dict[str, Any]:
    """Say who the pool is, and offer again what a restart of tgtd has lost."""
    if not os.path.ismount(pool.root):
        raise Refused("unavailable", f"nothing is mounted at {pool.root} on the array", "not_applied")
    if names_in(pool.home):  # an owner without anything leaves nothing behind by looking
        with pool.changing():
            exports.restore(pool)
    pool.tgt.pid()
    return {"identity": pool.described["identity"], "portal": pool.described["portal"]}


def _capacity(pool: Pool) -> dict[str, int]:
    found = os.statvfs(pool.root)
    total = found.f_blocks * found.f_frsize
    provisioned = 0
    for owner in names_in(pool.root / HOME):
        for volume in names_in(pool.root / HOME / owner / "v"):
            provisioned += _size(pool.root / HOME / owner / "v" / volume / "data")
    return {"total": total, "used": total - found.f_bavail * found.f_frsize, "provisioned": provisioned}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


_LOOKS: dict[str, Callable[..., Any]] = {
    "open": _open,
    "capacity": _capacity,
    "get": volumes.get,
    "list": volumes.list_page,
    "get-snapshot": snapshots.get,
    "list-snapshots": snapshots.list_page,
    "changed": snapshots.changed,
    "list-grants": exports.list_grants,
}
_CHANGES: dict[str, Callable[..., Any]] = {
    "create": volumes.create,
    "delete": volumes.delete,
    "resize": volumes.resize,
    "revert": volumes.revert,
    "seal": volumes.seal,
    "adopt": volumes.adopt,
    "release": volumes.release,
    "snapshot": snapshots.create,
    "delete-snapshot": snapshots.delete,
    "take-group": groups.take,
    "delete-group": groups.delete,
    "grant": exports.grant,
    "revoke": exports.revoke,
    "rotate": exports.rotate,
}
