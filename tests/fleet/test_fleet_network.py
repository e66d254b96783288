"""A fleet on machines of its own: workers in network namespaces, one of whose links is cut in the midst."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from .dask_rig import Cluster, until
from .fleet_network import HUB, Network
from .fleet_rig import Night


@pytest.mark.slow
@pytest.mark.real(root=True)
def test_a_link_cut_in_the_midst_costs_a_retry(night, tmp_path):
    """One whose cable is pulled with tasks in hand is given up, the other does them; both go on storing."""
    file = night.make("vol-1", windows=8)
    (tmp_path / "dask").mkdir()
    with Network("ann", "bob") as network, Cluster(tmp_path / "dask", host=HUB) as cluster:
        _start(cluster, network, night)
        cluster.pause("ann")
        with _coordinator(network, cluster, night) as job:
            until(lambda: list((night.home / "store").rglob("*.zip")) or job.poll() is not None)
            network.cut("ann")
            cluster.resume("ann")  # it lives, and works, and nobody hears it
            said, _ = job.communicate(timeout=240)
        bob = cluster.processes["bob"].pid
    row = json.loads(said.splitlines()[0])

    assert (row["state"], job.returncode) == ("archived", 0), row
    assert {worker.rpartition(":")[2]: count for worker, count in row["workers"].items()} == {str(bob): 8}
    assert night.holds(file, "vol-1", row["snapshot"])


def _start(cluster: Cluster, network: Network, night: Night) -> None:
    cluster.start_scheduler(network.inside("ctl"))
    for name in ("ann", "bob"):
        prefix, host = network.inside(name), network.address(name)
        cluster.start_worker(name, "pool:ssd-1=2", night.config, prefix=prefix, host=host)
        until(partial(_registered, cluster.home / f"{name}.log"))


def _registered(log: Path) -> bool:
    return b"Registered to" in log.read_bytes()


def _coordinator(network: Network, cluster: Cluster, night: Night) -> subprocess.Popen[bytes]:
    command = [*network.inside("ctl"), sys.executable, "-m", "bollard", "archive", "fleet", "--run", "mon"]
    command += ["--all", "--pool", "ssd-1", "--engine", f"dask://{cluster.address}", "--batch", "1", "--json"]
    environment = os.environ | {"BOLLARD_CONFIG": str(night.config)}
    with (cluster.home / "coordinator.log").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log)
