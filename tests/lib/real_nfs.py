"""A real NFS server, nfs-ganesha, on loopback: one export, NFSv3 and v4, without kernel and portmapper.

with RealNfs(home) as nfs:
    nfs.url(3)            nfs://127.0.0.1:…/…/export?version=3&mountport=…
    nfs.kill(); nfs.start()

libnfs ── ganesha.nfsd (FSAL VFS) ── home/export, which may be a mount of the test's own
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from kvm_lab.polling import until
from ports import free_ports

# Without a grace period a killed server takes new files at once; NFSv4's lease is the shortest it allows.
# Cached attributes would hide what a test does to the files behind the server's back.
_CONFIG = """\
NFS_CORE_PARAM {{
  Protocols = 3, 4; Bind_addr = 127.0.0.1; NFS_Port = {port}; MNT_Port = {mountport};
  Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false;
}}
NFSv4 {{
  Graceless = true; Lease_Lifetime = 10; Minor_Versions = 0; Only_Numeric_Owners = true;
  RecoveryBackend = fs; RecoveryRoot = "{home}/recovery";
}}
EXPORT {{
  Export_Id = 1; Path = "{export}"; Pseudo = "/archive"; Protocols = 3, 4; Transports = TCP; SecType = sys;
  Access_Type = RW; Squash = {squash}; Anonymous_uid = 65534; Anonymous_gid = 65534;
  PrivilegedPort = false; Attr_Expiration_Time = 0;
  FSAL {{ Name = VFS; }}
}}
LOG {{ Default_Log_Level = EVENT; }}
"""

# NFSv3 wants to tell its ports to the machine's portmapper, which is none of a test's: it hears that it did.
_SHIM = """\
#include <stdbool.h>
bool rpcb_set(unsigned long program, unsigned long version, const void *n, const void *a) { return true; }
bool rpcb_unset(unsigned long program, unsigned long version, const void *n) { return true; }
"""


class RealNfs:
    """The server; it may be killed and started again.

    Args:
        home: an empty directory, for configuration, log and export.
        squash: whether root is root there (No_Root_Squash), or nobody (Root_Squash).
    """

    def __init__(self, home: Path, *, squash: str = "No_Root_Squash") -> None:
        self.home = home
        self.export = home / "export"
        self.port, self._mountport = free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None
        self.export.mkdir()
        (home / "recovery").mkdir()
        known = {"port": self.port, "mountport": self._mountport, "home": home, "export": self.export}
        (home / "ganesha.conf").write_text(_CONFIG.format(squash=squash, **known))
        (home / "shim.c").write_text(_SHIM)
        command = ["gcc", "-shared", "-fPIC", "-o", str(home / "shim.so"), str(home / "shim.c")]
        subprocess.run(command, check=True, timeout=60)

    def url(self, version: int = 3, port: int | None = None) -> str:
        """Return the export's URL; `port` is that of a proxy in front."""
        place = f"nfs://127.0.0.1:{port or self.port}"
        if version == 4:
            return f"{place}/archive?version=4"
        return f"{place}{self.export}?version=3&mountport={self._mountport}"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        Path("/run/ganesha").mkdir(exist_ok=True)  # it keeps its own state there, and does not make it
        command = ["ganesha.nfsd", "-F", "-f", str(self.home / "ganesha.conf")]
        command += ["-L", str(self.home / "log"), "-p", str(self.home / "pid"), "-N", "NIV_EVENT"]
        with (self.home / "output").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"LD_PRELOAD": str(self.home / "shim.so"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            )
        until(self._answers, seconds=60, what="ganesha.nfsd")

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"ganesha.nfsd ended: {(self.home / 'log').read_text()[-2000:]}")
        with suppress(OSError):
            for port in (self.port, self._mountport):
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return True
        return False

    def stop(self) -> None:
        """Make it a server that is there and does not answer; a signal alone would still let it finish."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """`kill -9`."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait(10)

    def repair(self) -> None:
        """Start it if it was killed."""
        if self._process is None:
            self.start()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
