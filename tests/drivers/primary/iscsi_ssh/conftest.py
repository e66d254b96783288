"""One real array for a module's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bollard.drivers.primary.iscsi_ssh import IscsiSshDriver
from iscsi_array import IscsiArray
from iscsi_rig import opened, prepared_array


@pytest.fixture(scope="module")
def array(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IscsiArray]:
    """An array with a pool; each test leaves it empty."""
    with prepared_array(tmp_path_factory.mktemp("array")) as made:
        yield made


@pytest.fixture
def driver(array: IscsiArray) -> Iterator[IscsiSshDriver]:
    """An open driver."""
    with opened(array) as made:
        yield made
