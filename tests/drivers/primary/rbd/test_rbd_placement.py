"""The placement groups that we compute are those of Ceph."""

from __future__ import annotations

import pytest

from bollard.drivers.primary.rbd.agent.placement import covering_names, rjenkins, stable_mod
from ceph_lab import POOL, CephLab


@pytest.mark.real
def test_ceph_puts_objects_where_we_say(lab: CephLab) -> None:
    """`ceph osd map` names the group that we compute, for names of all kinds of length."""
    for length in (1, 11, 12, 30):  # the hash takes twelve bytes at a time
        name = "bollard.fence.0123456789abcdefghij"[:length]
        told = lab.ceph("osd", "map", POOL, name)
        assert int(told["raw_pgid"].partition(".")[2], 16) == rjenkins(name.encode())
        assert int(told["pgid"].partition(".")[2], 16) == stable_mod(rjenkins(name.encode()), 8)


@pytest.mark.parametrize("groups", [1, 8, 12, 100, 256])
def test_each_group_is_reached_once(groups: int) -> None:
    """There is one name for each group, also where their number is no power of two."""
    names = list(covering_names(groups, "bollard.fence."))
    assert len(names) == groups
    assert {stable_mod(rjenkins(name.encode()), groups) for name in names} == set(range(groups))
