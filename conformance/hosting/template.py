"""The template of driver hosts: `python -m bollard.conformance.hosting.template --fd N`.

    suite ── load ──────────────> template    imports the driver's class, and looks whether it may fork
          ── fork, 2 files ─────> template ──> driver host (server.py): session, directory, output, log
          ── reap ──────────────> template    how a dead host ended: only a parent is told

A driver's import takes most of a host's start, and a crash check starts a host for each external call.
The template has one thread and holds nothing, so what is forked from it is like what was spawned. It
ends when the suite hangs up; its hosts have their own sockets, and end for themselves.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import logging
import os
import random
import socket
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .resources import Resources
from .server import load_class, log_with, prepare, serve

LONGEST = 64 * 1024
"""Bytes of one message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """What a forked host serves: a socket to the suite, and where its log records go."""

    sock: int
    log: Path


class Template:
    """One driver class, loaded, of which no instance is ever made here.

    Args:
        sock: to the suite.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.cls: Any = None
        self._sock = sock
        self._generators: list[random.Random] = []
        self._imported = io.StringIO()
        self._handler = logging.StreamHandler(self._imported)
        log_with(self._handler)

    def run(self) -> Birth | None:
        """Serve; returns None when the suite hangs up, and in each forked host what it was given."""
        while True:
            data, fds, _, _ = socket.recv_fds(self._sock, LONGEST, 2, socket.MSG_CMSG_CLOEXEC)
            if not data:
                return None
            request = json.loads(data)
            match request["op"]:
                case "load":
                    answer: object = self._load(request["target"], request["path"])
                case "fork":
                    answer = os.fork()
                    if not answer:
                        return self._born(request, fds)
                case _:
                    answer = os.waitstatus_to_exitcode(os.waitpid(request["pid"], 0)[1])
            for fd in fds:
                os.close(fd)
            self._sock.send(json.dumps(answer).encode())

    def _load(self, target: str, path: list[str]) -> str:
        """Import the class; returns why this process must not be forked, or ""."""
        before = Resources.of(os.getpid())
        try:
            self.cls = load_class(target, path)
        except BaseException as error:  # noqa: BLE001 - a host that is spawned fails in the same way, and tells
            return f"its import raised {type(error).__name__}"
        gc.collect()  # what only a cycle keeps open is closed by now
        words = [f"its import left {left}" for left in Resources.of(os.getpid()).since(before).values()]
        words += ["its import wrote to TMPDIR" for _ in Path(os.environ["TMPDIR"]).iterdir()]
        self._generators = [found for found in gc.get_objects() if isinstance(found, random.Random)]
        # What is here stays: no host has to look through it for garbage, or copies its pages for that.
        gc.freeze()
        return "; ".join(words[:3])

    def _born(self, request: Mapping[str, Any], fds: list[int]) -> Birth:
        """Become a process that could have been spawned."""
        self._sock.close()
        os.setsid()
        threading.main_thread()._set_native_id()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
        os.environ |= request["environ"]
        for generator in self._generators:  # Python sees to the one of its module only
            generator.seed()
        tempfile.tempdir = None  # was found in the environment of the template
        sock, output = fds
        birth = Birth(sock=sock, log=Path(request["log"]))
        self._repeat_import(output, birth.log)
        return birth

    def _repeat_import(self, output: int, log: Path) -> None:
        """Write what the import printed and logged to where this host would have written it."""
        printed = os.pread(1, os.fstat(1).st_size, 0)
        for standard in (1, 2):
            os.dup2(output, standard)
        os.close(output)
        os.write(1, printed)
        logging.root.removeHandler(self._handler)
        with log.open("a", encoding="utf-8") as file:
            file.write(self._imported.getvalue())


def main() -> None:
    """Serve one suite, or be one of the hosts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    given = parser.parse_args()
    prepare(given.fd)
    template = Template(socket.socket(fileno=given.fd))
    if (birth := template.run()) is not None:
        serve(birth.sock, birth.log, template.cls)


if __name__ == "__main__":
    main()
