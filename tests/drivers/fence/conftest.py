"""A simulated BMC for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bmc_rig import PASSWORD
from bollard.simulators.bmc import BmcSimulator, User


@pytest.fixture
def bmc() -> Iterator[BmcSimulator]:
    """A BMC whose host is on, with an administrator, an operator and one who may only look."""
    users = {"admin": User(PASSWORD), "operator": User(PASSWORD, 3), "guest": User(PASSWORD, 2)}
    with BmcSimulator(users) as simulator:
        yield simulator
