"""Drivers written for SPI 1.0 load and run with this Bollard."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from bollard.core import plugins
from bollard.core.plugins import describe_drivers, load_driver
from bollard.core.pool import open_pool
from bollard.core.spi import HYPERVISOR_MIXINS, MIXINS, Body, Call, Host, VolumeSpec
from bollard.core.store import open_store
from bollard.transfer_objects.ids import HostId, VolumeId

GOLDEN = Path(__file__).parent / "golden"
OPTIONS = {"url": "https://x", "password": "secret"}
KINDS = {
    "golden-managed": "managed",
    "golden-everything": "managed",
    "golden-host": "host",
    "golden-store": "image-store",
    "golden-hypervisor": "hypervisor",
    "golden-fence": "fence",
}


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """The golden distribution is found as an installed one is."""
    monkeypatch.syspath_prepend(str(GOLDEN))


def test_all_of_them_load():
    """Each driver of the package is listed with its kind and SPI 1.0, and without an error."""
    found = {d.name: d for d in describe_drivers() if d.name in KINDS}

    assert {d.name: (d.kind, d.spi, d.error) for d in found.values()} == {
        name: (kind, "1.0", "") for name, kind in KINDS.items()
    }


def test_everything_covers_every_mixin():
    """Whatever mix-in this Bollard has and 1.0 had is in the golden package, with all of its methods.

    A mix-in that is newer than 1.0 belongs into `newer`, and into the next golden package.
    """
    newer: set[type] = set(HYPERVISOR_MIXINS)

    assert {m for m in MIXINS if not issubclass(load_driver("golden-everything"), m)} == newer


@pytest.mark.parametrize("ours", [(1, 0), (1, 7), (2, 0), (2, 3)])
def test_they_load_in_this_major_and_the_next(monkeypatch, ours):
    """Newer minors and one newer major of Bollard still take the old drivers."""
    monkeypatch.setattr(plugins, "SPI_VERSION", ours)

    assert {load_driver(name).spi for name in KINDS} == {(1, 0)}


def test_managed_pool_works():
    """A volume is made, granted, listed and deleted through the old driver."""
    with open_pool("old", "golden-managed", OPTIONS) as pool:
        volume = pool.volumes.create(VolumeSpec(id=VolumeId("v-1"), size=4096))
        pool.volumes.grant(volume.id, Host(id=HostId("h-1"), iqn="iqn.h"))

        assert [g.host for g in pool.volumes.grants(volume.id)] == ["h-1"]
        pool.volumes.revoke(volume.id, HostId("h-1"))
        assert [v.id for v in pool.volumes.list()] == ["v-1"]
        pool.volumes.delete(volume.id)
        assert list(pool.volumes.list()) == []


def test_store_works():
    """An object is put, read in parts, listed and deleted through the old driver."""
    call = Call.within(10)
    with closing(open_store("old", "golden-store", OPTIONS)) as store:
        store.put("a/b", Body.of(b"0123456789"), call)

        assert b"".join(store.get("a/b", call, offset=2, length=3)) == b"234"
        assert [o.key for o in store.list("a/", call).items] == ["a/b"]
        store.delete("a/b", call)
        assert store.list("", call).items == []
