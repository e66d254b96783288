"""Asking the agent on the array: a line of JSON there, a line of JSON back, nothing on a command line.

    thread ── ask ──> an idle agent, or a new one ──> answer ──> idle again
                                                └── lost, late, broken ──> its channel is closed

To start an agent takes 60 ms, to ask one that is there 3 ms. Each works on one request at a time.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shlex
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ....core.spi import Call, Internal, NotFound, Outcome, error_class
from .options import IscsiSshOptions
from .ssh import Command, SshArray

HOME = ".bollard"
_NO_AGENT = (2, 127)  # python3 cannot open it; there is no python3
_MOST_DETAIL = 500
_AGENTS = 8  # at a time; sshd's MaxSessions is 10
# What cannot have been applied when the answer is lost: these only look.
_LOOKS = frozenset({"open", "capacity", "get", "list", "get-snapshot", "list-snapshots", "changed"}) | {
    "list-grants"
}


@functools.cache
def agent_files() -> Mapping[str, str]:
    """Return the agent's modules by name."""
    return {path.name: path.read_text() for path in sorted((Path(__file__).parent / "agent").glob("*.py"))}


def agent_directory(pool: Path) -> Path:
    """Return where this driver's agent is on the array; agents of other versions stand beside it."""
    digest = hashlib.sha256(json.dumps(dict(agent_files())).encode()).hexdigest()[:16]
    return pool / HOME / f"agent-{digest}"


class Array:
    """The agents of one pool, as one owner. Safe for several threads."""

    def __init__(self, options: IscsiSshOptions) -> None:
        self._options = options
        self._ssh = SshArray(options)
        self._slots = threading.BoundedSemaphore(_AGENTS)
        self._lock = threading.Lock()
        self._idle: list[Command] = []

    def close(self) -> None:
        """Close the connection; the agents end with it."""
        while (agent := self._taken()) is not None:
            agent.close()
        self._ssh.close()

    def ask(self, act: str, call: Call, **arguments: Any) -> Any:
        """Have something done on the array and return its answer.

        Raises:
            StorageError: what the agent or the connection says.
        """
        lost = Outcome.NOT_APPLIED if act in _LOOKS else Outcome.UNKNOWN
        if not self._slots.acquire(timeout=call.remaining()):
            call.check()
        try:
            return self._asked(request_of(self._options, act, call, arguments), call, lost)
        finally:
            self._slots.release()

    def _asked(self, request: bytes, call: Call, lost: Outcome) -> Any:
        agent = self._agent(call)
        try:
            answer = answer_of(agent, agent.ask(request, call, lost), call, lost)
        except BaseException:
            agent.close()
            raise
        with self._lock:
            self._idle.append(agent)
        return result_of(answer)

    def _taken(self) -> Command | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _agent(self, call: Call) -> Command:
        while (agent := self._taken()) is not None:
            if agent.usable:
                return agent
            agent.close()
        return self._ssh.start(agent_command(self._options), call)


def agent_command(options: IscsiSshOptions) -> str:
    """Return the command line of an agent."""
    # Isolated and without site-packages: half the time, and nobody's PYTHONPATH.
    return f"exec python3 -I -S {shlex.quote(str(agent_directory(options.pool)))}"


def request_of(options: IscsiSshOptions, act: str, call: Call, arguments: Mapping[str, Any]) -> bytes:
    """Return a request as the agent reads it."""
    request = {
        "pool": str(options.pool),
        "owner": options.owner,
        "seconds": call.remaining(),
        "act": act,
        "with": dict(arguments),
    }
    return json.dumps(request).encode()


def answer_of(agent: Command, lines: list[bytes], call: Call, lost: Outcome) -> Any:
    """Return what an agent answered.

    Args:
        agent: who was asked.
        lines: what it printed.
        call: the call.
        lost: what is known if it did not answer.

    Raises:
        NotFound: it is not installed there.
        Internal: it broke. Unavailable: it was lost.
    """
    try:
        return json.loads(lines[-1])
    except (ValueError, IndexError) as error:
        status = agent.status(call, lost)
        if status in _NO_AGENT:
            raise NotFound("the pool has no agent of this version on the array: run `install`") from error
        # Only the last line, which names the exception: the ones before may hold what it worked on.
        said = lines[-1][-_MOST_DETAIL:].decode(errors="replace") if lines else ""
        kind = said.partition(":")[0]
        raise Internal(f"the array's agent broke: status {status}, {kind}", outcome=lost) from error


def result_of(answer: Any) -> Any:
    """Return the result in an answer.

    Raises:
        StorageError: as the agent says.
    """
    if not isinstance(answer, dict) or answer.keys() not in ({"ok"}, {"error"}):
        raise Internal("the array's agent answers nonsense")
    if "error" in answer:
        failed = answer["error"]
        raise error_class(failed["code"])(failed["message"], outcome=Outcome(failed["outcome"]))
    return answer["ok"]
