"""PID 1 of a host's namespaces: give it its own directories and name, reap what dies, end with its owner.

    unshare --mount --uts --pid --fork --propagation slave python -I -S host_init.py ROOT NAME

Prints its pid as seen from outside once the namespaces are ready. Ends when its standard input is closed,
that is when its owner is gone, however that died; the kernel then kills everything in the namespace.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

_PLACES = {
    "etc": "/etc/libvirt",
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
    "passwd": "/etc/passwd",
    "group": "/etc/group",
}


def main() -> None:
    """Arrange the namespaces, then reap until the owner is gone."""
    root, name = Path(sys.argv[1]), sys.argv[2]
    pid_outside = Path("/proc/self").readlink()  # before the next line: it is still the outer /proc
    _mount("-t", "proc", "proc", "/proc")
    _forget_foreign_loop_mounts(root)
    for own, place in _PLACES.items():
        if (root / own).is_dir():
            Path(place).mkdir(parents=True, exist_ok=True)
        _mount("--bind", str(root / own), place)
    socket.sethostname(name)
    signal.signal(signal.SIGCHLD, _reap)
    print(pid_outside, flush=True)  # noqa: T201 - the owner reads it
    sys.stdin.read()


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, timeout=10)


def _forget_foreign_loop_mounts(root: Path) -> None:
    """Let go of the loop devices of others: our copy of a mount would keep them busy while we live."""
    for line in Path("/proc/mounts").read_text().splitlines():
        device, place = line.split()[:2]
        if device.startswith("/dev/loop") and not place.startswith(f"{root.parent}/"):
            subprocess.run(["umount", "-l", place], check=False, timeout=10)


def _reap(*_: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    main()
