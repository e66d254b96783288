"""What the suite makes is written down first: after kill -9 `clean` removes just that."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bollard.cli.conformance import app
from bollard.core.pool import Pool, open_pool
from bollard.core.spi import Host, VolumeSpec
from bollard.simulators.process import SimulatorProcess
from bollard.transfer_objects.ids import HostId, SnapshotId, VolumeId
from bollard.transfer_objects.secret import Secret

MIB = 2**20
PASSWORD = "correct horse"
# Tables of the array that hold what hosts and volumes are; jobs and cached answers stay behind by design.
TABLES = ("pools", "volumes", "snapshots", "initiators", "groups", "members", "grants")


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A backend with foreign objects on it, and how to look at all that it holds."""

    config: Path
    inventory: Callable[[], object]


def _config(path: Path, driver: str, options: dict[str, str]) -> Path:
    lines = [f'driver = "{driver}"', "test_pool = true", "[options]"]
    path.write_text("\n".join([*lines, *(f"{k} = {json.dumps(v)}" for k, v in options.items())]))
    path.chmod(0o600)
    return path


def _foreign(pool: Pool) -> None:
    """Make what somebody else has in the pool: a volume, its snapshot, and on an array a grant."""
    web = pool.volumes.create(VolumeSpec(id=VolumeId("web"), size=MIB)).id
    pool.volumes.create(VolumeSpec(id=VolumeId("bct-0000-theirs"), size=MIB))
    pool.snapshots.create(web, SnapshotId("monday"))
    if pool.managed:
        host = Host(
            id=HostId("kvm-1"),
            name="kvm-1",
            iqn="iqn.2026-11.test:kvm-1",
            chap_user="kvm-1",
            chap_secret=Secret("0123456789abcdef"),
        )
        pool.volumes.grant(web, host)


def _rows(database: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        return {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}  # noqa: S608 - ours


@pytest.fixture(scope="module")
def array(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """An array in a process of its own, with foreign objects."""
    home = tmp_path_factory.mktemp("array")
    arguments = ("--state", str(home / "state"), "--pool", "gold=8G")
    with SimulatorProcess.start("array", *arguments, env={"BOLLARD_ARRAY_PASSWORD": PASSWORD}) as process:
        options = {
            "url": process.url,
            "ca": str(process.ready["ca"]),
            "username": str(process.ready["username"]),
            "password": PASSWORD,
            "pool": "gold",
        }
        with open_pool("p", "array", options) as pool:
            _foreign(pool)
        config = _config(home / "c.toml", "array", options)
        yield Backend(config=config, inventory=lambda: _rows(home / "state" / "array.db"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Backend:
    """A pool of qcow2 files, with foreign objects."""
    home = tmp_path_factory.mktemp("files")
    directory = home / "pool"
    directory.mkdir()
    with open_pool("p", "qcow2", {"path": str(directory)}) as pool:
        _foreign(pool)

    def inventory() -> object:
        found = {str(p.relative_to(directory)): p for p in directory.rglob("*")}
        # Lock files stay: removing one that somebody waits for would let two in.
        return {name: p.is_file() and p.read_bytes() for name, p in found.items() if "locks/" not in name}

    config = _config(home / "c.toml", "qcow2", {"path": str(directory)})
    return Backend(config=config, inventory=inventory)


def _intents(directory: Path) -> int:
    """Return how many intents a running suite has written."""
    return sum(line.count(b'"intend"') for path in directory.glob("*.jsonl") for line in [path.read_bytes()])


def _killed_at(backend: Backend, directory: Path, intents: int) -> str:
    """Run the suite, SIGKILL it when it has written so many intents, and return the run's id."""
    command = [sys.executable, "-m", "bollard", "conformance", "run", "--config", str(backend.config)]
    command += ["--ledger", str(directory), "--select", "snap or arc or clone or acl"]
    suite = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while _intents(directory) < intents and suite.poll() is None and time.monotonic() < deadline:
        os.sched_yield()
    suite.kill()
    suite.wait()
    [path] = directory.glob("*.jsonl")
    return path.stem


def _bollard(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)


def _clean(directory: Path, run: str, *arguments: str | Path) -> Result:
    return _bollard("clean", "--run", run, "--ledger", directory, *arguments)


@pytest.mark.parametrize("seed", [pytest.param(n, marks=[pytest.mark.slow] * (n > 1)) for n in range(1, 6)])
@pytest.mark.parametrize("name", ["array", pytest.param("files", marks=pytest.mark.real)])
def test_killed_run_is_cleaned(request: pytest.FixtureRequest, tmp_path: Path, name: str, seed: int) -> None:
    """Killed at any moment, a run is removed by its ledger alone, and foreign objects stay as they were."""
    backend: Backend = request.getfixturevalue(name)
    before = backend.inventory()
    run = _killed_at(backend, tmp_path, random.Random(f"{name}{seed}").randint(1, 40))  # noqa: S311 - a seed

    planned = json.loads(_clean(tmp_path, run, "--dry-run", "--json").stdout)
    assert planned
    assert backend.inventory() != before or len(planned) == 1
    done = _clean(tmp_path, run, "--json")

    assert done.exit_code == 0, done.output
    assert [one["problem"] for one in json.loads(done.stdout)] == [""] * len(planned)
    assert backend.inventory() == before
    assert list(tmp_path.iterdir()) == []
    assert _clean(tmp_path, run).exit_code == 0
