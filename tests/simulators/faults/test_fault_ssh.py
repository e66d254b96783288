"""What a client of the SSH fault proxy sees in front of a real sshd, and what that really ran."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko
import pytest

from bollard.simulators.faults import Exchange, Fault, FaultKind, FaultsNotHit
from bollard.simulators.faults.ssh import SshProxy
from ports import free_port

pytestmark = pytest.mark.real

CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/user_key.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
# Root's .bashrc may run anything, and say so on standard error (pyenv did, when two commands began at once):
# bash reads it for a command of sshd's, unless it is no shell's first.
SetEnv SHLVL=2
"""


def make_key(path: Path) -> None:
    """A key pair without a passphrase."""
    make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(make, check=True, timeout=30)


class Sshd:
    """A real sshd with keys of its own; commands run as whoever runs the tests."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.user_key = directory / "user_key"
        make_key(directory / "host_key")
        make_key(self.user_key)
        self.host_key = (directory / "host_key.pub").read_text().strip()
        self.port = free_port()
        config = directory / "sshd_config"
        config.write_text(CONFIG.format(port=self.port, directory=directory))
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # Debian's package leaves it to its service
        self._log = (directory / "log").open("wb")
        self._process = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-e", "-f", config], stdin=subprocess.DEVNULL, stderr=self._log
        )
        self._until_it_answers(time.monotonic() + 20)

    def _until_it_answers(self, deadline: float) -> None:
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
            except ConnectionRefusedError:
                assert self._process.poll() is None, (self.directory / "log").read_text()
                assert time.monotonic() < deadline
            else:
                return

    def stop(self) -> None:
        """End it, by its pid."""
        self._process.terminate()
        self._process.wait(20)
        self._log.close()


@pytest.fixture(scope="module")
def sshd(tmp_path_factory) -> Iterator[Sshd]:
    """A running sshd."""
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


@pytest.fixture
def waited() -> list[float]:
    """The seconds that the proxy would have slept."""
    return []


@pytest.fixture
def proxy(sshd, tmp_path, waited) -> Iterator[SshProxy]:
    """In front of that sshd."""
    with proxy_of(sshd, tmp_path, wait=waited.append) as running:
        yield running


def proxy_of(sshd: Sshd, path: Path, **more) -> SshProxy:
    """A proxy that signs in with the right key."""
    given = {"username": getpass.getuser(), "key": sshd.user_key, "host_key": sshd.host_key, **more}
    return SshProxy("127.0.0.1", sshd.port, state=path / "proxy", **given)


@contextmanager
def client_of(proxy: SshProxy, key: Path) -> Iterator[paramiko.SSHClient]:
    """A client that knows the proxy's host key and no other."""
    known = proxy.state / "known_hosts"
    known.write_text(proxy.known_hosts_line + "\n")
    with paramiko.SSHClient() as client:
        client.load_host_keys(str(known))
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        client.connect(
            "127.0.0.1",
            proxy.port,
            proxy.username,
            key_filename=str(key),
            look_for_keys=False,
            allow_agent=False,
            timeout=20,
        )
        yield client


@pytest.fixture
def client(sshd, proxy) -> Iterator[paramiko.SSHClient]:
    """A connected client."""
    with client_of(proxy, sshd.user_key) as connected:
        yield connected


