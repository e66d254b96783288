"""Labs on a simulated array and on a directory, as the plug-in would build them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bollard.conformance.lab import Lab, Notes
from bollard.conformance.store_lab import StoreLab
from bollard.core.access import Mover
from bollard.core.journal import Journal
from bollard.core.mover import mover_host
from bollard.core.plugins import registered
from bollard.core.pool import open_pool
from bollard.core.store import open_store
from bollard.simulators.array import ArraySimulator

PREFIX = "bct-00000000"


def _not_here(*_: Any) -> Any:
    raise AssertionError("these checks use no fault proxy")


@pytest.fixture
def array(tmp_path: Path) -> Iterator[ArraySimulator]:
    """A healthy array."""
    with ArraySimulator(tmp_path / "array", pools={"gold": 8 * 2**30}, tls=False) as sim:
        yield sim


@pytest.fixture
def array_options(array: ArraySimulator) -> dict[str, Any]:
    """What a driver needs to open the array's pool."""
    return {
        "url": array.url,
        "allow_http": True,
        "username": array.admin_user,
        "password": array.admin_password,
        "pool": "gold",
    }


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is closed after the test."""
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def pool_lab(array_options: dict[str, Any], tmp_path: Path, stack: ExitStack) -> Callable[[type[Any]], Lab]:
    """Build a lab on the array for a driver class."""

    def build(driver: type[Any], seed: int = 1) -> Lab:
        (tmp_path / "archive").mkdir()
        stack.enter_context(registered("broken", driver))
        pool = stack.enter_context(open_pool("under-test", "broken", array_options))
        archive = stack.enter_context(
            closing(open_store("archive", "nfs", {"path": str(tmp_path / "archive")}))
        )
        return Lab(
            pool=pool,
            mover=Mover(host=mover_host(tmp_path), journal=Journal(tmp_path / "journal")),
            prefix=PREFIX,
            archive_store=archive,
            second=lambda **_: open_pool("second", "broken", array_options),
            proxied=_not_here,
            notes=Notes(random=Random(seed), seed=seed),  # noqa: S311 - reproducible, guards nothing
        )

    return build


@pytest.fixture
def store_lab(tmp_path: Path, stack: ExitStack) -> Callable[[type[Any]], StoreLab]:
    """Build a lab on a directory for a store driver class."""

    def build(driver: type[Any], seed: int = 1) -> StoreLab:
        directory = tmp_path / "objects"
        directory.mkdir()
        stack.enter_context(registered("broken", driver))
        options = {"path": str(directory)}
        return StoreLab(
            store=stack.enter_context(closing(open_store("under-test", "broken", options))),
            prefix=PREFIX,
            second=lambda: closing(open_store("second", "broken", options)),
            proxied=_not_here,
            notes=Notes(random=Random(seed), seed=seed),  # noqa: S311 - reproducible, guards nothing
        )

    return build
