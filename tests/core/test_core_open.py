"""Opening and closing a pool: what fails half-way leaves no driver open."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bollard.core.plugins import PluginError, registered
from bollard.core.pool import open_pool
from bollard.core.spi import (
    Internal,
    InvalidArgument,
    NotFound,
)

from .ram_driver import PASSWORD, RamManaged
from .ram_store import RamStore


@pytest.fixture
def born():
    """The drivers that `open_pool("ram", …)` makes, which fail as a test has planned before."""
    made: list[RamManaged] = []
    plans: list[Callable[[RamManaged], object]] = []

    class Planned(RamManaged):
        """A driver whose faults are planned before it exists."""

        def __init__(self, options):
            super().__init__(options)
            made.append(self)
            for plan in plans:
                plan(self)

    with registered("ram", Planned), registered("ram-store", RamStore):
        yield made, plans


def test_open_pool_works(born, tmp_path):
    """Options are parsed, the pool is open, and leaving the block closes the driver."""
    made, _ = born
    with open_pool("p", "ram", {"directory": str(tmp_path), "password": PASSWORD}) as pool:
        assert pool.info.name == tmp_path.name
        assert (pool.name, pool.managed, made[0].closed) == ("p", True, 0)
    assert made[0].closed == 1


@pytest.mark.parametrize("method", ["open", "unavailable", "traits"])
@pytest.mark.parametrize("fault", [NotFound("no pool"), RuntimeError(PASSWORD)])
def test_driver_is_closed_when_opening_fails(born, tmp_path, method, fault):
    """Whatever step fails and however: typed, without the password, and the driver is closed."""
    made, plans = born
    plans.append(lambda d: d.fail(method, fault))

    with pytest.raises((NotFound, Internal)) as caught:
        open_pool("p", "ram", {"directory": str(tmp_path)})
    assert made[0].closed == 1
    assert PASSWORD not in str(caught.value) + caught.value.detail
    assert type(caught.value) is (NotFound if isinstance(fault, NotFound) else Internal)


def test_bad_pool_name_closes_the_driver_too(born, tmp_path):
    """A name that breaks the rule is refused, and nothing stays open."""
    made, _ = born
    with pytest.raises(InvalidArgument, match=r"pool\.name"):
        open_pool("a/b", "ram", {"directory": str(tmp_path)})
    assert made[0].closed == 1
    assert "open" not in made[0].calls


def test_close_that_fails_does_not_hide_why_opening_failed(born, tmp_path):
    """The first error is the one to report."""
    _, plans = born

    def close():
        raise OSError("close failed")

    plans.append(lambda d: d.fail("open", NotFound("no pool")))
    plans.append(lambda d: setattr(d, "close", close))

    with pytest.raises(NotFound, match="no pool"):
        open_pool("p", "ram", {"directory": str(tmp_path)})


def test_close_is_typed_and_does_not_hide_the_bodys_error(make_pool):
    """A failing close is `Internal` without secrets; inside a failing block the block's error wins."""

    def close():
        raise OSError(f"logout {PASSWORD}")

    pool = make_pool(prepare=lambda d: setattr(d, "close", close))
    with pytest.raises(Internal) as caught:
        pool.close()
    assert PASSWORD not in str(caught.value)
    with pytest.raises(ZeroDivisionError), pool:
        raise ZeroDivisionError
    with pytest.raises(Internal), pool:
        pass


def test_bad_options_and_names_are_refused(born, tmp_path):
    """Unknown drivers, drivers of another kind and bad options are told before anything is made."""
    made, _ = born
    with pytest.raises(PluginError, match="unknown"):
        open_pool("p", "rum", {})
    with pytest.raises(InvalidArgument, match="'ram-store' is not a primary storage driver"):
        open_pool("p", "ram-store", {})
    with pytest.raises(InvalidArgument, match="option 'directory' is required"):
        open_pool("p", "ram", {})
    with pytest.raises(InvalidArgument, match="did you mean 'directory'"):
        open_pool("p", "ram", {"directry": str(tmp_path)})
    assert made == []
