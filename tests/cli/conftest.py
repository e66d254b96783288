"""The real command line, in this process or in one of its own, over a pool of files and an NFS store."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bollard import cli


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON document and nothing else."""
        return json.loads(self.out)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A directory with a configuration, a pool, a second one and a store, and nothing of this machine's."""
    for name in ("pool", "other", "store"):
        (tmp_path / name).mkdir()
    config = tmp_path / "bollard.toml"
    config.write_text(
        f"""
        [pools.files]
        driver = "qcow2"
        options = {{ path = "{tmp_path}/pool" }}
        [pools.ssd-1]
        driver = "qcow2"
        options = {{ path = "{tmp_path}/other" }}
        [stores.nightly]
        driver = "nfs"
        options = {{ path = "{tmp_path}/store" }}
        [default]
        pool = "files"
        """
    )
    config.chmod(0o600)
    monkeypatch.setenv("BOLLARD_CONFIG", str(config))
    monkeypatch.setenv("BOLLARD_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def bollard(home, monkeypatch, capfd) -> Iterator[Callable[..., Done]]:
    """Run a command line to its end: `bollard("pool", "list", "--json")`."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["bollard", *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        return Done(code, *capfd.readouterr())

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def write(home, images) -> Callable[..., None]:
    """Write bytes into a volume of the first pool, as a guest would: `write("vol-1", "0x5a", "1M")`."""

    def do(volume: str, pattern: str = "0x5a", offset: str = "1M") -> None:
        image = home / "pool" / "volumes" / f"{volume}.qcow2"
        images.qemu_io(image, "qcow2", f"write -P {pattern} {offset} 64k")

    return do


@pytest.fixture
def vol_1(bollard, write) -> str:
    """A volume of 64 MiB with 64 KiB of data."""
    assert bollard("pool", "create", "vol-1", "64MiB", "--name", "web").code == 0
    write("vol-1")
    return "vol-1"
