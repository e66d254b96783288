"""Command line of the hypervisor simulator."""

from __future__ import annotations

import argparse
import sys

from ..defects import parse_switches
from ..serving import serve
from .exports import DESIGNS
from .personality import PERSONALITIES
from .simulator import HypervisorSimulator


def main(arguments: list[str] | None = None) -> None:
    """Serves until SIGTERM; prints one JSON line when ready."""
    parser = argparse.ArgumentParser(
        prog="python -m bollard.simulators.hypervisor",
        description="A simulated hypervisor cluster on 127.0.0.1.",
    )
    parser.add_argument("--state", required=True, help="directory of the durable state")
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0 takes a free one")
    parser.add_argument("--personality", choices=sorted(PERSONALITIES), default="KVM")
    parser.add_argument(
        "--export", choices=DESIGNS, default="stop", help="when Hyper-V exports VMs with snapshots"
    )
    parser.add_argument("--defect", action="append", default=[], metavar="NAME[=VALUE]")
    given = parser.parse_args(arguments)
    simulator = HypervisorSimulator(
        given.state, personality=given.personality, export=given.export, port=given.port
    )
    simulator.defects.update(parse_switches(given.defect))
    serve(simulator, sys.stdout)


if __name__ == "__main__":
    main()
