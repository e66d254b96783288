"""The SSH proxy: a server of its own in front of a real sshd; each command is run there, or not.

    client ── our host key ──> paramiko server │ Command │ paramiko client ── host key verified ──> sshd

Only ``exec`` is offered: no shell, no SFTP, no forwarding.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, ClassVar

import paramiko
from paramiko import common

from .base import Proxy
from .fault import Fault, FaultKind
from .http_reply import drip, garble
from .links import Link, dial, log
from .plan import Strike

_PIECE = 32 * 1024
_IN_MEMORY = 1024 * 1024  # bytes of a kept output; the rest of it goes to disk
_AUTH_S = 30.0
_NEVER_RUN = frozenset({FaultKind.LOSE_REQUEST, FaultKind.RESET, FaultKind.BLACK_HOLE})
_NO_ANSWER = frozenset({FaultKind.LOSE_REPLY, FaultKind.RESET_AFTER})


class SshProxy(Proxy):
    """In front of an sshd. An exchange is a command: method ``exec``, path the command.

    Clients sign in with the same name and key that they would use at the sshd.

    Args:
        host: of the sshd.
        port: of the sshd.
        username: who runs the commands there.
        key: the private key file, without a passphrase.
        host_key: the sshd's key as in known_hosts, ``ssh-ed25519 AAAA...``; another one is refused.
        state: directory of the proxy's host key and of large outputs under way; made when missing.
        listen: TCP port of the proxy; 0 takes a free one.
        wait: see :class:`.base.Proxy`.
    """

    offers: ClassVar[frozenset[FaultKind]] = (
        _NEVER_RUN
        | _NO_ANSWER
        | {FaultKind.DELAY, FaultKind.DRIP, FaultKind.TRUNCATE, FaultKind.GARBLE}
        | {FaultKind.DUPLICATE, FaultKind.REFUSE}
    )

    def __init__(
        self,
        host: str,
        port: int,
        *,
        username: str,
        key: str | os.PathLike[str],
        host_key: str,
        state: str | os.PathLike[str],
        listen: int = 0,
        wait: Callable[[float], None] | None = None,
    ) -> None:
        super().__init__(listen, wait)
        self._address = (host, port)
        self.username = username
        self.key = paramiko.PKey.from_path(Path(key))
        self._theirs = tuple(host_key.split()[-2:])
        self.state = Path(state)
        self.state.mkdir(parents=True, exist_ok=True)
        self.host_key = _kept_host_key(self.state / "ssh_host_key")

    @property
    def url(self) -> str:
        """``ssh://USER@127.0.0.1:PORT``."""
        return f"ssh://{self.username}@127.0.0.1:{self.port}"

    @property
    def known_hosts_line(self) -> str:
        """The proxy as a client's known_hosts file shall know it."""
        return f"[127.0.0.1]:{self.port} {self.host_key.get_name()} {self.host_key.get_base64()}"

    def ready(self) -> dict[str, object]:
        """How to know this proxy."""
        return {"known_hosts_line": self.known_hosts_line}

    def sshd(self) -> paramiko.Transport:
        """A signed-in connection to the real server.

        Raises:
            paramiko.SSHException: when it has another host key or does not let us in.
        """
        transport = paramiko.Transport(dial(*self._address).release())
        try:
            transport.start_client(timeout=_AUTH_S)
            shown = transport.get_remote_server_key()
            if (shown.get_name(), shown.get_base64()) != self._theirs:
                raise paramiko.SSHException("the sshd shows another host key than it should")
            transport.auth_publickey(self.username, self.key)
        except BaseException:
            transport.close()
            raise
        return transport

    def _serve(self, client: Link) -> None:
        if self.current.connected() is not None:
            client.reset()
            return
        transport = _Transport(client.sock)
        transport.add_server_key(self.host_key)
        server = _Server(self, client, transport)
        try:
            transport.start_server(server=server)
            transport.join()
        except paramiko.SSHException as error:
            log.debug("the client is no SSH client: %s", error)
        finally:
            transport.close()
            server.close()


class _Transport(paramiko.Transport):
    """Starts commands only when "exec accepted" went out.

    Else a quick command closes the channel before its acceptance, and the client sees "Channel closed."
    """

    def __init__(self, sock: object) -> None:
        self.accepted: list[threading.Thread] = []
        super().__init__(sock)  # type: ignore[arg-type] # any socket will do

    def _send_user_message(self, data: paramiko.Message) -> None:
        super()._send_user_message(data)  # type: ignore[misc] # not in the stubs
        if data.asbytes()[0] == common.MSG_CHANNEL_SUCCESS:
            while self.accepted:
                self.accepted.pop().start()


