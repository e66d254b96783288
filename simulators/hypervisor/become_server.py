"""Run a server on a socket that the simulator already listens on, and let it die with the simulator.

    python -I -S become_server.py PARENT FD PROGRAM [ARGUMENT...]

It is a script of its own, since its acts need code in the child, and `preexec_fn` is not safe with threads:
socket activation wants the child's own pid, and PR_SET_PDEATHSIG ends it with a simulator that is killed.
SIGKILL, since qemu-nbd forgets a SIGTERM that comes while it starts; it only reads, so nothing is lost.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_FIRST_FD = 3  # where the activation protocol expects the socket


def main() -> None:
    """Arranges the process as the server expects it, and becomes the server."""
    parent, fd, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it died before the line above
        raise SystemExit(1)
    if int(fd) != _FIRST_FD:
        os.dup2(int(fd), _FIRST_FD)
        os.close(int(fd))
    os.set_inheritable(_FIRST_FD, True)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
    os.execvp(command[0], command)  # noqa: S606 - an argument list, no shell


if __name__ == "__main__":
    main()
