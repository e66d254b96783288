"""Pools over the small driver, with waits that take no time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bollard.core.pool import Pool

from .ram_driver import RamCore, RamManaged, RamOptions


@pytest.fixture
def make_pool(tmp_path) -> Callable[..., Pool]:
    """A function that opens a pool of a driver class, prepared by an optional function."""

    def make(
        cls: type[RamCore] = RamManaged,
        prepare: Callable[[RamCore], object] = lambda _: None,
        **kwargs: object,
    ) -> Pool:
        driver = cls(RamOptions(directory=tmp_path / "array"))
        prepare(driver)
        return Pool("ssd-1", driver, **{"sleep": lambda _: None} | kwargs)  # type: ignore[arg-type]  # passed on as given

    return make
