"""Killed in the midst of a task; the server is started again, and nobody orders anything."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from api_process import ApiProcess
from bollard.cli.recovering import recovering
from bollard.core.catalog import Catalog
from bollard.core.catalog.volumes import VolumeRecord
from bollard.core.config import load_config
from bollard.core.service.recovery import open_services
from bollard.core.service.volumes_records import NewVolume
from bollard.core.site import Site
from bollard.simulators.management import ManagementSimulator
from bollard.transfer_objects.ids import VolumeId

MIB = 2**20
SOON = 60.0

# An orchestrator that is killed when the pool has the volume and the records do not know it yet.
VICTIM = """
import os, sys, time
from bollard.core.config import load_config
from bollard.core.pool import Pool
from bollard.core.service.recovery import open_services
from bollard.core.service.volumes_records import NewVolume
from bollard.core.site import Site
from bollard.core.spi import Call
from bollard.drivers.primary.qcow2 import Qcow2Driver

real = Qcow2Driver.create_volume

def create(*args, **kwargs):
    real(*args, **kwargs)
    print("midst", flush=True)
    time.sleep(600)

Qcow2Driver.create_volume = create
with Site(load_config()) as site, open_services(site) as services:
    services.volumes.create(NewVolume(id="vol-1", pool="files", size=64 * 2**20), Call.within(60))
"""


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A machine with a pool of files, one that hangs, and a catalog."""
    (tmp_path / "pool").mkdir()
    config = tmp_path / "bollard.toml"
    config.write_text(
        f"""
        [pools.files]
        driver = "qcow2"
        options = {{ path = "{tmp_path}/pool" }}
        [pools.away]
        driver = "qcow2"
        options = {{ path = "{tmp_path}/away" }}
        [catalog]
        url = "sqlite:///{tmp_path}/catalog.db"
        """
    )
    config.chmod(0o600)
    monkeypatch.setenv("BOLLARD_CONFIG", str(config))
    monkeypatch.setenv("BOLLARD_STATE", str(tmp_path / "state"))
    return tmp_path


def _killed_in_the_midst(home: Path) -> None:
    victim = subprocess.Popen([sys.executable, "-c", VICTIM], stdout=subprocess.PIPE, text=True)
    with victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "midst\n"
        victim.kill()
    assert _state(home) == "Creating"


def _left_on(pool: str, volume: str) -> None:
    """Write down what a process does that begins to create a volume, and ends."""
    with Site(load_config()) as site, open_services(site) as services:
        services.volumes.records.creating(NewVolume(id=VolumeId(volume), pool=pool, size=64 * MIB))


def _state(home: Path, volume: str = "vol-1") -> str:
    catalog = Catalog(f"sqlite:///{home}/catalog.db")
    try:
        with catalog.reading() as session:
            return str(session.get_one(VolumeRecord, volume).state)
    finally:
        catalog.close()


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def _agent(home: Path) -> Iterator[None]:
    """An agent that a management server has taken."""
    with ManagementSimulator(home / "management") as management:
        files = management.agent_files
        command = [sys.executable, "-m", "bollard", "agent", "--connect", f"127.0.0.1:{management.port}"]
        command += ["--certificate", str(files.certificate), "--key", str(files.key)]
        command += ["--authority", str(files.authority)]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=dict(os.environ))
        try:
            management.wait_for("startup", SOON)
            yield
            child.terminate()
            assert child.wait(SOON) == 0
        finally:
            child.kill()
            child.wait()


@contextmanager
def _api(home: Path) -> Iterator[ApiProcess]:
    server = ApiProcess(home, f"sqlite:///{home}/catalog.db")
    try:
        yield server
    finally:
        server.kill()


def test_an_agent_that_starts_ends_what_was_left(home):
    """Killed in the midst of a creation, the volume is Ready as soon as an agent has started."""
    _killed_in_the_midst(home)
    with _agent(home):
        _until(lambda: _state(home) == "Ready")


def test_no_sync_means_none(home):
    """A server that is told --no-sync has nothing that syncs."""
    with Site(load_config()) as site, recovering(site, wanted=False, every=1.0) as recovery:
        assert recovery is None


@pytest.mark.slow
def test_a_server_ends_what_it_can_and_the_rest_when_its_backend_is_back(home):
    """The API's health tells of a pool that is away; what waits for it ends when it is there again."""
    _killed_in_the_midst(home)
    _left_on("away", "vol-2")
    with _api(home) as server:
        _until(lambda: server.client.get("/health").json()["sync"]["rounds"] > 0)
        told = server.client.get("/health").json()["sync"]
        assert (told["ended"], told["waiting"]) == (1, 1)
        assert (_state(home), _state(home, "vol-2")) == ("Ready", "Creating")
        (home / "away").mkdir()
        _until(lambda: server.client.get("/health").json()["sync"]["waiting"] == 0)
        assert _state(home, "vol-2") == "Error"  # its pool has never had it
        assert server.terminate() == 0
    said = (home / "api.log").read_text()
    assert "volume vol-1" in said
    assert "cannot be ended now" in said


@pytest.mark.slow
def test_a_backend_that_hangs_delays_neither_listening_nor_others_nor_the_end(home):
    """An array that takes connections and never answers: the other pool's volume rests, SIGTERM works."""
    with socket.create_server(("127.0.0.1", 0)) as silent, load_config().path.open("a") as config:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        options = f'{{ url = "{url}", username = "u", password = "p", pool = "x" }}'
        config.write(f'\n[pools.hangs]\ndriver = "array"\noptions = {options}\n')
        config.flush()
        _left_on("hangs", "vol-0")
        _killed_in_the_midst(home)
        with _api(home) as server:
            _until(lambda: _state(home) == "Ready")
            assert server.client.get("/health").json()["sync"]["running"]
            assert server.terminate() == 0
    assert _state(home, "vol-0") == "Creating"
