"""Starting the suite: as a process of its own that was forked where all is imported.

    worker (threads: a simulator) ── forkserver: the suite's modules, nothing done ──> fork = a run

Of the 2.2 s of CPU of a run 1.2 were imports. What a mutant patches must come before them: that is spawned.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path

_FORKS = get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["bollard.cli.conformance", "bollard.conformance.run", "bollard.conformance.lab"]
)


def bollard(
    arguments: Sequence[str], environment: Mapping[str, str], home: Path, *, timeout: float, fresh: bool
) -> subprocess.CompletedProcess[str]:
    """Run `bollard ARGUMENTS` to its end; `fresh` imports everything in its process.

    Raises:
        subprocess.TimeoutExpired: it took longer than `timeout` seconds, and was killed.
    """
    if fresh:
        command = [sys.executable, "-m", "bollard", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, env=environment
        )
    out, err = home / "out", home / "err"
    process = _FORKS.Process(target=_serve, args=(list(arguments), dict(environment), out, err))
    process.start()
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise subprocess.TimeoutExpired(list(arguments), timeout)
    return subprocess.CompletedProcess(arguments, process.exitcode, out.read_text(), err.read_text())


def _serve(arguments: list[str], environment: Mapping[str, str], out: Path, err: Path) -> None:
    """Become what `python -m bollard` would be with this environment."""
    gc.freeze()  # pytest collects garbage five times at its end: 0.3 s for what was imported before
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.argv = ["bollard", *arguments]

    from bollard.cli import main

    main()
