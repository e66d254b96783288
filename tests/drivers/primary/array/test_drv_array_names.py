"""Names on the array, and ids at the edges of what is allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from array_rig import host, spec
from bollard.core.spi import InvalidArgument
from bollard.drivers.primary.array.names import MAX_NAME, Kind, array_name
from bollard.transfer_objects.ids import HostId, SnapshotId, VolumeId
from primary_rig import call

IDS = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?", fullmatch=True)
OWNERS = st.from_regex(r"[a-z0-9]{1,16}", fullmatch=True)


@given(OWNERS, OWNERS, IDS, IDS, st.sampled_from(Kind), st.sampled_from(Kind))
def test_names_are_injective_and_fit(owner_a, owner_b, id_a, id_b, kind_a, kind_b):
    """Different owners, kinds or ids have different names; each is within the array's rules."""
    a, b = array_name(owner_a, kind_a, id_a), array_name(owner_b, kind_b, id_b)
    assert (a == b) == ((owner_a, kind_a, id_a) == (owner_b, kind_b, id_b))
    assert 0 < len(a) <= MAX_NAME


def test_the_longest_ids_work(driver):
    """Ids of 64 characters that differ at the end only are two volumes, two snapshots and two hosts."""
    ends = ("a", "b")
    for end in ends:
        driver.create_volume(spec(VolumeId("v" * 63 + end)), call())
        driver.create_snapshot(VolumeId("v" * 63 + end), SnapshotId("s" * 63 + end), call())
        driver.grant(VolumeId("v" * 63 + end), host("h" * 63 + end), call())
    assert {v.id for v in driver.list_volumes(call()).items} == {"v" * 63 + end for end in ends}
    for end in ends:
        volume = VolumeId("v" * 63 + end)
        assert [s.id for s in driver.list_snapshots(volume, call()).items] == ["s" * 63 + end]
        assert [g.host for g in driver.list_grants(volume, call())] == ["h" * 63 + end]
        driver.revoke(volume, HostId("h" * 63 + end), call())


@pytest.mark.parametrize("bad", ["../x", "", "A", "a/b", "a b", "x" * 65, "-a"])
def test_what_is_no_id_reaches_no_url(driver, array, bad):
    """Ids outside of the alphabet are refused before anything is sent."""
    array.reset_stats()
    for act in (driver.get_volume, driver.delete_volume, driver.get_snapshot, driver.delete_snapshot):
        with pytest.raises(InvalidArgument):
            act(bad, call())
    assert array.stats() == {}
