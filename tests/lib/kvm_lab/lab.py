"""All that one test session has: a directory, hosts, and the template of its guests."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import uuid
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from .guest_image import CACHE
from .guests import Template
from .host import Host
from .polling import locked

_PREFIX = "bollard-kvm-"
_LABS = CACHE / "kvm-labs.lock"


class Lab:
    """A place for hosts and their guests; leaving it takes all of them down and leaves nothing behind.

    Attributes:
        directory: a mount of its own; what is mounted below it later (a small file system that shall run
            full, say) is seen by all hosts, other mounts are not.
    """

    def __enter__(self) -> Self:
        """Make the directory, and remove those of sessions that were killed."""
        self._hosts: list[Host] = []
        with locked(_LABS):
            _sweep()
            self.directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
            self._owner = (self.directory / "owner.lock").open("w")
            fcntl.flock(self._owner, fcntl.LOCK_EX)
        # Shared, so that later mounts reach the hosts, whose copies are slaves of this one.
        _run("mount", "--bind", self.directory, self.directory)
        _run("mount", "--make-shared", self.directory)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Crash all hosts and remove the directory."""
        for host in self._hosts:
            host.stop()
        with locked(_LABS):  # nobody sweeps what is half gone
            self._owner.close()
            _remove(self.directory)

    def host(self, name: str) -> Host:
        """Start another host."""
        host = Host(self.directory, name)
        self._hosts.append(host)
        host.start()
        return host

    @property
    def hosts(self) -> list[Host]:
        """The hosts that are up."""
        return [host for host in self._hosts if host.is_up]

    @cached_property
    def template(self) -> Template:
        """The guest that clones are made from, booted at the first use."""
        host = next(iter(self.hosts), None) or self.host("template")
        return Template(host, self.directory)

    def new_directory(self, size: int = 0) -> Path:
        """Return an empty directory that all hosts see; with a size, a file system that can run full."""
        path = self.directory / uuid.uuid4().hex[:8]
        path.mkdir()
        if size:
            image = path.with_suffix(".img")
            with image.open("xb") as file:
                file.truncate(size)
            _run("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", image)
            _run("mount", "-o", "loop", image, path)
        return path


def _sweep() -> None:
    """Remove what killed sessions left; their hosts died with them."""
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if _has_no_owner(directory):
            _remove(directory)


def _has_no_owner(directory: Path) -> bool:
    with (directory / "owner.lock").open("w") as owner:
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _remove(directory: Path) -> None:
    if any(line.split()[1] == str(directory) for line in Path("/proc/mounts").read_text().splitlines()):
        _run("umount", "--recursive", directory)
    shutil.rmtree(directory)


def _run(*command: str | Path) -> None:
    # Debian keeps these tools where an ordinary PATH does not look.
    environment = os.environ | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
