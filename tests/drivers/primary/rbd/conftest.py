"""One real cluster for a module's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bollard.drivers.primary.rbd import RbdDriver
from ceph_lab import CephLab, ceph_lab
from rbd_rig import opened


@pytest.fixture(scope="module")
def lab() -> Iterator[CephLab]:
    """A cluster with a pool; each test leaves it empty."""
    with ceph_lab() as made:
        yield made


@pytest.fixture
def driver(lab: CephLab) -> Iterator[RbdDriver]:
    """An open driver."""
    with opened(lab) as made:
        yield made
