"""The child's edge: one exchange with a BMC, then the end.

    python -P -m bollard.drivers.fence.worker PARENT MODULE < request > lines

The request, with its password, comes through the pipe: arguments and environment can be read in /proc.
The process ends in any case:

- the parent kills it at the deadline;
- PR_SET_PDEATHSIG kills it when the parent dies (in Linux: when the thread that started it ends);
- its own SIGALRM does so a second after the deadline, should the parent be stopped.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
from typing import Any

from .wire import REFUSED, Problem, line

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Do what the request says and report it."""
    parent, module = sys.argv[1:]
    _die_with(int(parent))
    pipe = _private_pipe()
    request = json.load(sys.stdin)
    signal.setitimer(signal.ITIMER_REAL, request["limit"] + 1.0)  # nobody handles it: it ends the process
    os.write(pipe, _result(module, request, pipe))
    # Not by return: pyghmi's thread and its log-out at exit may wait for a BMC that is silent.
    os._exit(0)


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        raise SystemExit(1)


def _private_pipe() -> int:
    """Keep the pipe for us: pyghmi prints on standard output what it cannot tell otherwise."""
    pipe = os.dup(1)
    os.dup2(2, 1)
    return pipe


def _result(module: str, request: dict[str, Any], pipe: int) -> bytes:
    def stage(name: str) -> None:
        os.write(pipe, line(stage=name))

    try:
        return line(answer=importlib.import_module(module).exchange(request, stage))
    except Problem as problem:
        if problem.certain:
            stage(REFUSED)
        return line(error=problem.code, message=problem.message)
    except Exception as error:  # noqa: BLE001 - the edge of the process: the parent must hear of it
        # The type only: a codec's error shows what it was given, and that may be the password.
        return line(error="internal", message=f"the client library failed with {type(error).__name__}")


if __name__ == "__main__":
    main()
