"""One exchange with a BMC in a child process, which is dead when this returns.

pyghmi keeps its sessions in globals, has a thread of its own and was seen to hang for more than 120 s on
an unknown user or a frozen BMC. A process can be killed; a thread cannot.

    within(call)  ──stdin──▶  worker.py ──▶ ipmi/session.py or redfish/session.py ──▶ BMC
                  ◀──lines──  stage, answer or error
    deadline, cancel ─SIGKILL─▶
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...core.spi import Call, Internal, Outcome, Unavailable, error_class
from ...transfer_objects.secret import Secret
from .wire import COMMAND

# Seconds between two looks at `call.cancel`; the call ends at most so much after its deadline, and what
# the kernel takes to kill a process.
GRACE = 0.05
_MAX_ANSWER = 65536  # bytes; a child says a few hundred

# What Python needs, and no more: a password given as {env = NAME} is in ours, and the child's environment
# can be read in /proc. Without a proxy's address, too: BMCs are not behind one.
_ENVIRONMENT = ("PATH", "LANG", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
_PREFIXES = ("LC_", "PYTHON", "COVERAGE_")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange with one BMC.

    Attributes:
        module: the module whose `exchange` the child runs.
        request: what it is given, without the password.
        password: goes through the pipe.
        timeout: seconds that a BMC may take for it.
    """

    module: str
    request: Mapping[str, Any]
    password: Secret
    timeout: float

    def run(self, call: Call) -> str:
        """Run the child and return its answer.

        Raises:
            StorageError: what the child reported. Outcome UNKNOWN if the command may have reached the BMC.
            Unavailable: the BMC took longer than `timeout`.
            DeadlineExceeded: the call's deadline passed, or it was cancelled; the child is dead.
        """
        limit = call.remaining(self.timeout)
        until = call.clock() + limit
        child = _start(self.module)
        try:
            self._ask(child, limit)
            heard = _Heard(_listen(child, call, until))
        finally:
            _end(child)
        return self._judge(heard, call, until)

    def _ask(self, child: subprocess.Popen[bytes], limit: float) -> None:
        assert child.stdin is not None  # noqa: S101 - Popen was given a pipe
        request = {**self.request, "limit": limit, "password": self.password.reveal()}
        try:
            child.stdin.write(json.dumps(request).encode())  # less than a pipe holds: it does not block
            child.stdin.close()
        except BrokenPipeError:
            return  # it died; what it did not say tells so

    def _judge(self, heard: _Heard, call: Call, until: float) -> str:
        if heard.answer is not None:
            return heard.answer
        if heard.error is not None:
            raise error_class(heard.error)(heard.message, outcome=heard.outcome)
        call.check(heard.outcome)
        if call.clock() >= until:
            raise Unavailable(f"the BMC did not answer in {self.timeout:g} s", outcome=heard.outcome)
        raise Internal("the process that asks the BMC died", outcome=heard.outcome)


class _Heard:
    """The lines of a child, decoded; one that was cut off by a kill says nothing."""

    def __init__(self, said: bytes) -> None:
        fields: dict[str, str] = {}
        for text in said.split(b"\n")[:-1]:
            fields |= json.loads(text)
        self.answer = fields.get("answer")
        self.error = fields.get("error")
        self.message = fields.get("message", "")
        self.outcome = Outcome.UNKNOWN if fields.get("stage") == COMMAND else Outcome.NOT_APPLIED


def _start(module: str) -> subprocess.Popen[bytes]:
    kept = {k: v for k, v in os.environ.items() if k in _ENVIRONMENT or k.startswith(_PREFIXES)}
    worker = f"{__package__}.worker"
    return subprocess.Popen(
        [sys.executable, "-P", "-m", worker, str(os.getpid()), module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=kept,
    )


def _listen(child: subprocess.Popen[bytes], call: Call, until: float) -> bytes:
    """Return what the child said until it ended, the time was up or the call was cancelled."""
    assert child.stdout is not None  # noqa: S101 - Popen was given a pipe
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while not call.cancelled() and (left := until - call.clock()) > 0 and len(said) < _MAX_ANSWER:
            if selector.select(min(left, GRACE)):
                data = os.read(child.stdout.fileno(), 4096)
                if not data:
                    break
                said += data
    return said


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None and not pipe.closed:
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # what was not written to the dead child
