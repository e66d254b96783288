"""Command line of the Swift simulator."""

from __future__ import annotations

import argparse
import sys

from ..defects import parse_switches
from ..serving import serve
from .auth import USERS_ENVIRONMENT
from .simulator import DEFAULT_TOKEN_LIFE_S, SwiftSimulator


def main(arguments: list[str] | None = None) -> None:
    """Serves until SIGTERM; prints one JSON line when ready."""
    parser = argparse.ArgumentParser(
        prog="python -m bollard.simulators.swift",
        description="A simulated OpenStack Swift on 127.0.0.1.",
        epilog=f"Users and keys: JSON object in {USERS_ENVIRONMENT}, else users.json in the state directory.",
    )
    parser.add_argument("--state", required=True, help="directory of the durable state")
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0 takes a free one")
    parser.add_argument("--token-life", type=float, default=DEFAULT_TOKEN_LIFE_S, help="seconds")
    parser.add_argument("--defect", action="append", default=[], metavar="NAME[=VALUE]")
    given = parser.parse_args(arguments)
    simulator = SwiftSimulator(given.state, port=given.port, token_life_s=given.token_life)
    simulator.defects.update(parse_switches(given.defect))
    serve(simulator, sys.stdout)


if __name__ == "__main__":
    main()
