"""A hypervisor host of our own: libvirtd and its QEMUs in namespaces, so that one machine holds several.

    pytest ── unshare ── init (PID 1: host_init.py) ─┬─ libvirtd
       │                                             ├─ qemu-system-x86_64 (guest 1)
       └── libvirt connection over ROOT/run/*.sock   └─ qemu-system-x86_64 (guest 2)

PID namespace: killing init kills all of it at once, like a power cut; and orphans are reaped at once, where
the real PID 1 of a container may take 2 s, for which libvirt waits at every end of a QEMU.
Mount namespace: each host has its own /etc/libvirt, /run/libvirt and so on.
UTS namespace: libvirt refuses to migrate between two hosts of one name.
Network: shared, so each host has its own range of ports for migration.
"""

from __future__ import annotations

import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import libvirt

from .guest_image import CACHE
from .polling import locked, until

# libvirt prints every error to stderr besides raising it.
libvirt.registerErrorHandler(lambda _context, _error: None, None)

_INIT = Path(__file__).with_name("host_init.py")
_DIRECTORIES = ("etc/qemu", "run", "lib", "log", "cache")
_PROGRAMS = ("/usr/bin/qemu-system-x86_64", "/usr/sbin/libvirtd")
_CAPABILITIES = Path("cache/qemu/capabilities")
# Below the range that the kernel takes ports from for outgoing connections (32768).
_PORTS = range(20000, 32000, 16)

_QEMU_CONF = """\
# Any other user makes libvirt probe QEMU anew at every use (/dev/kvm is 0600): 64 s per defineXML.
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
# Equal VM names on two hosts would meet in one cgroup.
cgroup_controllers = []
namespaces = []
seccomp_sandbox = 0
max_core = 0
# Else a virtlogd would be needed.
stdio_handler = "file"
migration_port_min = {first}
migration_port_max = {last}
"""

