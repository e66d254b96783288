"""The fixture `open_cloud`, for test modules that say `pytest_plugins = ["kvm_cloud_fixture"]`.

Apart from `kvm_cloud`: pytest wants to see a module of fixtures before a test imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from kvm_cloud import KvmCloud
from kvm_lab.guests import Guest
from kvm_lab.host import Host


@pytest.fixture
def open_cloud(
    kvm_host: Host, kvm_directory: Path, guest: Callable[..., Guest]
) -> Iterator[Callable[..., KvmCloud]]:
    """Opens clouds with a running VM: `open_cloud(hosts=(kvm_host,), disks=2, ...)`."""
    with ExitStack() as stack:

        def opened(*, hosts: tuple[Host, ...] = (kvm_host,), **options: Any) -> KvmCloud:
            return stack.enter_context(KvmCloud(kvm_directory, guest, hosts, **options))

        yield opened
