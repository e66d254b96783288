"""A whole site: a simulated array, a pool of files, a directory and a bucket as stores, simulated hosts.

pool "array" (managed)   pools "files" (qcow2), "raw"   store "nfs"   store "s3" (moto)   hypervisor "cluster"
                                                                                  h1, h2; VMs vm-1, vm-2
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bollard.core.config import load_config
from bollard.core.site import Site
from bollard.simulators.array import ArraySimulator
from bollard.simulators.hypervisor import HypervisorSimulator
from bollard.simulators.process import SimulatorProcess
from hypervisor_rig import prepare

MIB = 2**20
GIB = 2**30

ARRAY_UUID = "11111111-0000-4000-8000-000000000001"
RAW_UUID = "66666666-0000-4000-8000-000000000006"
FILES_UUID = "22222222-0000-4000-8000-000000000002"
NFS_UUID = "33333333-0000-4000-8000-000000000003"
S3_UUID = "44444444-0000-4000-8000-000000000004"
CLUSTER_UUID = "55555555-0000-4000-8000-000000000005"


def toml_of(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a configuration's text; JSON's texts, numbers and lists are TOML's as well."""
    lines = []
    for name, table in tables.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {_value(value)}" for key, value in table.items()]
    return "\n".join(lines)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(one)}" for key, one in value.items()) + " }"
    return json.dumps(str(value) if isinstance(value, Path) else value)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRig:
    """What serves, and the configuration that tells of it."""

    home: Path
    config: Path
    array: ArraySimulator
    cluster: HypervisorSimulator

    def site(self) -> Site:
        """Return a new site; close it."""
        return Site(load_config(self.config))


@contextlib.contextmanager
def site_rig(home: Path, *, s3: bool = False, personality: str = "KVM") -> Iterator[SiteRig]:
    """Start the servers and write the configuration.

    Args:
        s3: with a bucket, in a process of its own: two of moto's servers in one process share their objects.
    """
    with ExitStack() as stack:
        s3_endpoint = ""
        if s3:
            arguments = ("--state", str(home / "s3"), "--bucket", "archive")
            s3_endpoint = stack.enter_context(SimulatorProcess.start("s3", *arguments)).url
        array = stack.enter_context(ArraySimulator(home / "array", pools={"pool-a": GIB}, job_seconds=0.0))
        cluster = stack.enter_context(HypervisorSimulator(home / "cluster", personality=personality))
        prepare(cluster.url, home / "objects")
        for name in ("files", "raw", "secondary"):
            (home / name).mkdir(exist_ok=True)
        config = home / "bollard.toml"
        config.write_text(toml_of(_tables(home, array, cluster, s3_endpoint)))
        config.chmod(0o600)
        yield SiteRig(home=home, config=config, array=array, cluster=cluster)


def _tables(
    home: Path, array: ArraySimulator, cluster: HypervisorSimulator, s3_endpoint: str
) -> dict[str, dict[str, Any]]:
    tables: dict[str, dict[str, Any]] = {
        "pools.array": {
            "driver": "array",
            "uuid": ARRAY_UUID,
            "options": {
                "url": array.url,
                "username": array.admin_user,
                "password": array.admin_password,
                "pool": "pool-a",
                "ca": array.ca,
            },
        },
        "pools.files": {"driver": "qcow2", "uuid": FILES_UUID, "options": {"path": home / "files"}},
        "pools.raw": {
            "driver": "qcow2",
            "uuid": RAW_UUID,
            "options": {"path": home / "raw", "format": "raw"},
        },
        "stores.nfs": {
            "driver": "nfs",
            "uuid": [NFS_UUID, "Old_Name"],
            "options": {"path": home / "secondary"},
        },
        "hypervisors.cluster": {
            "driver": "hypervisor-sim",
            "uuid": CLUSTER_UUID,
            "host": "h1",
            "options": {"url": cluster.url},
        },
    }
    if s3_endpoint:
        tables["stores.s3"] = {
            "driver": "s3",
            "uuid": S3_UUID,
            "options": {
                "bucket": "archive",
                "endpoint_url": s3_endpoint,
                "access_key": "who",
                "secret_key": "correct-horse-battery",
            },
        }
    return tables