def run(client: paramiko.SSHClient, command: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    """Exit status, standard output and standard error."""
    transport = client.get_transport()
    assert transport
    channel = transport.open_session(timeout=20)
    channel.settimeout(20)
    channel.exec_command(command)
    channel.sendall(stdin)
    channel.shutdown_write()
    out = channel.makefile("rb").read()
    err = channel.makefile_stderr("rb").read()
    return channel.recv_exit_status(), out, err


@pytest.fixture
def count(tmp_path) -> Path:
    """A file to which a command adds a line each time it runs."""
    path = tmp_path / "count"
    path.touch()
    return path


def add(count: Path) -> str:
    """That command."""
    return f"echo ran >> {count} && echo 0123456789"


def test_commands_run_there(proxy, client):
    """Output, errors, input and exit status pass; one connection takes many commands."""
    assert run(client, "cat; echo bad >&2; exit 7", b"x" * 300_000) == (7, b"x" * 300_000, b"bad\n")
    assert run(client, "echo again") == (0, b"again\n", b"")
    assert proxy.exchanges == [
        Exchange(1, "exec", "cat; echo bad >&2; exit 7", 7),
        Exchange(2, "exec", "echo again", 0),
    ]


def test_secrets_in_commands_are_not_kept(proxy, client):
    """The record has the command without the password."""
    run(client, "true --password hunter2 --user bob")
    assert proxy.exchanges[0].path == "true --password ... --user bob"


def test_openssh_as_a_client(sshd, proxy):
    """The system's own ssh gets through, with strict checking of the host key."""
    known = proxy.state / "known_hosts"
    known.write_text(proxy.known_hosts_line + "\n")
    command = [
        "ssh",
        "-F",
        "none",
        "-p",
        str(proxy.port),
        "-i",
        sshd.user_key,
        "-o",
        f"UserKnownHostsFile={known}",
    ]
    strict = ["-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"]
    done = subprocess.run(
        [*command, *strict, f"{proxy.username}@127.0.0.1", "echo hello; exit 3"],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, b"hello\n")


def test_lose_reply(proxy, client, count):
    """The command ran; the client gets no output and no exit status, and its connection is dead."""
    proxy.plan([Fault.lose_reply()])
    assert run(client, add(count)) == (-1, b"", b"")
    assert count.read_text() == "ran\n"
    assert proxy.exchanges == [Exchange(1, "exec", proxy.exchanges[0].path, 0, FaultKind.LOSE_REPLY)]
    assert not client.get_transport().is_active()
    proxy.finish()


@pytest.mark.parametrize("fault", [Fault.lose_request(2), Fault.reset(2)], ids=str)
def test_never_ran(proxy, client, count, fault):
    """The connection dies and the command never ran."""
    proxy.plan([fault])
    assert run(client, "echo first")[0] == 0
    assert broken(client, add(count))
    assert count.read_text() == ""
    proxy.finish()


def test_reset_after(proxy, client, count):
    """RST instead of an answer, and the command ran."""
    proxy.plan([Fault.reset_after(path="echo ran")])
    assert broken(client, add(count))
    assert count.read_text() == "ran\n"
    proxy.finish()


def broken(client: paramiko.SSHClient, command: str) -> bool:
    """Whether the command ended without an exit status, however paramiko tells it."""
    try:
        return run(client, command)[0] == -1
    except (OSError, EOFError, paramiko.SSHException):
        return True


def test_delay(proxy, client, waited):
    """The answer comes so much later, and is right."""
    proxy.plan([Fault.delay(seconds=12)])
    assert run(client, "echo late; exit 4") == (4, b"late\n", b"")
    assert waited == [12]


def test_drip(proxy, client, waited):
    """The output comes in small pieces."""
    proxy.plan([Fault.drip(bytes_per_second=20)])
    assert run(client, "echo 0123456789") == (0, b"0123456789\n", b"")
    assert sum(waited) == pytest.approx(0.55)


def test_truncate(proxy, client):
    """Half of the output with exit status 0: nothing else tells that it is not all."""
    proxy.plan([Fault.truncate()])
    assert run(client, "echo 012345678; echo bad >&2") == (0, b"01234", b"bad\n")


def test_garble(proxy, client):
    """The right length, the wrong bytes, exit status 0."""
    proxy.plan([Fault.garble()])
    assert run(client, "echo A") == (0, bytes([255 - ord("A"), 255 - ord("\n")]), b"")


def test_garble_of_nothing_is_not_hit(proxy, client):
    """No output, nothing to garble."""
    proxy.plan([Fault.garble()])
    assert run(client, "true") == (0, b"", b"")
    with pytest.raises(FaultsNotHit):
        proxy.finish()


def test_duplicate(proxy, client, count):
    """It ran twice, the client sees one answer."""
    proxy.plan([Fault.duplicate()])
    assert run(client, add(count)) == (0, b"0123456789\n", b"")
    assert count.read_text() == "ran\nran\n"
    proxy.finish()


def test_black_hole(proxy, client, count):
    """Accepted, never run, never answered."""
    proxy.plan([Fault.black_hole()])
    channel = client.get_transport().open_session()
    channel.settimeout(0.2)
    channel.exec_command(add(count))
    with pytest.raises(TimeoutError):
        channel.recv(1)
    assert count.read_text() == ""
    proxy.finish()


def test_refuse(sshd, proxy):
    """A connection that is reset before the banner."""
    proxy.plan([Fault.refuse()])
    with pytest.raises((paramiko.SSHException, OSError, EOFError)), client_of(proxy, sshd.user_key):
        pytest.fail("connected")
    proxy.finish()
    with client_of(proxy, sshd.user_key) as client:
        assert run(client, "true")[0] == 0


def test_commands_at_once(client):
    """Commands of one connection run side by side."""
    results: list[tuple[int, bytes, bytes]] = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(run(client, f"echo {n}; exit {n}")))
        for n in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [(n, b"%d\n" % n, b"") for n in range(5)]


def test_another_key_is_not_let_in(proxy, tmp_path):
    """The proxy signs in for nobody else."""
    make_key(tmp_path / "other")
    with pytest.raises(paramiko.AuthenticationException), client_of(proxy, tmp_path / "other"):
        pytest.fail("let in")


def test_another_sshd_is_refused(sshd, tmp_path):
    """When the sshd shows another host key than it should, no command runs."""
    other = f"ecdsa-sha2-nistp256 {paramiko.ECDSAKey.generate().get_base64()}"
    with proxy_of(sshd, tmp_path, host_key=other) as proxy, client_of(proxy, sshd.user_key) as client:
        assert broken(client, "echo no")
        assert [one.status for one in proxy.exchanges] == [None]


def test_host_key_stays(sshd, tmp_path):
    """A restarted proxy is known to its clients."""
    assert proxy_of(sshd, tmp_path).host_key == proxy_of(sshd, tmp_path).host_key
