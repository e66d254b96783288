"""Backends with somebody else's objects on them: what the suite works on, is killed over, and must leave.

    with array_backend(home) as backend:
        before = backend.inventory()
        ...                               # the suite, killed; the simulator, killed and started again
        assert backend.inventory() == before

An inventory is read below the driver and below the simulator's API: from database and files.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from swiftclient import client as swift_client

from bollard.core.pool import Pool, open_pool
from bollard.core.spi import Body, Call, Host, VolumeSpec
from bollard.core.store import open_store
from bollard.simulators.process import SimulatorProcess
from bollard.transfer_objects.ids import HostId, SnapshotId, VolumeId
from bollard.transfer_objects.secret import Secret
from hypervisor_rig import NO_TLS, prepare, texts_of

MIB = 2**20
PASSWORD = "correct horse"
_CONTAINER = "archive"
Inventory = Mapping[str, object]


class Simulator:
    """A simulator as a process that can be killed and comes back with its state, at its address."""

    def __init__(
        self, name: str, arguments: Sequence[str], env: Mapping[str, str], ports: Mapping[str, str]
    ) -> None:
        self._name, self._arguments, self._env = name, arguments, env
        self.process = SimulatorProcess.start(name, *arguments, env=env)
        ready = {**self.process.ready, "port": urlsplit(self.process.url).port}
        self._ports = [part for option, key in ports.items() for part in (option, str(ready[key]))]

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    def restart(self) -> None:
        """Serve again, whatever became of it."""
        self.process.kill()
        self.process = SimulatorProcess.start(self._name, *self._arguments, *self._ports, env=self._env)


@contextmanager
def _simulated(
    name: str,
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    ports: Mapping[str, str] | None = None,
) -> Iterator[Simulator]:
    simulator = Simulator(name, [str(a) for a in arguments], env or {}, ports or {"--port": "port"})
    try:
        yield simulator
    finally:
        simulator.process.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A backend with foreign objects on it.

    Attributes:
        config: the vendor's configuration file.
        inventory: all that it holds, by name; jobs, sessions and cached answers are nothing that it holds.
        simulator: its process; None for a directory.
    """

    config: Path
    inventory: Callable[[], Inventory]
    simulator: Simulator | None = None


def _config(
    home: Path, driver: str, options: Mapping[str, object], tables: Mapping[str, Mapping[str, object]]
) -> Path:
    lines = [f'driver = "{driver}"', "test_pool = true"]
    for table, values in {"options": options, **tables}.items():
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    config = home / "c.toml"
    config.write_text("\n".join(lines))
    config.chmod(0o600)  # there are passwords in it
    return config


def files_in(directory: Path) -> Inventory:
    """Return name and content of everything below a directory."""
    return {
        str(path.relative_to(directory)): path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
    }


def _rows(database: Path, queries: Mapping[str, str]) -> Inventory:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        return {
            f"{table} {number}": row
            for table, query in queries.items()
            for number, row in enumerate(db.execute(query).fetchall())
        }


# -- primary pools -------------------------------------------------------------------------------------

# Jobs and cached answers stay behind by design.
_ARRAY = ("pools", "volumes", "snapshots", "initiators", "groups", "members", "grants", "map_pages")


def _foreign_volumes(pool: Pool) -> None:
    """Make what somebody else has in the pool: volumes, a snapshot, and on an array a grant."""
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


@contextmanager
def array_backend(home: Path) -> Iterator[Backend]:
    """An array in a process of its own."""
    state = home / "state"
    ports = {"--port": "port", "--nbd-port": "nbd_port"}
    env = {"BOLLARD_ARRAY_PASSWORD": PASSWORD}
    with _simulated("array", "--state", state, "--pool", "gold=8G", env=env, ports=ports) as simulator:
        options = {
            "url": simulator.process.url,
            "ca": str(simulator.process.ready["ca"]),
            "username": str(simulator.process.ready["username"]),
            "password": PASSWORD,
            "pool": "gold",
        }
        with open_pool("p", "array", options) as pool:
            _foreign_volumes(pool)
        queries = {table: f"SELECT * FROM {table}" for table in _ARRAY}  # noqa: S608 - ours
        yield Backend(
            config=_config(home, "array", options, {"backend": {"address": "url", "ca": "ca"}}),
            inventory=lambda: _rows(state / "array.db", queries),
            simulator=simulator,
        )


