"""Orchestrators that work on the same volumes at the same time: real processes, one of which is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from bollard.transfer_objects.ids import VolumeId
from volume_site import H1, Process, Site, call

pytest_plugins = ["catalog_fixture"]

LIB = Path(__file__).parents[1] / "lib"
ROUNDS = 36


@pytest.fixture
def site(tmp_path, catalog_url) -> Iterator[Site]:
    """An array, a cluster with a host and a VM, and a catalog."""
    with Site(tmp_path, catalog_url) as opened:
        yield opened


def racer(site: Site, seed: int) -> subprocess.Popen[str]:
    """Start one."""
    command = [sys.executable, "-m", "volume_racer", json.dumps(asdict(site.place)), str(seed), str(ROUNDS)]
    env = {**os.environ, "PYTHONPATH": str(LIB)}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def settle(process: Process) -> None:
    """What a sync does with volumes."""
    for work in process.works.left():
        claimed = process.works.claim(work.kind, work.object)
        assert claimed is not None
        process.volumes.settle(claimed, call())


@pytest.mark.slow
def test_racing_orchestrators_agree_with_the_array(site):
    """No volume twice, no LUN and no grant that no record has, also of the one that was killed with -9."""
    racers = [racer(site, seed) for seed in (1, 2, 3)]
    victim = racers[0]
    assert victim.stdout
    for _ in range(ROUNDS // 2):
        assert victim.stdout.readline()
    victim.kill()
    said = [process.communicate(timeout=200)[0] for process in racers]

    assert [process.returncode for process in racers[1:]] == [0, 0]
    done = [line for text in said for line in text.splitlines() if line.endswith(" done")]
    assert {line.split()[0] for line in done} >= {"create", "attach"}
    survivor = site.process()
    settle(survivor)
    assert site.told(survivor) == site.truth()
    for volume in site.truth()["volumes"]:
        survivor.attachments.detach(VolumeId(volume), call())
        survivor.attachments.take(VolumeId(volume), H1, call())
        survivor.volumes.delete(VolumeId(volume), call())
    assert site.truth() == {"volumes": {}, "grants": {}, "known": [], "disks": []}
