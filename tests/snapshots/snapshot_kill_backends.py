"""What the kill lab works on: pools and stores by name, the steps that leave a trace there, what is left.

    with POOLS["iscsi_ssh"](directory) as pool, STORES["s3"](directory) as store: ...

Each is a process of its own or a directory, so that the lab's forks connect anew.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx

from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.primary.iscsi_ssh.ssh import Command
from bollard.drivers.primary.qcow2 import Qcow2Driver
from bollard.drivers.secondary.nfs import NfsDriver
from bollard.drivers.secondary.s3 import S3Driver
from bollard.simulators.process import SimulatorProcess
from iscsi_rig import options_of, prepared_array, what_is_kept
from qcow2_rig import files

Steps = tuple[type | ModuleType, tuple[str, ...]]
_ARRAY_TABLES = ("volumes", "snapshots", "members", "grants", "map_pages")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A pool or a store.

    Attributes:
        driver: its name.
        options: how it is opened.
        steps: what acts on it; a kill comes before and after each.
        left: what lies on it, read below the driver; empty as long as there is nothing.
    """

    driver: str
    options: Mapping[str, Any]
    steps: Steps
    left: Callable[[], list[str]]


@contextmanager
def _array(directory: Path) -> Iterator[Backend]:
    arguments = ("--state", str(directory / "array"), "--pool", "gold=8G", "--insecure-http")
    acts = ("create_volume", "create_snapshot", "create_volume_from_snapshot", "grant", "revoke", "set_qos")
    with SimulatorProcess.start("array", *arguments, "--job-seconds", "0") as array:
        options = {
            "url": array.url,
            "username": array.ready["username"],
            "password": Path(array.ready["password_file"]).read_text(),
            "pool": "gold",
            "allow_http": True,
        }
        yield Backend(
            driver="array",
            options=options,
            steps=(ArrayDriver, (*acts, "delete_volume", "delete_snapshot")),
            left=lambda: _rows(directory / "array" / "array.db"),
        )


def _rows(database: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        return [
            f"{table} {row}"
            for table in _ARRAY_TABLES
            for row in db.execute(f"SELECT * FROM {table}")  # noqa: S608 - our own names
        ]


@contextmanager
def _iscsi_ssh(directory: Path) -> Iterator[Backend]:
    home = directory / "iscsi"
    home.mkdir()
    with prepared_array(home) as array:
        yield Backend(
            driver="iscsi_ssh",
            options=options_of(array),
            # Each command over SSH, at two moments: it is sent, and it is answered.
            steps=(Command, ("_drain",)),
            left=lambda: sorted(what_is_kept(array)),
        )


@contextmanager
def _qcow2(directory: Path) -> Iterator[Backend]:
    pool = directory / "files"
    pool.mkdir()
    yield Backend(
        driver="qcow2",
        options={"path": str(pool)},
        steps=(Qcow2Driver, ("create_volume", "delete_volume")),
        # Lock files stay: removing one that somebody waits for would let two in.
        left=lambda: [name for name in files(pool) if "lock" not in name],
    )


@contextmanager
def _nfs(directory: Path) -> Iterator[Backend]:
    export = directory / "store"
    export.mkdir()
    yield Backend(
        driver="nfs",
        options={"path": str(export)},
        steps=(NfsDriver, ("put",)),
        left=lambda: [str(path.relative_to(export)) for path in export.rglob("*") if path.is_file()],
    )


@contextmanager
def _s3(directory: Path) -> Iterator[Backend]:
    with SimulatorProcess.start("s3", "--state", str(directory / "s3"), "--bucket", "archive") as s3:
        yield Backend(
            driver="s3",
            options={
                "bucket": "archive",
                "endpoint_url": s3.url,
                "access_key": "AKIA-EXAMPLE",
                "secret_key": "sesame",
                "checksum": "sha256",  # probing costs four requests each time that it is opened
                "conditional_put": "yes",
            },
            steps=(S3Driver, ("put",)),
            left=lambda: _in_bucket(s3.url),
        )


def _in_bucket(url: str) -> list[str]:
    """Return the keys of objects and of unfinished uploads; boto3 takes half a second to start."""
    pages = [httpx.get(f"{url}/archive?{query}").raise_for_status() for query in ("list-type=2", "uploads")]
    return [key for page in pages for key in re.findall("<Key>(.*?)</Key>", page.text)]


POOLS: Mapping[str, Callable[[Path], AbstractContextManager[Backend]]] = {
    "array": _array,
    "iscsi_ssh": _iscsi_ssh,
    "qcow2": _qcow2,
}
STORES: Mapping[str, Callable[[Path], AbstractContextManager[Backend]]] = {"nfs": _nfs, "s3": _s3}
