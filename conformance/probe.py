"""What importing and constructing a driver does besides, seen in a process of its own.

    suite ── request: target, options, sys.path (JSON, stdin) ──> python -m bollard.conformance.probe
    suite <── answer: import, construct, close (JSON, stdout) ──     import │ construct │ close, close

The suite's own process is no place for this: the driver is imported there already, and so is pytest.
What happens is heard through Python's audit hook; what it leaves is a comparison of before and after.
"""

from __future__ import annotations

import importlib
import json
import locale
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .subject import Subject

# Not socket.bind: urllib3 binds one to ::1 while it is imported, to see whether there is IPv6.
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
_LOUD = (*_NETWORK, "subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_LONGEST = 30.0  # seconds for the whole process
_TRIES = 3  # the first import compiles, and other processes may be in the way


@dataclass(slots=True, kw_only=True)
class Phase:
    """One step of a driver's life.

    Attributes:
        seconds: wall time, without waiting for a processor that others use.
        deeds: what it did besides, as ends of a sentence ("it …").
        error: why it did not end well, or "".
    """

    seconds: float = 0.0
    deeds: list[str] = field(default_factory=list)
    error: str = ""


@dataclass(slots=True, kw_only=True)
class Probed:
    """What the process saw."""

    imported: Phase = field(default_factory=Phase)
    constructed: Phase = field(default_factory=Phase)
    closed: Phase = field(default_factory=Phase)


def probe(subject: Subject, *, fast: float = 0.3) -> Probed:
    """Import, construct and close a driver in a fresh process.

    Args:
        subject: the driver.
        fast: seconds; a slower import is tried again, and the fastest counts.
    """
    tries: list[Probed] = []
    while len(tries) < _TRIES and all(t.imported.seconds >= fast for t in tries):
        tries.append(_probe_once(subject))
    return min(tries, key=lambda t: t.imported.seconds)


def _probe_once(subject: Subject) -> Probed:
    request = {"target": subject.target, "options": subject.with_secrets(), "path": sys.path}
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=_LONGEST,
            check=False,
        )
        phases = {name: Phase(**phase) for name, phase in json.loads(done.stdout).items()}
    except subprocess.TimeoutExpired:
        return Probed(imported=Phase(error=f"it took more than {_LONGEST:.0f} s", seconds=_LONGEST))
    except ValueError:
        return Probed(imported=Phase(error=f"it ended the process with code {done.returncode}"))
    return Probed(**phases)


# -- in the fresh process ------------------------------------------------------------------------------


_heard: list[str] | None = None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    """Note what is loud while a phase runs; called by Python for each audited event."""
    if _heard is None:
        return
    if event in _LOUD:
        _heard.append(f"calls {event}")
    elif event == "open" and isinstance(arguments[0], str) and isinstance(arguments[2], int):
        path = arguments[0]
        if arguments[2] & _WRITES and "__pycache__" not in path and path != os.devnull:
            _heard.append(f"opens {path} for writing")


def _state() -> Mapping[str, object]:
    """Return what a module shares with the rest of its process."""
    return {
        "starts or ends threads": sorted(str(t.ident) for t in threading.enumerate()),
        "changes signal handlers": [signal.getsignal(s) for s in sorted(signal.valid_signals())],
        "changes the working directory": str(Path.cwd()),
        "changes the environment": dict(os.environ),
        "changes the locale": locale.setlocale(locale.LC_ALL),
        "sets up logging": (logging.root.level, list(logging.root.handlers), logging.root.manager.disable),
        "changes the default time-out of sockets": socket.getdefaulttimeout(),
        "replaces sys.excepthook": sys.excepthook,
        "leaves sockets open": sorted(_sockets()),
    }


def _sockets() -> Iterator[str]:
    with suppress(OSError):  # no /proc here
        for path in Path("/proc/self/fd").iterdir():
            with suppress(OSError):  # the descriptor of the listing itself is closed by now
                if (target := str(path.readlink())).startswith("socket:"):
                    yield target


def _clock() -> float:
    """Return seconds that stand still while others have the processor: their load is not the driver's."""
    waited = 0.0
    with suppress(OSError, ValueError, IndexError):  # no /proc here
        waited = int(Path("/proc/self/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    return time.perf_counter() - waited


@contextmanager
def _watched(phase: Phase) -> Iterator[None]:
    """Fill in a phase: time, deeds and the error that ended it."""
    global _heard  # an audit hook can never be removed, so there is one for all phases
    before, filters, start = _state(), list(warnings.filters), _clock()
    _heard = []
    try:
        yield
    except BaseException as error:  # noqa: BLE001 - SystemExit, too: whatever a vendor's module raises is told
        phase.error = f"{type(error).__name__}: {error}"
    heard, _heard = _heard, None
    phase.seconds = _clock() - start
    after = _state()
    phase.deeds = sorted({*heard, *(deed for deed, was in before.items() if after[deed] != was)})
    # Filters at the end yield to everybody else's; urllib3 adds such ones.
    if list(warnings.filters)[: len(filters)] != filters:
        phase.deeds.append("changes the warning filters")


def _live(request: Mapping[str, Any]) -> Probed:
    from ..core.spi import parse_options

    seen = Probed()
    module, _, name = request["target"].partition(":")
    with _watched(seen.imported):
        cls: Any = importlib.import_module(module)
        for part in name.split("."):
            cls = getattr(cls, part)
    if not seen.imported.error:
        with _watched(seen.constructed):
            driver = cls(parse_options(cls.Options, request["options"]))
    if not (seen.imported.error or seen.constructed.error):
        with _watched(seen.closed):
            driver.close()
            driver.close()
    return seen


def main() -> None:
    """Answer one request; what the driver prints goes to standard error."""
    request = json.load(sys.stdin)
    answer = os.dup(1)
    os.dup2(2, 1)
    sys.path[:] = request["path"]
    # What any driver imports of Bollard is not counted as its own.
    for name in ("core.plugins", "core.dataplane", "transfer_objects"):
        importlib.import_module(f"..{name}", __package__)
    sys.addaudithook(_hear)
    os.write(answer, json.dumps(asdict(_live(request))).encode())


if __name__ == "__main__":
    main()
