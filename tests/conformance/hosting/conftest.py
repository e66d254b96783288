"""Hosts for tests: each in a directory of its own, and none outlives its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bollard.conformance.hosting.client import hosted_class
from bollard.conformance.hosting.process import DriverHost
from bollard.core.spi import parse_options
from odd_drivers import OddDriver

PASSWORD = "canary-5d3f"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., DriverHost]]:
    """Start hosts by target."""
    hosts: list[DriverHost] = []

    def begin(target: str, **more: Any) -> DriverHost:
        hosts.append(DriverHost.start(target, tmp_path / f"host-{len(hosts)}", **more))
        return hosts[-1]

    yield begin
    for host in hosts:
        host.stop()


@pytest.fixture
def hosted(start: Callable[..., DriverHost]) -> Callable[..., Any]:
    """Construct drivers in hosts."""

    def make(cls: Any, options: Mapping[str, Any] | None = None, **more: Any) -> Any:
        there = hosted_class(cls, lambda target: start(target, **more))
        return there(parse_options(cls.Options, {"password": PASSWORD} if options is None else options))

    return make


@pytest.fixture
def odd(hosted: Callable[..., Any]) -> Any:
    """A hosted driver that does odd things."""
    return hosted(OddDriver)


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One odd driver for all tests of a module that leave it as it is."""
    cls = hosted_class(OddDriver, lambda target: DriverHost.start(target, tmp_path_factory.mktemp("steady")))
    driver: Any = cls(parse_options(cls.Options, {"password": PASSWORD}))
    yield driver
    driver.close()
