"""What a store is found to be, and how: on the real servers, the simulators and a directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from bollard.core.spi import Body, Call, FoundBy, FoundTrait, InvalidArgument, StoredObject, Unsupported
from bollard.drivers.secondary._listing import RawPage, page_of

if TYPE_CHECKING:
    from .conftest import Store


def probed(store: Store, call: Call, **options: object) -> dict[str, FoundTrait]:
    """Return the traits by name."""
    return {trait.name: trait for trait in store.again(**options).probe(call)}


def test_a_probe_agrees_with_the_traits_and_leaves_nothing(store: Store, call: Call) -> None:
    """Each of the three traits is told as the archive gets it, and no object remains."""
    found = probed(store, call)
    told = store.driver.traits()
    assert found["conditional_put"].value == told.conditional_put
    assert found["max_object_size"].value == told.max_object_size
    assert found["listing_consistent"].value == told.listing_consistent
    assert all(trait.how for trait in found.values())
    assert store.names() == []


def test_what_real_servers_show(racy: Store, call: Call) -> None:
    """Real Swift and its s3api compare digests, sort as UTF-8, and look at If-None-Match too early."""
    found = probed(racy, call)
    shown = {name: trait.value for name, trait in found.items() if trait.found_by is FoundBy.PROBED}
    assert shown["conditional_put"] is False
    assert shown["checksum"] == ("md5" if racy.kind == "swift" else "sha256")
    assert (shown["listing_order"], shown["listed_at_once"]) == ("utf-8", True)
    assert found["listing_consistent"].value is False
    if racy.kind == "swift":
        assert (shown["max_segments"], shown["max_segment_size"]) == (1000, 2**30)


def test_options_are_told_as_such(remote: Store, call: Call) -> None:
    """What an option says was not probed."""
    found = probed(remote, call, conditional_put="no")
    assert (found["conditional_put"].value, found["conditional_put"].found_by) == (False, FoundBy.CONFIGURED)


def test_who_may_not_write_is_told_so(remote: Store, call: Call) -> None:
    """Read-only credentials: the probe says that it could not write, and goes on."""
    assert remote.faults
    remote.faults.add("403", "PUT", times=100)
    assert probed(remote, call)["writable"].value is False


def test_a_smaller_limit_of_the_server_is_kept(swift_store: Store, call: Call) -> None:
    """Swift: `max_file_size` of /info bounds segments, single bodies and the largest object."""
    size = 1024 * 1024
    driver: Any = swift_store.again()
    driver._limits = driver._limits._replace(single=size, segments=3)
    assert driver.traits().max_object_size == 3 * size
    data = os.urandom(2 * size + 1)
    driver.put("k", Body.of(data), call)
    assert b"".join(driver.get("k", call)) == data
    assert sum(name.startswith("segment of ") for name in swift_store.names()) == 3


def test_a_listing_in_another_order_is_refused() -> None:
    """S3 Express lists in no order: "after" would skip keys, so the page is an error, not a gap."""
    items = [StoredObject(key=key, size=1) for key in ("b", "a")]
    with pytest.raises(Unsupported):
        page_of(lambda *_: RawPage(items, more=False), None, 10)
    with pytest.raises(InvalidArgument):
        page_of(lambda *_: RawPage([], more=False), None, 0)