_LIBVIRTD_CONF = """\
host_uuid = "{uuid}"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""

# libvirtd does not start without the user that it was compiled for, whatever qemu.conf says.
_USER = "libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin\n"
_GROUP = "libvirt-qemu:x:64055:\n"


class Host:
    """A private libvirtd that can crash like a host does. Needs root.

    Args:
        directory: holds the host's own directory; keep it short, sockets live below it (107 characters).
        name: hostname, unique among the hosts that shall migrate to each other.
    """

    migrate_uri = "tcp:127.0.0.1"  # libvirt adds a free port of the destination's range

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.root = directory / name
        self.uuid = str(uuid.uuid4())
        self.uri = f"qemu+unix:///system?socket={self.root}/run/libvirt-sock"
        self._namespaces: subprocess.Popen[bytes] | None = None
        self._init = 0
        self._connection: libvirt.virConnect | None = None
        self._write_files()

    def start(self) -> None:
        """Bring it up, after a crash like after a stop; a host that is up is fine."""
        if self._namespaces is None:
            # What a reboot takes away: sockets, pid files and the state of VMs that ran.
            shutil.rmtree(self.root / "run")
            (self.root / "run").mkdir()
            self._enter_namespaces()
        self.start_libvirtd()

    def stop(self) -> None:
        """Take it down with everything that runs on it; a host that is down is fine.

        Leaves its directory: what is on disk survives a host.
        """
        if self._namespaces is None:
            return
        self._disconnect()
        os.kill(self._init, signal.SIGKILL)
        # unshare waits for init, and the kernel lets init end after all others in its namespace.
        self._namespaces.wait(timeout=30)
        for pipe in (self._namespaces.stdin, self._namespaces.stdout):
            assert pipe
            pipe.close()
        self._namespaces = None

    crash = stop  # the same power cut; two names, because a test means one or the other

    def start_libvirtd(self) -> None:
        """Start libvirtd unless it runs, and wait until it answers."""
        if not self._libvirtd():
            self._run_inside("libvirtd", "-d", "-p", "/run/libvirt/libvirtd.pid")
        until(self._answers, 60, f"libvirtd of {self.name}; see {self.root}/log/libvirtd.log")
        self._share_capabilities()

    def kill_libvirtd(self) -> None:
        """Kill -9 libvirtd; the VMs run on."""
        self._disconnect()
        if pid := self._libvirtd():
            kill(pid)

    def connect(self) -> libvirt.virConnect:
        """Return a new connection, which the caller closes."""
        return libvirt.open(self.uri)

    @property
    def is_up(self) -> bool:
        """Whether it was started and has not crashed; its libvirtd may be dead all the same."""
        return self._namespaces is not None

    @property
    def connection(self) -> libvirt.virConnect:
        """The lab's own connection, made anew after libvirtd died."""
        if self._connection is None or not self._connection.isAlive():
            self._connection = self.connect()
        return self._connection

    def qemu_pid(self, name: str) -> int:
        """Return the pid of a VM's QEMU, as seen from here; 0 if it does not run."""
        return self._pid_outside(self.root / "run" / "qemu" / f"{name}.pid")

    def _write_files(self) -> None:
        for directory in _DIRECTORIES:
            (self.root / directory).mkdir(parents=True)
        first = random.choice(_PORTS)  # noqa: S311 - no secret; libvirt tries the next if one is taken
        conf = _QEMU_CONF.format(first=first, last=first + _PORTS.step - 1)
        (self.root / "etc" / "qemu.conf").write_text(conf)
        (self.root / "etc" / "libvirtd.conf").write_text(_LIBVIRTD_CONF.format(uuid=self.uuid))
        (self.root / "passwd").write_text(Path("/etc/passwd").read_text() + _USER)
        (self.root / "group").write_text(Path("/etc/group").read_text() + _GROUP)
        if (probed := _probed()).exists():
            shutil.copytree(probed, self.root / _CAPABILITIES)

    def _enter_namespaces(self) -> None:
        # The pipe on its stdin is the string on which the host's life hangs: it ends when we do.
        namespaces = ["unshare", "--mount", "--uts", "--pid", "--fork", "--propagation", "slave"]
        with (self.root / "log" / "init.log").open("ab") as log:
            self._namespaces = subprocess.Popen(
                [*namespaces, sys.executable, "-I", "-S", _INIT, self.root, self.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # ^C in a terminal is for pytest, which takes the host down in order
            )
        assert self._namespaces.stdout
        self._init = int(self._namespaces.stdout.readline() or 0)
        assert self._init, (self.root / "log" / "init.log").read_text()

    def _run_inside(self, *command: str) -> None:
        done = subprocess.run(
            ["nsenter", "-t", str(self._init), "--mount", "--uts", "--pid", *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    def _answers(self) -> bool:
        try:
            return bool(self.connection.getVersion())
        except libvirt.libvirtError:
            return False

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _libvirtd(self) -> int:
        return self._pid_outside(self.root / "run" / "libvirtd.pid")

    def _pid_outside(self, pid_file: Path) -> int:
        """Translate a pid file, which has the number inside the namespace; 0 if there is no such process."""
        try:
            inside = pid_file.read_text().strip()
        except FileNotFoundError:
            return 0
        ours = Path(f"/proc/{self._init}/ns/pid")
        for process in Path("/proc").glob("[0-9]*"):
            try:
                status = (process / "status").read_text()
                alive = not re.search(r"^State:\s+Z", status, re.MULTILINE)
                numbers = re.search(r"^NSpid:.*\s(\d+)$", status, re.MULTILINE)
                if alive and numbers and numbers[1] == inside and (process / "ns" / "pid").samefile(ours):
                    return int(process.name)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
        return 0

    def _share_capabilities(self) -> None:
        """Keep what libvirtd found out about QEMU for the hosts to come: it takes a second."""
        mine, probed = self.root / _CAPABILITIES, _probed()
        with locked(CACHE / "kvm-capabilities.lock"):
            if mine.exists() and not probed.exists():
                copy = Path(tempfile.mkdtemp(dir=CACHE))
                shutil.copytree(mine, copy, dirs_exist_ok=True)
                copy.rename(probed)


def _probed() -> Path:
    """Where the probe of these versions is kept; libvirt itself looks at these times, and probes again."""
    times = [int(Path(program).stat().st_ctime) for program in _PROGRAMS]
    return CACHE / f"kvm-capabilities-{times[0]}-{times[1]}"


def kill(pid: int) -> None:
    """Kill -9 a process and wait until it is dead."""
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        dead, _, _ = select.select([process], [], [], 30)
        assert dead, f"{pid} survives kill -9"
    finally:
        os.close(process)
