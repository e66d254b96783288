"""A simulated cluster as a vendor prepares it for the suite: one VM that writes, one that is off."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from bollard.conformance.host_lab import HostSettings
from bollard.simulators.hypervisor import HypervisorSimulator

# Without it each client loads the CA certificates, which takes 100 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
# Slow enough that a torn snapshot is not written over before it is looked at (128 slots: 2.5 s).
BLOCKS_PER_S = 50


def prepare(url: str, objects: Path) -> HostSettings:
    """Make host and VMs on a cluster, and return the table [hypervisor] that tells of them.

    Only the VM that runs has a guest agent: what is refused without one can be seen at the other.
    """
    objects.mkdir(exist_ok=True)
    with httpx.Client(verify=NO_TLS, base_url=url) as http:
        for host in ("h1", "h2"):
            http.put(
                f"/hosts/{host}", json={"initiator": f"iqn.2026-01.org.example:{host}"}
            ).raise_for_status()
        for vm in ("vm-1", "vm-2"):
            http.put(f"/vms/{vm}", json={"host": "h1", "agent": vm == "vm-1"}).raise_for_status()
        http.post("/vms/vm-1/rate", json={"blocks_per_s": BLOCKS_PER_S}).raise_for_status()
        http.post("/vms/vm-1/start").raise_for_status()
    table = {"host": "h1", "second_host": "h2", "vm": "vm-1", "stopped_vm": "vm-2", "objects": str(objects)}
    return HostSettings.of(table)


def texts_of(place: HostSettings) -> dict[str, str]:
    """Return the texts of the table [hypervisor]."""
    return {
        name: str(getattr(place, name)) for name in ("host", "second_host", "vm", "stopped_vm", "objects")
    }


@contextmanager
def prepared_cluster(
    directory: Path, personality: str = "KVM"
) -> Iterator[tuple[HypervisorSimulator, HostSettings]]:
    """Serve a prepared cluster from this process."""
    with HypervisorSimulator(directory / "cluster", personality=personality) as cluster:
        yield cluster, prepare(cluster.url, directory / "objects")
