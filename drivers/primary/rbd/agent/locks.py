"""One change of an object at a time, over all processes and machines.

A lock is an object in the pool that holds its owner's address. It is made only if it is not there. Whose
owner has no session with a monitor any more is dead: it is blocklisted, which also frees the images that it
had open, and its lock is broken. So nobody waits for the 30 s after which Ceph forgets a dead client.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import rados

from .cluster import Cluster
from .errors import Refused
from .fencing import cut_off

_POLL = 0.02  # seconds
_LOOK_EVERY = 0.5  # seconds between two questions whether the owner lives
_MOST_ADDRESS = 256


@contextmanager
def held(cluster: Cluster, *names: str, seconds: float) -> Iterator[None]:
    """Hold the locks of some objects.

    Args:
        cluster: where.
        names: of what; taken in one order by everybody, so that no two wait for each other.
        seconds: how long to wait for them.

    Raises:
        Refused: "busy".
    """
    until = time.monotonic() + seconds
    with ExitStack() as stack:
        for name in sorted(set(names)):
            stack.enter_context(_held(cluster, name, until))
        yield


@contextmanager
def _held(cluster: Cluster, name: str, until: float) -> Iterator[None]:
    place = f"bollard.{cluster.owner}.lock.{hashlib.sha256(name.encode()).hexdigest()[:32]}"
    look = time.monotonic()
    while not _taken(cluster, place):
        if time.monotonic() >= until:
            raise Refused("busy", f"another call works on {name.partition(':')[2]}")
        if time.monotonic() >= look:
            _break_if_dead(cluster, place)
            look = time.monotonic() + _LOOK_EVERY
        time.sleep(_POLL)
    try:
        yield
    finally:
        with rados.WriteOpCtx() as operation:
            operation.remove()
            cluster.operate(operation, place)


def _taken(cluster: Cluster, place: str) -> bool:
    with rados.WriteOpCtx() as operation:
        operation.new(rados.LIBRADOS_CREATE_EXCLUSIVE)
        operation.write_full(cluster.address.encode())
        try:
            cluster.operate(operation, place)
        except rados.ObjectExists:
            return False
        return True


def _break_if_dead(cluster: Cluster, place: str) -> None:
    try:
        owner = cluster.io.read(place, _MOST_ADDRESS).decode()
        version = cluster.io.get_last_version()
    except rados.ObjectNotFound:
        return
    if owner != cluster.address:  # ours is what a request of ours left that lost its answer
        if owner in cluster.sessions():
            return
        cut_off(cluster, [owner])
    with rados.WriteOpCtx() as operation:
        operation.assert_version(version)
        operation.remove()
        try:
            cluster.operate(operation, place)
        except rados.Error:
            return  # another one broke it, and may hold it by now
