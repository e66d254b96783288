"""``python -m bollard.simulators.bmc``: serve until SIGTERM; one JSON line on stdout when ready."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from ..defects import parse_switches
from .chassis import Hook
from .simulator import BmcSimulator

PASSWORD_VARIABLE = "BOLLARD_BMC_PASSWORD"  # noqa: S105 - the variable's name, no password
_HOOK_SECONDS = 30.0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="python -m bollard.simulators.bmc", description=__doc__, allow_abbrev=False
    )
    add = options.add_argument
    add("--port", type=int, default=0, help="UDP, 0 for any")
    add("--username", default="admin")
    add("--password-file", type=Path, help=f"else ${PASSWORD_VARIABLE}")
    add("--off", action="store_true", help="the host is off at the start")
    add("--on-power", metavar="PROGRAM", help="run as PROGRAM on|off when the power changes")
    add("--defect", action="append", default=[], metavar="NAME[=VALUE]", help="repeatable")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the exit status."""
    options = parser().parse_args(arguments)
    password = os.environ.get(PASSWORD_VARIABLE)
    if options.password_file is not None:
        password = options.password_file.read_text().strip()
    if not password:
        parser().error(f"give --password-file or ${PASSWORD_VARIABLE}")
    hook = _runs(options.on_power) if options.on_power else None
    simulator = BmcSimulator({options.username: password}, hook=hook, on=not options.off, port=options.port)
    simulator.defects.update(parse_switches(options.defect))
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    with simulator:
        ready = {"url": f"ipmi://127.0.0.1:{simulator.port}", "pid": os.getpid(), "port": simulator.port}
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        ending.wait()
    return 0


def _runs(program: str) -> Hook:
    def hook(on: bool) -> None:
        subprocess.run([program, "on" if on else "off"], check=True, timeout=_HOOK_SECONDS)

    return hook


if __name__ == "__main__":
    sys.exit(main())
