"""What a mutant runs on: a fresh simulator or directory, the configuration of a vendor, a driver on offer.

Each run has its own backend. One that is shared would be faster by 0.1 s of 3 s, and a defect that
leaves something behind would spoil the next verdict.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bollard.simulators.array import ArraySimulator
from bollard.simulators.defects import DefectSet, parse_switches
from catalogue import Mutant
from tls_door import tls_door

BROKEN = Path(__file__).parent / "broken"
_GIB = 2**30
_BUCKET = "archive"
_HYPERVISOR = "bollard.drivers.hypervisor.driver:SimulatedHypervisorDriver"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the suite is told.

    Attributes:
        driver: entry-point name; "" if only `cls`, "module:Class", is known.
        options: of the driver, as TOML values.
        tables: further tables of the configuration, the same.
        path: directories that Python imports from first.
    """

    driver: str = ""
    cls: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    path: tuple[Path, ...] = ()

    def write(self, config: Path, *, disruptive: bool) -> None:
        """Write a vendor's configuration file; `disruptive` consents to the tier of that name."""
        lines = [f'driver = "{self.driver}"', "test_pool = true"]
        lines += ["disruptive = true"] if disruptive else []
        for table, values in {"options": self.options, **self.tables}.items():
            lines += [f"[{table}]", *(f"{key} = {value}" for key, value in values.items())]
        config.write_text("\n".join([*lines, ""]), encoding="utf-8")
        config.chmod(0o600)  # there are passwords in it

    def environment(self) -> dict[str, str]:
        """Return the environment of the suite's process."""
        old = os.environ.get("PYTHONPATH")
        path = [str(p) for p in self.path] + ([old] if old else [])
        return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


@contextmanager
def started(mutant: Mutant, home: Path) -> Iterator[Target]:
    """Start what a mutant runs on; `home` is an empty directory.

    Raises:
        ValueError: there is no such defect.
    """
    site = home / "site"
    site.mkdir()
    with BACKENDS[mutant.backend](mutant, home) as target:
        if mutant.patch:
            (site / "sitecustomize.py").write_text(mutant.patch, encoding="utf-8")
        cls = mutant.driver or target.cls
        yield replace(
            target,
            driver=_offer(site, cls) if cls else target.driver,
            options={**target.options, **dict(mutant.options)},
            path=(site, BROKEN),
        )


def _offer(site: Path, target: str) -> str:
    """Install a distribution that offers one class of `broken/`; returns the driver's name."""
    name = "mutant-" + target.partition(":")[2].lower()
    info = site / "mutant-1.0.dist-info"
    info.mkdir()
    metadata = "Metadata-Version: 2.4\nName: mutant\nVersion: 1.0\nSummary: A broken driver\n"
    metadata += "Requires-Python: >=3.11\nLicense-Expression: Apache-2.0\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[bollard.drivers]\n{name} = {target}\n", encoding="utf-8")
    return name


@contextmanager
def _array(mutant: Mutant, home: Path) -> Iterator[Target]:
    defects = [mutant.defect] if mutant.defect else []
    with ArraySimulator(home / "array", pools={"gold": 8 * _GIB}, defects=defects) as sim:
        options = {
            "url": sim.url,
            "ca": str(sim.ca),
            "username": sim.admin_user,
            "password": sim.admin_password,
            "pool": "gold",
        }
        yield Target(driver="array", options=_toml(options), tables=_proxied("url", "ca"))


@contextmanager
def _swift(mutant: Mutant, home: Path) -> Iterator[Target]:
    from swiftclient import client as swift_client

    from bollard.simulators.swift import SwiftSimulator

    key = "mutant-testing-key"
    with SwiftSimulator(home / "swift", users={"test:tester": key}) as sim:
        url, token = swift_client.get_auth(sim.auth_url, "test:tester", key, auth_version="1")
        swift_client.put_container(url, token, _BUCKET)
        switch(sim.defects, mutant.defect)
        options = {"url": sim.auth_url, "user_name": "test:tester", "key": key, "container": _BUCKET}
        yield Target(driver="swift", options=_toml(options), tables=_proxied("url"))


@contextmanager
def _s3(mutant: Mutant, home: Path) -> Iterator[Target]:
    from bollard.simulators.s3 import S3Simulator

    with S3Simulator(home / "s3", buckets=[_BUCKET]) as sim:
        switch(sim.defects, mutant.defect)
        options = {
            "bucket": _BUCKET,
            "endpoint_url": sim.url,
            "access_key": "any",
            "secret_key": "any-secret",
        }
        yield Target(driver="s3", options=_toml(options), tables=_proxied("endpoint_url"))


@contextmanager
def _s3_tls(mutant: Mutant, home: Path) -> Iterator[Target]:
    """As `_s3`, behind TLS with an authority of its own; its certificates are the array simulator's."""
    from bollard.simulators.array.tls import certificates

    files = certificates(home / "tls")
    with _s3(mutant, home) as target, tls_door(json.loads(target.options["endpoint_url"]), files) as url:
        options = {**target.options, **_toml({"endpoint_url": url, "ca_file": str(files.ca)})}
        yield replace(target, options=options, tables=_proxied("endpoint_url", "ca_file"))


