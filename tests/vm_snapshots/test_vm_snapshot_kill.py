"""A management server that is killed with -9, in a process of its own: the kernel frees its lock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bollard.core.vm_snapshots.states import ACTIVE
from vm_cloud import VM, SimulatedCloud, call

pytest_plugins = ["catalog_fixture"]

LIB = Path(__file__).parents[1] / "lib"


def run(cloud: SimulatedCloud, what: str, name: str, at: int) -> int:
    """Let a child do it; returns how it ended."""
    plan = {
        "directory": str(cloud.directory),
        "url": cloud.cluster.url,
        "catalog": cloud.catalog_url,
        "disks": [(one.volume, one.device) for one in cloud.volumes],
        "what": what,
        "name": name,
        "at": at,
    }
    line = [sys.executable, "-m", "vm_kill", json.dumps(plan)]
    env = {**os.environ, "PYTHONPATH": str(LIB)}
    return subprocess.run(line, env=env, timeout=60, capture_output=True).returncode


@pytest.mark.slow
@pytest.mark.parametrize("at", [2, 5, 7, 8, 10, 13])
def test_what_a_killed_process_leaves_is_ended_by_the_next(tmp_path, at, catalog_url):
    """Take, revert and delete, each killed at some step: nothing is under way or frozen, nothing is left."""
    with SimulatedCloud(tmp_path, catalog_url=catalog_url) as cloud:
        for what in ("take", "revert", "delete"):
            cloud.start()
            cloud.write(f"before-{what}", "x", 0)
            cloud.write(f"before-{what}", "x", 1)
            if what != "take":
                cloud.take(what)
            ended = run(cloud, what, what, at)
            assert ended in (-signal.SIGKILL, 0)
            cloud.sync.all(call())
            assert not [one for one in cloud.records.of_vm(VM) if one.state in ACTIVE]
            cloud.start()
            assert not cloud.frozen()
            assert set(cloud.read(0)) == set(cloud.read(1))
            assert f"before-{what}" in cloud.read(0)
            for one in cloud.manager.list(VM):
                cloud.delete(one.id)
            assert cloud.files() == []
