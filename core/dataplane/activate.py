"""Run a server on a socket that its parent already listens on, and let it die with the parent.

    python -I -S activate.py PARENT FD PROGRAM [ARGUMENT...]

Started as a script between us and qemu-nbd; it is 10 ms of Python and then *becomes* the server. It
exists because both of its acts need code that runs in the child, and `preexec_fn` is not safe in a
process with threads:

- systemd's socket activation wants the child's own pid in LISTEN_PID;
- PR_SET_PDEATHSIG: without it a kill -9 of us in the first 30 ms would leave a qemu-nbd that holds
  the image's lock for ever (it only counts clients that finished the handshake). SIGKILL and not
  SIGTERM: qemu-nbd forgets a SIGTERM that comes while it starts (it sets its state to "running" after
  the handler; 1 of 60 kills of a suite at that moment left a server). Nothing that was flushed is
  lost; QEMU orders its metadata so that a killed writer leaves unused clusters at worst.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
FIRST_FD = 3  # where the activation protocol expects the socket


def main() -> None:
    """Arrange the process as the server expects it and become the server."""
    parent, fd, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it died before the line above
        raise SystemExit(1)
    if int(fd) != FIRST_FD:
        os.dup2(int(fd), FIRST_FD)
        os.close(int(fd))
    os.set_inheritable(FIRST_FD, True)  # noqa: FBT003 - positional-only in os
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
    os.execvp(command[0], command)  # noqa: S606 - an argument list, no shell


if __name__ == "__main__":
    main()
