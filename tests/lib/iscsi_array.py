"""A real iSCSI array on loopback: tgtd, a reflink XFS on a loop device, and an sshd of its own.

    with IscsiArray(home) as array:
        array.pool          XFS with reflink, mounted
        array.portal        where tgtd serves, 127.0.0.1 and a free port
        array.socket        tgtd's control socket
        array.ssh           (host, port, client key, host key) of an sshd that serves nobody else

Needs root, and leaves nothing: processes end by their pid, file system and loop device go.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from kvm_lab.polling import until
from ports import free_port

MIB = 2**20
GIB = 2**30
_SBIN = os.environ["PATH"] + ":/usr/sbin:/sbin"
_SSHD_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {home}/host_key
AuthorizedKeysFile {home}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
MaxSessions 100
# An interactive root shell may load anything from .bashrc; bash skips it where it is no login's first.
SetEnv SHLVL=2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SshDoor:
    """How to get in."""

    host: str
    port: int
    key: Path
    host_key: str


def run(*command: str | Path) -> str:
    """Run a command that must succeed, and return what it prints."""
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, "PATH": _SBIN},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{command[0]}: {done.stderr}"
    return done.stdout


class IscsiArray:
    """The machine; `home` must be on a file system that takes sparse files."""

    def __init__(self, home: Path, *, size: int = 2 * GIB) -> None:
        self._home = home
        self._size = size
        self._stack = ExitStack()
        self._sshd: subprocess.Popen[bytes] | None = None
        self._tgtd: subprocess.Popen[bytes] | None = None
        self.pool = home / "pool"
        self.portal = ("127.0.0.1", free_port())
        self._ssh_port = free_port()

    def __enter__(self) -> Self:
        try:
            self._mount()
            self._make_keys()
            # Of its own: a unix socket's path has at most 107 bytes, and pytest's directories are long.
            sockets = Path(tempfile.mkdtemp(prefix="tgt-"))
            self._stack.callback(shutil.rmtree, sockets)
            self.socket = sockets / "control"
            self.start_tgtd()
            self._stack.callback(self.stop_tgtd)
            self.start_sshd()
            self._stack.callback(self.stop_sshd)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # -- disk ------------------------------------------------------------------------------------------

    def _mount(self) -> None:
        image = self._home / "pool.img"
        with image.open("xb") as file:
            file.truncate(self._size)
        self._stack.callback(image.unlink)
        run("mkfs.xfs", "-q", "-f", "-m", "reflink=1,crc=1", image)
        self.pool.mkdir()
        # mount makes the loop device, and the kernel frees it with the last umount, also after a crash.
        run("mount", "-o", "loop,discard,noatime", image, self.pool)
        self._stack.callback(self._unmount)

    def _unmount(self) -> None:
        until(self._unmounted, 60, "the pool to be idle")

    def _unmounted(self) -> bool:
        """An agent that a test left in the middle of its work may live for a moment."""
        command = ["umount", str(self.pool)]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0

    # -- tgtd ------------------------------------------------------------------------------------------

    @property
    def tgtd_pid(self) -> int:
        """The pid of tgtd."""
        assert self._tgtd
        return self._tgtd.pid

    def start_tgtd(self) -> None:
        """Start it, without a target."""
        host, port = self.portal
        environment = {**os.environ, "PATH": _SBIN, "TGT_IPC_SOCKET": str(self.socket)}
        with (self._home / "tgtd.log").open("ab") as log:
            self._tgtd = subprocess.Popen(
                ["tgtd", "-f", "-C", "0", "-t", "2", "--iscsi", f"portal={host}:{port}"],
                env=environment,
                stdout=log,
                stderr=log,
            )
        until(lambda: _listens(self.portal), 60, "tgtd to serve")

    def stop_tgtd(self) -> None:
        """End it with SIGKILL: it ignores SIGTERM while it has targets."""
        if self._tgtd:
            self._tgtd.send_signal(signal.SIGCONT)
            self._tgtd.kill()
            self._tgtd.wait(10)
            self._tgtd = None

    def tgtadm(self, *arguments: str | Path) -> str:
        """Run tgtadm as the array's administrator."""
        environment = {**os.environ, "PATH": _SBIN, "TGT_IPC_SOCKET": str(self.socket)}
        command = ["tgtadm", "--lld", "iscsi", *map(str, arguments)]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout

    # -- sshd ------------------------------------------------------------------------------------------

    def _make_keys(self) -> None:
        for name in ("host_key", "client_key", "other_key"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self._home / name)
        shutil.copy(self._home / "client_key.pub", self._home / "authorized_keys")
        config = _SSHD_CONFIG.format(port=self._ssh_port, home=self._home)
        (self._home / "sshd_config").write_text(config)
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it locks up what needs no rights

    @property
    def ssh(self) -> SshDoor:
        """How to get in."""
        host_key = " ".join((self._home / "host_key.pub").read_text().split()[:2])
        return SshDoor(
            host="127.0.0.1", port=self._ssh_port, key=self._home / "client_key", host_key=host_key
        )

    @property
    def strange_key(self) -> Path:
        """A key that opens nothing."""
        return self._home / "other_key"

    @property
    def sshd_pid(self) -> int:
        """The pid of the listening sshd."""
        assert self._sshd
        return self._sshd.pid

    def start_sshd(self) -> None:
        """Start it; it says who it is with its host key."""
        sshd = shutil.which("sshd", path=_SBIN)
        assert sshd
        with (self._home / "sshd.log").open("ab") as log:
            self._sshd = subprocess.Popen(
                [sshd, "-D", "-e", "-f", str(self._home / "sshd_config")],
                stdout=log,
                stderr=log,
            )
        until(lambda: _listens(("127.0.0.1", self._ssh_port)), 60, "sshd to serve")

    def stop_sshd(self) -> None:
        """End it, and the connections that it serves."""
        if self._sshd:
            for pid in [*self.connections(), self._sshd.pid]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
                    os.kill(pid, signal.SIGKILL)
            self._sshd.wait(10)
            self._sshd = None

    def connections(self) -> list[int]:
        """Return the pids of the sshd processes that serve a connection each."""
        children = Path(f"/proc/{self.sshd_pid}/task/{self.sshd_pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def change_host_key(self) -> None:
        """Let another machine answer at the address."""
        self.stop_sshd()
        (self._home / "host_key").unlink()
        (self._home / "host_key.pub").unlink()
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self._home / "host_key")
        self.start_sshd()


def _listens(address: tuple[str, int]) -> bool:
    with suppress(OSError), socket.create_connection(address, timeout=1):
        return True
    return False
