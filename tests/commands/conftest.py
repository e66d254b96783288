"""A whole site, and a dispatcher over it."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bollard.core.site import Site
from command_rig import Orders
from site_rig import SiteRig, site_rig

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def rig(tmp_path_factory) -> Iterator[SiteRig]:
    """The servers, for all tests of this process; each test has volumes of its own."""
    with site_rig(tmp_path_factory.mktemp("site"), s3=True) as made:
        yield made


@pytest.fixture
def orders(rig, tmp_path, monkeypatch) -> Iterator[Orders]:
    """A dispatcher; nothing may be left of its commands: no grant, no temporary clone, no journal entry."""
    monkeypatch.setenv("BOLLARD_STATE", str(tmp_path / "state"))
    with rig.site() as site:
        yield Orders(site)


@pytest.fixture
def again(rig: SiteRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Orders]]:
    """A function that gives a new process's dispatcher; the one before is closed."""
    monkeypatch.setenv("BOLLARD_STATE", str(tmp_path / "state"))
    sites: list[Site] = []

    def make() -> Orders:
        while sites:
            sites.pop().close()
        gc.collect()  # the locks of a dead process are free
        sites.append(rig.site())
        return Orders(sites[-1])

    yield make
    make().site.close()


@pytest.fixture
def name() -> Callable[[str], str]:
    """A function that makes a name that nobody has."""
    return lambda what: f"{what}-{next(_numbers)}"
