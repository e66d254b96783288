"""Who may use a volume: a cephx user of its own for each volume and host.

    client.bollard.OWNER.IMAGE-ID.HOST      may touch rbd_header.IMAGE-ID, rbd_data.IMAGE-ID.*, ...

- Object prefixes carry the image's id, which never comes again: a key that a host kept opens no later volume.
  Namespaces would isolate as well, but an adopted image cannot move into one.
- A clone reads what it has not copied from its parent, so whoever opens it must read all of the parent. A
  template's seed may be read by everybody who has a volume of it; what is needed of any other parent is
  copied (flattened) before the first grant.
- A writer may damage its own image's header, and so may a reader, see `_osd_caps`.
"""

from __future__ import annotations

import errno
from typing import Any

from . import images
from .errors import Refused
from .fencing import blocklisted, cut_off
from .records import Record
from .snapshots import record_of
from .volumes import Pool, key_of, ready, settled

_READER = "SNAPSHOTS"  # no host's id has capitals
_READ = "r class-read"
_NAMES = ("rbd_directory", "rbd_trash")
_ROUNDS = 10


def grant(pool: Pool, volume: str, host: str, read_only: bool) -> dict[str, Any]:  # noqa: FBT001 - by name, from JSON
    """Let a host in; return how it gets there."""
    with pool.locked(f"volume:{volume}"):
        record = settled(pool, volume)
        grants = dict(pool.records.scan(f"g/{volume}/"))
        _require_compatible(record, grants, volume, host, read_only)
        seed = _own_bytes(pool, record)
        entity = _entity(pool, record, host)
        pool.records.put({f"g/{volume}/{host}": {"read_only": read_only, "entity": entity}})
        key = _key(pool, entity, record, seed, read_only=read_only)
        return _reached(record, entity, key) | {"size": record["size"]}


def _require_compatible(
    record: Record,
    grants: dict[str, Record],
    volume: str,
    host: str,
    read_only: bool,  # noqa: FBT001 - as above
) -> None:
    if "sealed" in record and not read_only:
        raise Refused("permission_denied", "a sealed template is not given out for writing")
    if host in grants and grants[host]["read_only"] != read_only:
        raise Refused("conflict", f"volume {volume} is granted to host {host} with the other read_only")
    others = [name for name, other in grants.items() if name != host and not other["read_only"]]
    if others and not read_only:
        raise Refused("in_use", f"volume {volume} is granted to host {others[0]}")


def _own_bytes(pool: Pool, record: Record) -> str:
    """Make sure that a volume needs nothing but its template; return the seed's image id, or nothing."""
    with images.opened(pool.cluster, record["image"], read_only=True) as image:
        parent = images.parent_of(image)
    if not parent:
        return ""
    if record["origin"].startswith("template:"):
        return parent
    with images.opened(pool.cluster, record["image"]) as image:
        image.flatten()
    images.empty_trash(pool.cluster, pool.records)
    return ""


def _entity(pool: Pool, record: Record, host: str) -> str:
    return f"client.bollard.{pool.cluster.owner}.{record['identity']}.{host}"


def _reached(record: Record, entity: str, key: str) -> dict[str, Any]:
    return {"image": record["image"], "user": entity.removeprefix("client."), "key": key}


def _key(pool: Pool, entity: str, record: Record, seed: str, *, read_only: bool) -> str:
    # `profile rbd` lets a writer blocklist its own dead predecessor, whose lock it must break.
    monitors = "allow r" if read_only else "profile rbd"
    caps = ["mon", monitors, "osd", _osd_caps(pool.cluster.pool, record, seed, read_only=read_only)]
    try:
        made = pool.cluster.mon("auth get-or-create", entity=entity, caps=caps)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        pool.cluster.mon("auth caps", entity=entity, caps=caps)  # it needed its parent before
        made = pool.cluster.mon("auth get", entity=entity)
    return str(made[0]["key"])


def _osd_caps(pool: str, record: Record, seed: str, *, read_only: bool) -> str:
    """Return what a host may do; a prefix ends where another image's name could not go on with it."""
    allowed = {"rbd_info": _READ, f"rbd_id.{record['image']}": _READ}
    allowed |= dict.fromkeys(_objects(record["identity"]), _READ if read_only else "rwx")
    if read_only:
        # QEMU opens every image as if to write, which registers a watch, which needs `w` on the header.
        allowed[_header(record["identity"])] = "rw class-read"
    if seed:
        # A parent is opened by its id, and librbd asks for its name: so a host can list the names of images.
        allowed |= dict.fromkeys(_objects(seed), _READ) | dict.fromkeys(_NAMES, "class-read")
    return ", ".join(f"allow {what} pool={pool} object_prefix {prefix}" for prefix, what in allowed.items())


def _header(number: str) -> str:
    return f"rbd_header.{number}"


def _objects(number: str) -> list[str]:
    return [_header(number), f"rbd_object_map.{number}", f"rbd_data.{number}."]


def locate_snapshot(pool: Pool, snapshot: str) -> dict[str, Any]:
    """Return how to read a snapshot: as a user of the volume's that may write nothing."""
    found = record_of(pool, snapshot)
    with pool.locked(f"volume:{found['volume']}"):
        record = settled(pool, found["volume"])
        seed = _own_bytes(pool, record)
        entity = _entity(pool, record, _READER)
        if "readers" not in record:
            record = {**record, "readers": [entity]}
            pool.records.put({key_of(found["volume"]): record})
        key = _key(pool, entity, record, seed, read_only=True)
        return _reached(record, entity, key) | {"snapshot": snapshot, "size": found["size"]}


def list_grants(pool: Pool, volume: str) -> list[dict[str, Any]]:
    """Return who may use a volume."""
    ready(pool, volume)
    found = pool.records.scan(f"g/{volume}/")
    return [{"host": host, "read_only": record["read_only"]} for host, record in found]


def revoke(pool: Pool, volume: str, host: str) -> None:
    """Shut a host out; see fencing.py for what makes it certain."""
    if pool.records.get(f"g/{volume}/{host}") is None:
        return
    with pool.locked(f"volume:{volume}"):
        granted = pool.records.get(f"g/{volume}/{host}")
        if granted is None:
            return
        record = ready(pool, volume)
        pool.cluster.mon("auth rm", entity=granted["entity"])
        for _ in range(_ROUNDS):
            users = _users(pool, record, granted) - blocklisted(pool.cluster)
            if not users:
                break
            cut_off(pool.cluster, users)
        else:
            raise Refused("busy", f"host {host} comes back as fast as it is cut off", "unknown")
        pool.records.put({f"g/{volume}/{host}": None})


def _users(pool: Pool, record: Record, granted: Record) -> set[str]:
    """Return the addresses from where a grant is, or may be, used.

    A watcher of the image has it open for writing. One without a session is a client that died or was cut
    from the monitors, and nobody knows whose; there is one writer, so it is the writer's.
    """
    sessions = pool.cluster.sessions()
    with images.opened(pool.cluster, record["image"], read_only=True) as image:
        watchers = {str(watcher["addr"]) for watcher in image.watchers_list()}
    unknown = set() if granted["read_only"] else {a for a in watchers if a not in sessions}
    return {address for address, entity in sessions.items() if entity == granted["entity"]} | unknown
