"""The directory as a pool of the qcow2 driver: identity, mounts, open and close."""

from __future__ import annotations

import pytest

from bollard.core.spi import NotFound, Outcome, StorageError, Unavailable, VolumeSpec, parse_options
from bollard.drivers.primary.qcow2 import Qcow2Driver
from primary_rig import MIB, S1, WEB, call
from qcow2_rig import opened


def test_opening_creates_nothing_and_identity_is_stable(tmp_path):
    """Opening leaves an empty directory empty; the identity stays, also when the pool moves."""
    pool = tmp_path / "pool; $(touch x), 'quoted' -name"
    pool.mkdir()
    driver = Qcow2Driver(parse_options(Qcow2Driver.Options, {"path": pool}))
    first = driver.open(call()).identity
    assert list(pool.iterdir()) == []
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    driver.create_snapshot(WEB, S1, call())
    assert driver.open(call()).identity == first
    moved = pool.rename(tmp_path / "moved")
    other = Qcow2Driver(parse_options(Qcow2Driver.Options, {"path": moved}))
    assert other.open(call()).identity == first
    assert other.get_volume(WEB, call()).size == MIB


def test_a_missing_or_unmounted_pool_is_told(tmp_path):
    """A missing directory is not found, a required mount that is absent unavailable."""
    options = {"path": tmp_path / "nowhere"}
    with pytest.raises(NotFound):
        Qcow2Driver(parse_options(Qcow2Driver.Options, options)).open(call())
    options = {"path": tmp_path, "must_be_mounted": True}
    with pytest.raises(Unavailable):
        Qcow2Driver(parse_options(Qcow2Driver.Options, options)).open(call())


def test_a_closed_driver_says_so(tmp_path):
    """Use after close is a typed error, and closing twice is harmless."""
    driver = opened(tmp_path)
    driver.close()
    driver.close()
    with pytest.raises(StorageError) as error:
        driver.get_volume(WEB, call())
    assert error.value.outcome is Outcome.NOT_APPLIED