@contextmanager
def files_backend(home: Path) -> Iterator[Backend]:
    """A pool of qcow2 files."""
    directory = home / "pool"
    directory.mkdir()
    with open_pool("p", "qcow2", {"path": str(directory)}) as pool:
        _foreign_volumes(pool)

    def inventory() -> Inventory:
        # Lock files stay: removing one that somebody waits for would let two in.
        return {name: found for name, found in files_in(directory).items() if "locks/" not in name}

    yield Backend(config=_config(home, "qcow2", {"path": str(directory)}, {}), inventory=inventory)


# -- image stores --------------------------------------------------------------------------------------


def _foreign_objects(driver: str, options: Mapping[str, object]) -> None:
    with closing(open_store("s", driver, options)) as store:
        for key in ("web/1/data", "bct-0000-theirs/data"):
            store.put(key, Body.of(b"theirs" * 1000), Call.within(30))


@contextmanager
def swift_backend(home: Path) -> Iterator[Backend]:
    """A Swift in a process of its own."""
    state, user, key = home / "state", "test:tester", "swift-testing-key"
    env = {"BOLLARD_SWIFT_USERS": json.dumps({user: key})}
    with _simulated("swift", "--state", state, env=env) as simulator:
        url = str(simulator.process.ready["auth_url"])
        account, token = swift_client.get_auth(url, user, key, auth_version="1")
        # The segments' container too: the first large object makes it, and it stays.
        for name in (_CONTAINER, f"{_CONTAINER}_segments"):
            swift_client.put_container(account, token, name)
        # So small that archives and large objects are sent in segments.
        options: dict[str, object] = {
            "url": url,
            "user_name": user,
            "key": key,
            "container": _CONTAINER,
            "max_single_upload_size": MIB,
        }
        _foreign_objects("swift", options)
        queries = {
            "containers": "SELECT account, name FROM containers",
            "objects": "SELECT container, name, blob, size, etag, modified, headers FROM objects "
            "WHERE NOT removed",
        }

        def inventory() -> Inventory:
            return {**_rows(state / "index.sqlite", queries), **files_in(state / "blobs")}

        config = _config(home, "swift", options, {"backend": {"address": "url"}})
        yield Backend(config=config, inventory=inventory, simulator=simulator)


@contextmanager
def nfs_backend(home: Path) -> Iterator[Backend]:
    """A mounted export, or what looks like one."""
    directory = home / "export"
    directory.mkdir()
    options = {"path": str(directory)}
    _foreign_objects("nfs", options)
    yield Backend(config=_config(home, "nfs", options, {}), inventory=lambda: files_in(directory))


# -- hypervisors ---------------------------------------------------------------------------------------


def _foreign_disk(url: str, objects: Path) -> None:
    """Introduce somebody else's disk to the host, attach it to another VM, and snapshot that."""
    disk = objects / "theirs.raw"
    disk.write_bytes(b"theirs" * 10_000 + b"\0" * (MIB - 60_000))
    body = {
        "address": {"path": str(disk), "format": "raw"},
        "identity": str(disk.resolve()),
        "size": MIB,
    }
    with httpx.Client(verify=NO_TLS, base_url=url) as http:
        http.put("/hosts/h1/objects/volume/theirs", json=body).raise_for_status()
        http.put("/vms/theirs", json={"host": "h1"}).raise_for_status()
        known = {"object": {"kind": "volume", "id": "theirs"}}
        http.put("/vms/theirs/disks/theirs", json=known).raise_for_status()
        http.put("/vms/theirs/snapshots/monday", json={"memory": False}).raise_for_status()


@contextmanager
def hypervisor_backend(home: Path) -> Iterator[Backend]:
    """A cluster in a process of its own, prepared as a vendor does."""
    state, objects = home / "state", home / "objects"
    with _simulated("hypervisor", "--state", state) as simulator:
        url = simulator.process.url
        place = prepare(url, objects)
        _foreign_disk(url, objects)
        texts = texts_of(place)
        queries = {"records": "SELECT kind, key, body FROM records ORDER BY kind, key"}

        def inventory() -> Inventory:
            # Without the directories: the simulator keeps that of a VM whose last snapshot went.
            copies = {name: held for name, held in files_in(state / "snapshots").items() if held}
            return {**_rows(state / "cluster.sqlite", queries), **files_in(objects), **copies}

        yield Backend(
            config=_config(home, "hypervisor-sim", {"url": url}, {"hypervisor": {**texts, "patience": 10.0}}),
            inventory=inventory,
            simulator=simulator,
        )


BACKENDS: Mapping[str, Callable[[Path], AbstractContextManager[Backend]]] = {
    "array": array_backend,
    "qcow2": files_backend,
    "swift": swift_backend,
    "nfs": nfs_backend,
    "hypervisor": hypervisor_backend,
}
