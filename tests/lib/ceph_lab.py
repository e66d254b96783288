"""A real Ceph on loopback: one monitor and one OSD that keeps everything in memory; no manager, cephx on.

    with CephLab(home) as ceph:
        ceph.monitors       what goes into mon_host
        ceph.key            of client.admin
        ceph.ceph(...)      the administrator's command, parsed
        ceph.rbd(...)       the administrator's rbd
        ceph.pids           of the daemons, by program

Starts in 2-4 s. Needs no root, and leaves nothing: the daemons are children that die with this process.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kvm_lab.polling import until
from ports import free_port

POOL = "rbd"
_CONF = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{port}/0
mon initial members = a
public network = 127.0.0.0/8
ms bind ipv6 = false
ms bind msgr1 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {home}/$name.keyring
admin socket = {home}/$name.asok
run dir = {home}
crash dir = {home}
log file = {home}/$name.log
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon allow pool delete = true
mon warn on pool no redundancy = false
mon data avail warn = 1
mon data avail crit = 1
[mon]
# The defaults let each change of a map wait for a second.
paxos propose interval = 0.02
paxos min wait = 0.01
mon election timeout = 1
mon osd min up ratio = 0
mon data = {home}/mon
mon cluster log file = /dev/null
[osd]
osd data = {home}/osd
osd objectstore = memstore
memstore device bytes = {size}
osd op num shards = 2
osd scrub min interval = 1000000000
"""


class CephLab:
    """The cluster.

    Args:
        home: its directory; the path may have at most some 70 bytes, because sockets lie in it.
        size: bytes that the OSD can take.
    """

    def __init__(self, home: Path, *, size: int = 8 << 30) -> None:
        self._home = home
        self._port = free_port()
        self._conf = home / "ceph.conf"
        self._size = size
        self._stack = ExitStack()
        self.monitors = f"v2:127.0.0.1:{self._port}/0"
        self.key = ""
        self.pids: dict[str, int] = {}

    def __enter__(self) -> Self:
        with self._stack:
            self._stack.callback(shutil.rmtree, self._home, ignore_errors=True)
            self._start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def ceph(self, *words: str, stdin: str = "") -> Any:
        """Run the administrator's command and return its JSON, or what it printed."""
        said = self._run("ceph", "-f", "json", *words, stdin=stdin)
        try:
            return json.JSONDecoder().raw_decode(said.strip())[0]
        except ValueError:
            return said

    def rbd(self, *words: str) -> str:
        """Run the administrator's rbd and return what it printed."""
        return self._run("rbd", *words)

    def rados(self, *words: str) -> str:
        """Run the administrator's rados in the pool and return what it printed."""
        return self._run("rados", "-p", POOL, *words)

    def fill(self, size: int) -> None:
        """Put two objects of others' into the pool, `size` bytes together."""
        half = self._home / "half"
        half.write_bytes(os.urandom(size // 2))
        for number in range(2):
            self.rados("put", f"half-{number}", str(half))

    def objects(self) -> set[str]:
        """Return the objects of the pool, without those that belong to the pool itself."""
        names = set(self.rados("ls").split())
        return names - {"rbd_info", "rbd_directory", "rbd_trash", "rbd_children"}

    def _start(self) -> None:
        for name in ("mon", "osd"):
            (self._home / name).mkdir(parents=True)
        fsid = str(uuid.uuid4())
        conf = _CONF.format(fsid=fsid, port=self._port, home=self._home, size=self._size)
        self._conf.write_text(conf)
        self._make_keys()
        self._make_monitor(fsid)
        self._daemon("ceph-mon", "-i", "a")
        self._make_osd()
        self._daemon("ceph-osd", "-i", "0")
        until(lambda: self.ceph("osd", "stat")["num_up_osds"], 60, "the OSD")
        self.ceph("osd", "pool", "create", POOL, "8", "8")
        self.ceph("osd", "pool", "application", "enable", POOL, "rbd")

    def _make_keys(self) -> None:
        admin, monitor = self._home / "client.admin.keyring", self._home / "mon.a.keyring"
        everything = [word for who in ("mon", "osd", "mgr") for word in ("--cap", who, "allow *")]
        self._run(
            "ceph-authtool", "--create-keyring", str(admin), "--gen-key", "-n", "client.admin", *everything
        )
        self._run(
            "ceph-authtool", "--create-keyring", str(monitor), "--gen-key", "-n", "mon.", *everything[:3]
        )
        self._run("ceph-authtool", str(monitor), "--import-keyring", str(admin))
        self.key = self._run("ceph-authtool", str(admin), "--print-key").strip()

    def _make_monitor(self, fsid: str) -> None:
        monmap, keyring = str(self._home / "monmap"), str(self._home / "mon.a.keyring")
        self._run("monmaptool", "--create", "--addv", "a", self.monitors, "--fsid", fsid, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        shutil.copy(keyring, self._home / "mon" / "keyring")

    def _make_osd(self) -> None:
        number, secret = str(uuid.uuid4()), self._run("ceph-authtool", "--gen-print-key").strip()
        self.ceph("osd", "new", number, "-i", "-", stdin=json.dumps({"cephx_secret": secret}))
        (self._home / "osd.0.keyring").write_text(f"[osd.0]\n\tkey = {secret}\n")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", number)

    def _daemon(self, *command: str) -> None:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *self._with_conf(command), "-f"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.pids[command[0]] = process.pid
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)

    def _with_conf(self, command: tuple[str, ...]) -> list[str]:
        return [command[0], "-c", str(self._conf), *command[1:]]

    def _run(self, *command: str, stdin: str = "") -> str:
        plain = command[0] in ("ceph-authtool", "monmaptool")
        done = subprocess.run(
            list(command) if plain else self._with_conf(command),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "CEPH_ARGS": ""},
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout


@contextmanager
def ceph_lab(**more: Any) -> Iterator[CephLab]:
    """A cluster in a directory with a short name."""
    home = Path("/tmp") / f"bollard-ceph-{os.getpid()}-{uuid.uuid4().hex[:6]}"  # noqa: S108 - random, and ours
    with CephLab(home, **more) as lab:
        yield lab
