"""One SSH connection to the array, on which each command has a channel of its own.

    SshArray.start ──> _Link (paramiko.Transport, keep-alive) ──> sshd ──> command
         │                    a channel per command
         └── a link that broke is replaced before the next command

What makes SSH a trap for this use, and what is done about it (all measured):

- Nagle and delayed ACKs add 40 ms to each command: TCP_NODELAY.
- Output of two streams read one after the other deadlocks at some MB: both come as one.
- `timeout` bounds some waits only: a timer closes the channel at the deadline, which ends every wait.
- A connection that is lost in the middle is an empty output with exit status -1 and no exception: the
  command may have run.
- Closing a channel does not end the command: it must end by itself (agent/main.py sets itself an alarm).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ....core.spi import (
    Call,
    Internal,
    Outcome,
    Unavailable,
)
from .connect import close, connected
from .options import IscsiSshOptions

if TYPE_CHECKING:
    import paramiko

_CHUNK = 64 * 1024
_MOST_OUTPUT = 32 * 1024 * 1024
_LOST = -1  # paramiko's exit status of a command whose connection broke


class _Link:
    """A connection, and how many commands run on it."""

    def __init__(self, transport: paramiko.Transport) -> None:
        self.transport = transport
        self.users = 0
        self.replaced = False


class SshArray:
    """The connection; made with the first command. Safe for several threads."""

    def __init__(self, options: IscsiSshOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._link: _Link | None = None

    def close(self) -> None:
        """Close the connection; commands that run are lost."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.replaced = True
            close(link.transport)

    def start(self, line: str, call: Call) -> Command:
        """Start a command.

        Args:
            line: for the remote shell, quoted by the caller.
            call: whose deadline bounds it.

        Raises:
            Unauthenticated: the array does not take our key, or shows another host key than ours.
            Unavailable: no connection. DeadlineExceeded: idem. Both not applied.
        """
        link, channel = self._opened(call)
        command = Command(self, link, channel)
        try:
            with command.bounded(call, Outcome.NOT_APPLIED):
                channel.set_combine_stderr(True)
                channel.exec_command(line)
        except BaseException:
            command.close()
            raise
        return command

    def _opened(self, call: Call) -> tuple[_Link, paramiko.Channel]:
        """Return a new channel. Nothing was sent before: a link that turns out dead is replaced once."""
        import paramiko  # here: it takes 150 ms, and a list of drivers must not pay for it

        for last in (False, True):
            link, fresh = self._enter(call)
            try:
                return link, link.transport.open_session(timeout=call.remaining())
            except (paramiko.SSHException, EOFError, OSError) as error:
                self.replace(link)
                self.leave(link)
                call.check()
                if last or fresh:
                    raise Unavailable(
                        "the array does not open another SSH channel", outcome=Outcome.NOT_APPLIED
                    ) from error
        raise AssertionError

    def _enter(self, call: Call) -> tuple[_Link, bool]:
        with self._lock:
            fresh = self._link is None or not self._link.transport.is_active()
            if self._link is None or fresh:
                self._link = _Link(connected(self._options, call))
            self._link.users += 1
            return self._link, fresh

    def replace(self, link: _Link) -> None:
        """Let the next command connect anew: whether this link is broken or slow cannot be told."""
        with self._lock:
            link.replaced = True
            if self._link is link:
                self._link = None

    def leave(self, link: _Link) -> None:
        """Take note that a command has ended; a link that was replaced goes with its last one."""
        with self._lock:
            link.users -= 1
            unused = link.replaced and not link.users
        if unused:
            close(link.transport)


class Command:
    """A command that runs on the array, on a channel of its own."""

    def __init__(self, ssh: SshArray, link: _Link, channel: paramiko.Channel) -> None:
        self._ssh = ssh
        self._link = link
        self._channel = channel
        self._open = True

    @property
    def usable(self) -> bool:
        """Whether it may be asked something: as far as we know it has not ended."""
        ended = self._channel.closed or self._channel.eof_received or self._channel.exit_status_ready()
        return self._open and not ended and not self._link.replaced

    def close(self) -> None:
        """Close the channel; repeatable."""
        if self._open:
            self._open = False
            self._channel.close()
            self._ssh.leave(self._link)

    def ask(self, line: bytes, call: Call, lost: Outcome) -> list[bytes]:
        """Send a line; return the lines up to the first that begins with "{", or all if it ends before.

        Args:
            line: without its end.
            call: whose deadline bounds it.
            lost: what is known if the answer is lost.

        Raises:
            Unavailable: the connection broke. DeadlineExceeded: in time there was no answer.
            Internal: it prints without end.
        """
        with self.bounded(call, lost):
            try:
                self._channel.sendall(line + b"\n")
            except OSError:
                if not self._channel.exit_status_ready():  # else it has ended, and its output says why
                    raise
            return self._drain(until_answer=True)

    def finish(self, stdin: bytes, call: Call) -> tuple[int, bytes]:
        """Send all of its input; return its exit status and what it printed. Raises as `ask`."""
        with self.bounded(call, Outcome.UNKNOWN):
            self._channel.sendall(stdin)
            self._channel.shutdown_write()
            output = b"\n".join(self._drain(until_answer=False))
        return self.status(call, Outcome.UNKNOWN), output

    def status(self, call: Call, lost: Outcome) -> int:
        """Wait for its end; a connection that is lost in the middle shows as status -1 only."""
        with self.bounded(call, lost):
            status = self._channel.recv_exit_status()
            if status == _LOST:
                raise EOFError
        return status

    def _drain(self, *, until_answer: bool) -> list[bytes]:
        received = b""
        while part := self._channel.recv(_CHUNK):
            received += part
            # The answer is the last line; a part that ends one by chance costs a look, no more.
            if until_answer and part.endswith(b"\n") and (lines := received.splitlines())[-1][:1] == b"{":
                return lines
            if len(received) > _MOST_OUTPUT:
                raise Internal(f"the array answers more than {_MOST_OUTPUT} bytes")
        return received.splitlines()

    @contextmanager
    def bounded(self, call: Call, lost: Outcome) -> Iterator[None]:
        """End every wait inside at the deadline, by closing the channel from outside."""
        import paramiko

        # Of what was sent before, too: a create whose channel the timer has closed asks for its status here.
        left = call.remaining(outcome=lost)
        timer = threading.Timer(left, self._channel.close)
        timer.daemon = True
        timer.start()
        try:
            self._channel.settimeout(left)
            yield
        except (paramiko.SSHException, EOFError, OSError) as error:
            self._ssh.replace(self._link)
            call.check(lost)
            raise Unavailable("the SSH connection to the array broke", outcome=lost) from error
        finally:
            timer.cancel()
            timer.join()
