"""Pools in both formats, a VM that has an image open, and a qemu-img that waits."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bollard.drivers.primary.qcow2 import Qcow2Driver
from qcow2_rig import opened, until


@pytest.fixture(params=["qcow2", "raw"])
def image_format(request) -> str:
    """Both formats."""
    return str(request.param)


@pytest.fixture
def driver(tmp_path: Path, image_format: str) -> Iterator[Qcow2Driver]:
    """An open driver on an empty pool."""
    made = opened(tmp_path, image_format)
    yield made
    made.close()


@pytest.fixture
def serve(tmp_path_factory) -> Iterator[Callable[..., None]]:
    """Start a qemu-nbd on an image, as a running VM or an archive reader would open it."""
    running = []

    def start(path: Path, image_format: str, *arguments: str) -> None:
        socket_path = tmp_path_factory.mktemp("nbd") / "s"
        command = ["qemu-nbd", "-t", "-k", str(socket_path), "-f", image_format, *arguments, str(path)]
        running.append(subprocess.Popen(command))
        until(lambda: running[-1].poll() is not None or _answers(socket_path))
        assert running[-1].poll() is None, "qemu-nbd has ended"

    yield start
    for process in running:
        process.terminate()
        process.wait(10)


def _answers(path: Path) -> bool:
    """Whether the server greets: it listens before it has opened, and locked, the image."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(10)
        return probe.connect_ex(str(path)) == 0 and probe.recv(8) == b"NBDMAGIC"


@pytest.fixture
def slow_qemu_img(tmp_path_factory, monkeypatch) -> Path:
    """Put a qemu-img on the PATH that says it has started and then waits for a file before it works."""
    place = tmp_path_factory.mktemp("bin")
    real = subprocess.run(["which", "qemu-img"], capture_output=True, text=True, check=True).stdout.strip()
    program = place / "qemu-img"
    program.write_text(
        "#!/bin/sh\n"
        f'echo $$ > "{place}/pid.new" && mv "{place}/pid.new" "{place}/pid"\n'
        f'while [ ! -e "{place}/go" ]; do sleep 0.02; done\n'
        f'exec {real} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    return place
