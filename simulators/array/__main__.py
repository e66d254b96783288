"""``python -m bollard.simulators.array``: serve until SIGTERM; one JSON line on stdout when ready."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from .defects import Defect
from .simulator import ArraySimulator

PASSWORD_VARIABLE = "BOLLARD_ARRAY_PASSWORD"  # noqa: S105 - the variable's name, no password
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def pool(text: str) -> tuple[str, int]:
    """NAME=SIZE, with K, M, G or T for powers of 1024."""
    match = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})=(\d+)([KMGT]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=SIZE, e.g. gold=64G")
    name, number, unit = match.groups()
    return name, int(number) * _UNITS[unit]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="python -m bollard.simulators.array", description=__doc__, allow_abbrev=False
    )
    add = options.add_argument
    add("--state", required=True, type=Path, help="directory of the durable state")
    add("--port", type=int, default=0, help="of the REST API, 0 for any")
    add("--nbd-port", type=int, default=0, help="of the data path, 0 for any")
    transport = options.add_mutually_exclusive_group()
    transport.add_argument("--tls", action="store_true", default=True, help="HTTPS (the default)")
    transport.add_argument("--insecure-http", dest="tls", action="store_false", help="plain HTTP")
    add("--nbd-tls", action="store_true", help="hosts must use STARTTLS")
    add("--pool", type=pool, action="append", default=[], metavar="NAME=SIZE", help="repeatable")
    add("--username", default="admin")
    add("--password-file", type=Path, help=f"else ${PASSWORD_VARIABLE}, else DIR/admin-password")
    add("--job-seconds", type=float, default=0.05, help="how long clones and reverts take")
    add("--session-limit", type=int, default=1024, help="REST sessions at the same time")
    add("--session-seconds", type=float, default=3600.0, help="life of a REST session")
    add("--rate-limit", type=float, default=0.0, help="REST calls per second, 0 for no limit")
    add("--overprovision", type=float, default=16.0, help="volume sizes allowed, in pool capacities")
    add("--defect", action="append", default=[], choices=[d.label for d in Defect], metavar="NAME")
    add("--log-level", default="WARNING", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the exit status."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=options.log_level, stream=sys.stderr)
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    with _simulator(options) as simulator:
        sys.stdout.write(json.dumps(_ready(simulator)) + "\n")
        sys.stdout.flush()
        ending.wait()
    return 0


def _simulator(options: argparse.Namespace) -> ArraySimulator:
    password = os.environ.get(PASSWORD_VARIABLE)
    if options.password_file is not None:
        password = options.password_file.read_text().strip()
    return ArraySimulator(
        options.state,
        pools=dict(options.pool),
        port=options.port,
        nbd_port=options.nbd_port,
        tls=options.tls,
        nbd_tls=options.nbd_tls,
        password=password,
        defects=options.defect,
        username=options.username,
        job_seconds=options.job_seconds,
        session_limit=options.session_limit,
        session_seconds=options.session_seconds,
        rate_limit=options.rate_limit,
        overprovision=options.overprovision,
    )


def _ready(simulator: ArraySimulator) -> dict[str, object]:
    return {
        "url": simulator.url,
        "nbd_host": simulator.nbd_host,
        "nbd_port": simulator.nbd_port,
        "ca": str(simulator.ca) if simulator.ca else None,
        "pid": os.getpid(),
        "username": simulator.admin_user,
        "password_file": str(simulator.password_file) if simulator.password_file else None,
        "pools": simulator.pools,
    }


if __name__ == "__main__":
    sys.exit(main())