class _Server(paramiko.ServerInterface):
    """What a client may do: sign in with the one key, open sessions, run commands."""

    def __init__(self, proxy: SshProxy, client: Link, transport: _Transport) -> None:
        self.proxy = proxy
        self.client = client
        self.transport = transport
        self._lock = threading.Lock()
        self._sshd: paramiko.Transport | None = None
        self._commands: list[threading.Thread] = []

    def get_allowed_auths(self, _username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        good = username == self.proxy.username and key == self.proxy.key
        return common.AUTH_SUCCESSFUL if good else common.AUTH_FAILED

    def check_channel_request(self, kind: str, _chanid: int) -> int:
        good = kind == "session"
        return common.OPEN_SUCCEEDED if good else common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        thread = threading.Thread(target=self._run, args=(channel, command), daemon=True)
        self._commands.append(thread)
        self.transport.accepted.append(thread)
        return True

    def _run(self, channel: paramiko.Channel, command: bytes) -> None:
        try:
            Command(self, channel, command).run()
        except (OSError, EOFError, paramiko.SSHException) as error:
            log.debug("a command's connection broke: %s", error)
            self.transport.close()

    def session(self) -> paramiko.Channel:
        """A new session at the sshd, over the one connection that this client has there."""
        with self._lock:
            if self._sshd is None or not self._sshd.is_active():
                self._sshd = self.proxy.sshd()
            return self._sshd.open_session()

    def close(self) -> None:
        """Ends the connection to the sshd and the threads of commands."""
        with self._lock:
            if self._sshd is not None:
                self._sshd.close()
        for thread in self._commands:
            if thread.is_alive():
                thread.join()


class Command:
    """One command of a client and what becomes of it.

    Args:
        server: of the client's connection.
        channel: the client's.
        command: as it came.
    """

    def __init__(self, server: _Server, channel: paramiko.Channel, command: bytes) -> None:
        self._server = server
        self._channel = channel
        self._command = command
        self._wait = server.proxy.wait

    def run(self) -> None:
        """Runs it at the sshd, not at all, or twice, and says what the plan lets through."""
        strike = self._server.proxy.current.received("exec", self._command.decode(errors="replace"))
        if strike.kind in _NEVER_RUN:
            strike.hit()
            self._break(strike)
            return
        if strike.kind is FaultKind.DUPLICATE:
            self._first_run(strike)
        there = self._started()
        stdin = threading.Thread(target=_copy, args=(self._channel.recv, there.sendall, there), daemon=True)
        stdin.start()
        try:
            self._answer(there, strike)
        finally:
            there.close()
            self._channel.close()
            stdin.join()

    def _started(self) -> paramiko.Channel:
        there = self._server.session()
        there.exec_command(self._command)
        return there

    def _first_run(self, strike: Strike) -> None:
        """With an empty standard input: the client's goes to the second run."""
        there = self._started()
        there.shutdown_write()
        with self._kept_output(there):
            there.recv_exit_status()
        there.close()
        strike.hit()

    def _answer(self, there: paramiko.Channel, strike: Strike) -> None:
        if strike.fault is None:
            with self._errors(there, self._channel.sendall_stderr):
                _copy(there.recv, self._channel.sendall)
        else:
            with self._kept_output(there) as (output, errors):
                strike.answered(there.recv_exit_status())
                if strike.kind in _NO_ANSWER:
                    strike.hit()
                    self._break(strike)
                    return
                self._struck_answer(output, errors, strike, strike.fault)
        status = there.recv_exit_status()
        strike.answered(status)
        if status >= 0:  # -1: the connection to the sshd died, so nobody knows
            self._channel.send_exit_status(status)

    def _struck_answer(self, output: IO[bytes], errors: list[bytes], strike: Strike, fault: Fault) -> None:
        """Says what the fault leaves of the output."""
        length = output.seek(0, os.SEEK_END)
        output.seek(0)
        if fault.kind is FaultKind.DELAY:
            strike.hit()
            self._wait(fault.seconds)
        elif fault.kind is not FaultKind.DUPLICATE and length:
            strike.hit()  # nothing can be taken from an empty output
        self._channel.sendall_stderr(b"".join(errors))
        left = length // 2 if fault.kind is FaultKind.TRUNCATE else length
        while left > 0 and (piece := output.read(min(left, _PIECE))):
            left -= len(piece)
            self._say(garble(piece) if fault.kind is FaultKind.GARBLE else piece, fault)

    def _say(self, piece: bytes, fault: Fault) -> None:
        if fault.kind is FaultKind.DRIP:
            drip(self._channel.sendall, piece, fault.bytes_per_second, self._wait)
        else:
            self._channel.sendall(piece)

    @contextlib.contextmanager
    def _errors(self, there: paramiko.Channel, send: Callable[[bytes], object]) -> Iterator[None]:
        """Standard error flows meanwhile: a pipe that nobody empties would stop the command."""
        thread = threading.Thread(target=_copy, args=(there.recv_stderr, send), daemon=True)
        thread.start()
        try:
            yield
        finally:
            thread.join()

    @contextlib.contextmanager
    def _kept_output(self, there: paramiko.Channel) -> Iterator[tuple[IO[bytes], list[bytes]]]:
        """All of standard output, on disk when it is large, and of standard error."""
        errors: list[bytes] = []
        with tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(self._server.proxy.state)) as output:
            with self._errors(there, errors.append):
                _copy(there.recv, output.write)
            yield output, errors

    def _break(self, strike: Strike) -> None:
        """No exit status, no further word; the whole connection goes, as when its machine does."""
        if strike.kind is FaultKind.BLACK_HOLE:
            while self._channel.recv(_PIECE):
                pass
            self._server.transport.join()
        elif strike.kind in {FaultKind.RESET, FaultKind.RESET_AFTER}:
            self._server.client.reset_on_close()
        self._server.transport.close()


def _copy(
    receive: Callable[[int], bytes], send: Callable[[bytes], object], end: paramiko.Channel | None = None
) -> None:
    """Until the end, or until one side is gone."""
    with contextlib.suppress(OSError):
        while data := receive(_PIECE):
            send(data)
        if end is not None:
            end.shutdown_write()


def _kept_host_key(path: Path) -> paramiko.PKey:
    if not path.exists():
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            paramiko.ECDSAKey.generate().write_private_key(file)
        partial.rename(path)
    return paramiko.ECDSAKey.from_private_key_file(str(path))
