"""Workplaces on our primary drivers, whole or broken, to run checks without the suite around them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bollard.conformance.lab import ContractBroken, Lab, NotApplicable, Notes
from bollard.conformance.model import Check
from bollard.conformance.registry import ATTRIBUTE, check_modules
from bollard.core.access import Mover
from bollard.core.journal import Journal
from bollard.core.mover import mover_host
from bollard.core.plugins import registered
from bollard.core.pool import Pool, open_pool
from bollard.core.spi import PrimaryDriver, StorageError
from bollard.core.store import open_store
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.primary.qcow2 import Qcow2Driver
from bollard.simulators.array import ArraySimulator

OnDriver = Callable[[type[PrimaryDriver[Any]]], Lab]
RunCheck = Callable[[str, Lab], str]


@pytest.fixture
def array(tmp_path: Path) -> Iterator[ArraySimulator]:
    """An array with a pool that the disruptive check may fill, over plain HTTP."""
    with ArraySimulator(tmp_path / "array", pools={"gold": 3 * 2**27}, tls=False) as sim:
        yield sim


@pytest.fixture
def on_array(array: ArraySimulator, tmp_path: Path) -> Iterator[OnDriver]:
    """Make a lab on the array, behind a driver class."""
    options = {
        "url": array.url,
        "allow_http": True,
        "username": array.admin_user,
        "password": array.admin_password,
        "pool": "gold",
    }
    with ExitStack() as stack:
        yield lambda cls: _lab(stack, cls, options, tmp_path)


@pytest.fixture
def on_images(tmp_path: Path) -> Iterator[OnDriver]:
    """Make a lab on a directory of images, behind a driver class."""
    (tmp_path / "pool").mkdir()
    with ExitStack() as stack:
        yield lambda cls: _lab(stack, cls, {"path": str(tmp_path / "pool")}, tmp_path)


@pytest.fixture
def array_lab(on_array: OnDriver) -> Lab:
    """A lab on the array, behind our driver."""
    return on_array(ArrayDriver)


@pytest.fixture
def qcow2_lab(on_images: OnDriver) -> Lab:
    """A lab on a directory of images, behind our driver."""
    return on_images(Qcow2Driver)


def _lab(stack: ExitStack, cls: type[PrimaryDriver[Any]], options: Mapping[str, Any], place: Path) -> Lab:
    stack.enter_context(registered("under-test", cls))
    work = place / "work"
    for directory in (work, place / "store"):
        directory.mkdir()
    store = stack.enter_context(closing(open_store("archive", "nfs", {"path": str(place / "store")})))

    def second(options: Mapping[str, Any] = options) -> Pool:
        return open_pool("second", "under-test", options)

    def proxied() -> AbstractContextManager[Any]:
        raise AssertionError("these checks need no proxy")

    return Lab(
        pool=stack.enter_context(open_pool("first", "under-test", options)),
        mover=Mover(host=mover_host(work), journal=Journal(work / "journal")),
        prefix="bct-00000000",
        archive_store=store,
        second=second,
        proxied=proxied,
        notes=Notes(random=Random(1), seed=1),  # noqa: S311 - must repeat
    )


@pytest.fixture(scope="session")
def checks() -> dict[str, tuple[Check, Callable[[Lab], None]]]:
    """Every check and its function, by id."""
    modules = [importlib.import_module(f"bollard.conformance.checks.{name}") for name in check_modules()]
    marked = [v for module in modules for v in vars(module).values() if hasattr(v, ATTRIBUTE)]
    return {getattr(v, ATTRIBUTE).id: (getattr(v, ATTRIBUTE), v) for v in marked}


@pytest.fixture
def verdict(checks: dict[str, tuple[Check, Callable[[Lab], None]]]) -> RunCheck:
    """Run a check; returns what it found wrong, or "" if nothing."""

    def run(id: str, lab: Lab) -> str:  # noqa: A002 - its name
        try:
            checks[id][1](lab)
        except (ContractBroken, StorageError) as error:
            return f"{type(error).__name__}: {error}"
        except NotApplicable as error:
            return pytest.fail(f"{id} looked at nothing: {error}")
        return ""

    return run
