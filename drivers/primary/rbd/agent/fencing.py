"""Cutting clients off, and proof that it has happened.

    auth rm           nobody logs in anew             (an open client goes on writing)
    blocklist add     the monitors know               (an OSD with an older map does not)
    one request to each placement group, with the map's epoch:
                      a group answers when it has that map, so it refuses the client from then on

librbd needs only the second step when it breaks a lock: its own next request brings the map along to where
it writes. A revoke that has returned promises it for all of the image.
"""

from __future__ import annotations

from collections.abc import Collection

import rados

from .cluster import Cluster
from .placement import covering_names

# Seconds. An OSD ends an idle connection after 15 minutes and a ticket is good for one hour, three with the
# keys that OSDs remember; after a day nothing is left that a client without a key could use.
_LISTED_FOR = 86_400.0


def cut_off(cluster: Cluster, addresses: Collection[str]) -> None:
    """Return when no request of these clients can be carried out any more."""
    for address in sorted(addresses):
        cluster.mon("osd blocklist", blocklistop="add", addr=address, expire=_LISTED_FOR)
    cluster.refresh()
    for name in covering_names(cluster.placement_groups(), f"bollard.{cluster.owner}.fence."):
        try:
            cluster.io.stat(name)
        except rados.ObjectNotFound:
            continue  # as expected: it is the group that had to answer


def blocklisted(cluster: Cluster) -> set[str]:
    """Return the addresses that are cut off."""
    return {entry["addr"] for entry in cluster.mon("osd blocklist ls")}
