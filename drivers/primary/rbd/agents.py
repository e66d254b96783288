"""The child processes that speak to Ceph: see agent/.

    thread ── ask ──> an idle agent, or a new one ──> answer ──> idle again
                                                └── late, dead ──> killed

To start one takes 150 ms, to ask one that is there 2 ms. Each works on one request at a time.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from ....core.spi import Call, Internal, Outcome, Unavailable, Unsupported, error_class
from .options import RbdOptions

_MOST_AGENTS = 8
_MOST_ANSWER = 64 << 20  # bytes
_END = 5.0  # seconds
_GRACE = 0.05  # seconds between two looks at `call.cancel`
# Isolated: nobody's PYTHONPATH. Our package's directory comes last, so that it hides no other module.
_START = "import sys; sys.path.append(sys.argv[1]); from agent.main import main; main()"
# What cannot have been applied when the answer is lost: these only look.
_LOOKS = frozenset(
    {"open", "capacity", "get", "list", "get-snapshot", "list-snapshots", "changed", "list-grants"}
)


class Agents:
    """The agents of one pool, as one owner. Safe for several threads."""

    def __init__(self, options: RbdOptions) -> None:
        self._options = options
        self._slots = threading.BoundedSemaphore(_MOST_AGENTS)
        self._lock = threading.Lock()
        self._idle: list[Agent] = []
        self._closed = False

    def close(self) -> None:
        """End the agents."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for agent in idle:
            agent.close()

    def ask(self, act: str, call: Call, **arguments: Any) -> Any:
        """Have something done and return the answer.

        Raises:
            StorageError: what the agent says, or that it did not answer.
        """
        lost = Outcome.NOT_APPLIED if act in _LOOKS else Outcome.UNKNOWN
        if not self._slots.acquire(timeout=call.remaining()):
            call.check()
        try:
            return _result(self._asked(act, arguments, call, lost), lost)
        finally:
            self._slots.release()

    def _asked(self, act: str, arguments: dict[str, Any], call: Call, lost: Outcome) -> Any:
        agent = self._agent()
        try:
            request = {"seconds": call.remaining(), "act": act, "with": arguments}
            answer = agent.ask(json.dumps(request).encode() + b"\n", call, lost)
        except BaseException:
            agent.close()
            raise
        with self._lock:
            if not self._closed:
                self._idle.append(agent)
                return answer
        agent.close()
        return answer

    def _agent(self) -> Agent:
        while True:
            with self._lock:
                agent = self._idle.pop() if self._idle else None
            if agent is None:
                return Agent(self._options)
            if agent.alive:
                return agent
            agent.close()


class Agent:
    """One child process."""

    def __init__(self, options: RbdOptions) -> None:
        self._python = str(options.python)
        self._socket, theirs = _named_pair()
        try:
            self._process = subprocess.Popen(
                [self._python, "-I", "-B", "-c", _START, str(Path(__file__).parent)],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                # Not ours: CEPH_ARGS and CEPH_CONF would change whom it speaks to.
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
                cwd="/",
            )
        except OSError as error:
            self._socket.close()
            raise Unsupported(f"option 'python': cannot run {options.python}: {error.strerror}") from error
        finally:
            theirs.close()
        settings = {
            "monitors": options.monitors,
            "user": options.user,
            "key": options.key.reveal(),
            "pool": options.pool,
            "owner": options.owner,
        }
        self._settings = json.dumps(settings).encode() + b"\n"

    @property
    def alive(self) -> bool:
        """Whether it may be asked something."""
        return self._process.poll() is None

    def close(self) -> None:
        """Kill it, in the middle of whatever it does; repeatable."""
        self._process.kill()
        self._process.wait()
        self._socket.close()

    def ask(self, line: bytes, call: Call, lost: Outcome) -> Any:
        """Send a request and wait for its answer.

        Args:
            line: the request.
            call: whose deadline bounds it.
            lost: what is known if there is no answer.

        Raises:
            DeadlineExceeded: in time there was no answer. Unavailable: it died.
            Unsupported: that Python has no modules rados and rbd.
        """
        settings, self._settings = self._settings, b""
        # Less than a socket holds: it does not block. If it died, what it does not say tells so.
        with suppress(BrokenPipeError):
            self._socket.sendall(settings + line)
        said = self._listen(call)
        if not said.endswith(b"\n"):
            call.check(lost)
            raise self._died(lost)
        return json.loads(said)

    def _listen(self, call: Call) -> bytes:
        said = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            # `remaining` would raise, and take the outcome for not applied.
            while not said.endswith(b"\n") and not call.cancelled() and not _late(call):
                if selector.select(_GRACE):
                    data = _received(self._socket)
                    said += data
                    if not data or len(said) > _MOST_ANSWER:
                        break
        return bytes(said)

    def _died(self, lost: Outcome) -> Exception:
        try:
            status = self._process.wait(_END)  # its output has ended, so it does
        except subprocess.TimeoutExpired:
            return Internal("the process that speaks to Ceph says what nobody understands", outcome=lost)
        if status == 1 and not self._has_bindings():
            return Unsupported(
                f"{self._python} has no modules rados and rbd (Debian: apt install python3-rbd)"
            )
        if status > 0:
            return Internal(f"the process that speaks to Ceph broke: status {status}", outcome=lost)
        return Unavailable("the process that speaks to Ceph was killed", outcome=lost)

    def _has_bindings(self) -> bool:
        command = [self._python, "-I", "-c", "import rados, rbd"]
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


def _named_pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets; the agent's end has a name, by which `ss -xp` shows whose it is."""
    ours, theirs = socket.socketpair()
    theirs.bind(f"\0bollard-rbd-agent-{os.getpid()}-{secrets.token_hex(4)}")
    return ours, theirs


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1 << 20)
    except ConnectionResetError:  # it died before it had read everything
        return b""


def _late(call: Call) -> bool:
    return call.deadline is not None and call.clock() >= call.deadline


def _result(answer: Any, lost: Outcome) -> Any:
    if "error" in answer:
        failed = answer["error"]
        # The agent does not know which acts only look: there it says "unknown" of every error of Ceph.
        outcome = lost if failed["outcome"] == Outcome.UNKNOWN else Outcome(failed["outcome"])
        raise error_class(failed["code"])(failed["message"], outcome=outcome)
    return answer["ok"]
