"""``bollard simulate management``: serve agents; send them files of commands, and print their answers.

One JSON line on standard output when it serves. With --send one more for each file, with the answers; it ends
when the last file is answered, with 0 if all answers say success.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..defects import parse_switches
from .simulator import Disconnected, ManagementSimulator


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="python -m bollard.simulators.management", description=__doc__, allow_abbrev=False
    )
    add = options.add_argument
    add("--state", type=Path, required=True, help="directory for the certificates")
    add("--port", type=int, default=0, help="TCP port; 0 takes a free one")
    add("--ping-interval", type=int, default=60, help="seconds between an agent's pings")
    add("--expired", action="store_true", help="show a certificate that was valid until yesterday")
    add("--defect", action="append", default=[], metavar="NAME[=VALUE]", help="repeatable")
    add("--send", type=Path, action="append", default=[], help="a file with a list of commands; repeatable")
    add("--timeout", type=float, default=3600.0, help="seconds for each answer")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT, or until all files are answered; the exit status."""
    given = parser().parse_args(arguments)
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    simulator = ManagementSimulator(
        given.state, port=given.port, ping_interval=given.ping_interval, expired=given.expired
    )
    simulator.defects.update(parse_switches(given.defect))
    with simulator:
        files = simulator.agent_files
        _print(
            url=f"tls://127.0.0.1:{simulator.port}",
            pid=os.getpid(),
            certificate=str(files.certificate),
            key=str(files.key),
            authority=str(files.authority),
        )
        if given.send:
            return _send(simulator, given.send, given.timeout)
        ending.wait()
    return 0


def _send(simulator: ManagementSimulator, paths: Sequence[Path], timeout_s: float) -> int:
    simulator.wait_for_agent(timeout_s)
    good = True
    for path in paths:
        try:
            answers = simulator.ask(json.loads(path.read_text()), timeout_s=timeout_s)
        except (Disconnected, TimeoutError, ValueError) as error:
            _print(file=path.name, error=str(error) or type(error).__name__)
            good = False
            continue
        _print(file=path.name, answers=answers)
        good = good and all(fields.get("result", True) for answer in answers for fields in answer.values())
    return 0 if good else 1


def _print(**told: Any) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
