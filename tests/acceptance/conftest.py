"""The big image that the acceptance tests carry around, and the backends they carry it between."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import swiftclient

import bollard
from bollard.core.access import Mover
from bollard.core.journal import Journal
from bollard.core.mover import mover_host
from bollard.simulators.process import SimulatorProcess

GIB = 2**30
VIRTUAL = 8 * GIB
# With 66 the six tests take 12 minutes of CI's 45, and meet nothing that 17 do not.
_FILES = 66 if os.environ.get("BOLLARD_LONG") else 17


@dataclass(frozen=True)
class BigImage:
    """A raw, sparse file with a real ext4 on it: 8 GiB virtual, 272 MiB of files; 1 GiB in `make long`."""

    path: Path
    files: dict[str, str]


@pytest.fixture(scope="module")
def big_image(images: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> BigImage:
    """Make the image with mke2fs, without mounting anything."""
    directory = tmp_path_factory.mktemp("big")
    tree = images.file_tree(directory / "tree", files=_FILES, size=16 * 2**20)
    files = images.digests(tree)
    return BigImage(images.ext4_raw(directory / "big.raw", tree, VIRTUAL), files)


@pytest.fixture(scope="module")
def mover(tmp_path_factory: pytest.TempPathFactory) -> Mover:
    """This machine as a host."""
    directory = tmp_path_factory.mktemp("mover")
    return Mover(host=mover_host(directory), journal=Journal(directory / "journal"))


@pytest.fixture(scope="module")
def files_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bollard.Pool]:
    """A qcow2 pool."""
    with bollard.open_pool("files", "qcow2", {"path": str(tmp_path_factory.mktemp("pool"))}) as pool:
        yield pool


@pytest.fixture(scope="module")
def array_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bollard.Pool]:
    """A pool of a simulated array, over TLS; a process of its own, as all servers here are."""
    state = tmp_path_factory.mktemp("array")
    secret = {"BOLLARD_ARRAY_PASSWORD": "not-a-secret"}
    with SimulatorProcess.start("array", "--state", str(state), "--pool", "gold=64G", env=secret) as sim:
        options = {
            "url": sim.url,
            "ca": sim.ready["ca"],
            "username": sim.ready["username"],
            "password": "not-a-secret",
            "pool": "gold",
        }
        with bollard.open_pool("array", "array", options) as pool:
            yield pool


@pytest.fixture(params=["nfs", "s3", "swift"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[bollard.Store]:
    """Each kind of secondary store in turn, empty."""
    with ExitStack() as undo:
        options = {"nfs": _nfs, "s3": _s3, "swift": _swift}[request.param](tmp_path, undo)
        yield undo.enter_context(closing(bollard.open_store(request.param, request.param, options)))


def _nfs(directory: Path, _undo: ExitStack) -> dict[str, str]:
    (directory / "export").mkdir()
    return {"path": str(directory / "export")}


def _s3(directory: Path, undo: ExitStack) -> dict[str, str]:
    sim = undo.enter_context(
        SimulatorProcess.start("s3", "--state", str(directory / "s3"), "--bucket", "archive")
    )
    return {"endpoint_url": sim.url, "bucket": "archive", "access_key": "k", "secret_key": "not-a-secret"}


def _swift(directory: Path, undo: ExitStack) -> dict[str, str]:
    users = {"BOLLARD_SWIFT_USERS": '{"cloud:mover": "not-a-secret"}'}
    sim = undo.enter_context(SimulatorProcess.start("swift", "--state", str(directory / "swift"), env=users))
    auth = f"{sim.url}/auth/v1.0"
    with closing(swiftclient.Connection(auth, "cloud:mover", "not-a-secret")) as connection:
        connection.put_container("archive")
    return {
        "url": auth,
        "account": "cloud",
        "user_name": "mover",
        "key": "not-a-secret",
        "container": "archive",
    }