@contextmanager
def _hypervisor(mutant: Mutant, home: Path) -> Iterator[Target]:
    from hypervisor_rig import prepared_cluster, texts_of

    with prepared_cluster(home) as (sim, place):
        switch(sim.defects, mutant.defect)
        # Short, so that what never happens is not waited for.
        table = {**_toml(texts_of(place)), "patience": "10.0"}
        yield Target(cls=_HYPERVISOR, options=_toml({"url": sim.url}), tables={"hypervisor": table})


@contextmanager
def _rbd(_: Mutant, __: Path) -> Iterator[Target]:
    from ceph_lab import ceph_lab

    with ceph_lab() as lab:
        options = {"monitors": lab.monitors, "user": "admin", "key": lab.key}
        yield Target(driver="rbd", options=_toml(options))


@contextmanager
def _directory(driver: str, home: Path) -> Iterator[Target]:
    path = home / "pool"
    path.mkdir()
    yield Target(driver=driver, options={"path": json.dumps(str(path))})


@contextmanager
def _static(mutant: Mutant, home: Path) -> Iterator[Target]:
    from of_static import offered

    yield Target(driver=offered(mutant, home / "site"))


def _toml(values: Mapping[str, str]) -> dict[str, str]:
    """Return texts as TOML has them."""
    return {key: json.dumps(value) for key, value in values.items()}


def _proxied(address: str, ca: str = "") -> dict[str, dict[str, str]]:
    """Return the table that tells fault checks which option leads to the backend."""
    return {"backend": _toml({"address": address, **({"ca": ca} if ca else {})})}


def switch(defects: DefectSet, defect: str) -> None:
    """Switch a defect on; "" does nothing."""
    if defect:
        defects.update(parse_switches([defect]))


@contextmanager
def _bmc(mutant: Mutant, home: Path) -> Iterator[Target]:
    from bmc_rig import PASSWORD
    from bollard.simulators.bmc import BmcSimulator

    with BmcSimulator({"admin": PASSWORD}) as bmc:
        switch(bmc.defects, mutant.defect)
        yield Target(
            driver="ipmi", options={"host": '"127.0.0.1"', "port": str(bmc.port), **_fence()}, tables=_PATIENT
        )


@contextmanager
def _openipmi(mutant: Mutant, home: Path) -> Iterator[Target]:
    from bmc_rig import openipmi

    directory = home / "bmc"
    directory.mkdir()
    with openipmi(directory) as port:
        yield Target(
            driver="ipmi", options={"host": '"127.0.0.1"', "port": str(port), **_fence()}, tables=_PATIENT
        )


@contextmanager
def _redfish(mutant: Mutant, home: Path) -> Iterator[Target]:
    """sushy-tools' emulator over TLS; a defect is what becomes of power commands, or "open"."""
    from bmc_rig import emulator
    from bollard.simulators.array.tls import certificates

    directory = home / "bmc"
    directory.mkdir()
    files = certificates(home / "tls")
    defects = {"open": True} if mutant.defect == "open" else {"power": mutant.defect} if mutant.defect else {}
    with emulator(directory, chain=str(files.chain), key=str(files.key), **defects) as url:
        options = {**_toml({"url": url, "ca": str(files.ca)}), **_fence()}
        yield Target(driver="redfish", options=options, tables=_PATIENT)


@contextmanager
def _iscsi_ssh(mutant: Mutant, home: Path) -> Iterator[Target]:
    """A real array; a defect is an edit of the agent on it."""
    from bollard.drivers.primary.iscsi_ssh.array import agent_directory
    from iscsi_defects import spoil
    from iscsi_rig import options_of, prepared_array

    directory = home / "array"
    directory.mkdir()
    with prepared_array(directory) as array:
        if mutant.defect:
            spoil(agent_directory(array.pool), mutant.defect)
        yield Target(driver="iscsi_ssh", options=_toml(options_of(array)))


# Short, so that what never happens is not waited for.
_PATIENT = {"fence": {"patience": "15.0"}}


def _fence() -> dict[str, str]:
    """Return the options that both drivers have, for a BMC that answers at once."""
    from bmc_rig import PASSWORD

    account = _toml({"username": "admin", "password": PASSWORD})
    return {**account, "timeout": "8.0", "settle": "1.0", "confirm_after": "0.1"}


BACKENDS: Mapping[str, Callable[[Mutant, Path], AbstractContextManager[Target]]] = {
    "array": _array,
    "swift": _swift,
    "s3": _s3,
    "s3-tls": _s3_tls,
    "hypervisor": _hypervisor,
    "qcow2": lambda _, home: _directory("qcow2", home),
    "nfs": lambda _, home: _directory("nfs", home),
    "rbd": _rbd,
    "static": _static,
    "bmc": _bmc,
    "openipmi": _openipmi,
    "redfish": _redfish,
    "iscsi_ssh": _iscsi_ssh,
}
