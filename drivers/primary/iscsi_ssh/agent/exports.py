"""Who may use a volume: one target per volume and host, so that nothing of one host's is another's.

    iqn.2026-01.org.bollard:OWNER:VOLUME:SERIAL:HOST        LUN 1 = the volume's file
        account   the host's CHAP user, and no other        ACL   the host's IQN, and no other

tgt ties an account to a target and not to an initiator: with one target for several hosts, each one's
password would open it under every allowed name. The serial keeps a host that missed a deletion from what
has the volume's id later. Read-only is a LUN's property on tgt; here it is the grant's.

    grant    grants/HOST.json -> account -> target, LUN -> CHAP -> ACL last          (the door opens)
    revoke   "revoking" -> ACL first -> kick, until tgtd deletes LUN and target -> account -> grants/HOST.json

tgtd refuses to delete a LUN while a command works on it, and a target while a session is on it; a session
stays as long as its commands run (tgt, conn.c). So the deletion proves that nothing is in flight.
"""

from __future__ import annotations

import hashlib
import time
from functools import partial
from pathlib import Path
from typing import Any

from .errors import Refused
from .extents import shared
from .files import names_in, read_json, remove_tree, sync, write_json
from .pool import Pool, checked
from .tgt import LUN_ACTIVE, NO_LUN, NO_TARGET, TARGET_ACTIVE, Target, TgtError

_PREFIX = "iqn.2026-01.org.bollard"
_PAUSE = 0.005  # seconds between looks at a target whose sessions end
_VENDOR = "BOLLARD"


def grant(
    pool: Pool, volume: str, host: str, iqn: str, user: str, secret: str, *, read_only: bool
) -> dict[str, Any]:
    """Let a host use a volume, and say where it finds it."""
    place, record = pool.existing_volume(volume), checked(host, "host")
    meta = read_json(place / "meta.json") or {}
    wanted = {"host": host, "iqn": iqn, "user": user, "read_only": read_only}
    _refuse_clash(pool, place, meta, wanted)
    _refuse_foreign_account(pool, user, host)
    file = place / "grants" / f"{record}.json"
    held = read_json(file)
    if held is None and not read_only:
        pool.require_space(partial(_yet_to_take, place / "data"))
    if held is not None and held != wanted:  # it is being revoked, or the host has another name by now
        revoke(pool, volume, host)
    write_json(file, wanted)
    _use_account(pool, volume, wanted, secret)
    sync(file.parent)
    _export(pool, place, meta, wanted)
    host_port, _, port = str(pool.described["portal"]).rpartition(":")
    size = (place / "data").stat().st_size
    target = _target_name(pool, meta, host)
    return {"target": target, "lun": 1, "portal": [host_port, int(port)], "size": size}


def _yet_to_take(data: Path) -> int:
    """Return the bytes that its writers may still take: of holes, and of blocks that others have, too."""
    found = data.stat()
    return found.st_size - found.st_blocks * 512 + shared(data)


def _refuse_clash(pool: Pool, place: Path, meta: dict[str, Any], wanted: dict[str, Any]) -> None:
    if meta["sealed"] and not wanted["read_only"]:
        raise Refused("permission_denied", f"volume {place.name} is a sealed template: grant it read-only")
    grants = {held["host"]: held for held in pool.grants(place)}
    ours = grants.pop(wanted["host"], wanted)
    if ours["read_only"] != wanted["read_only"]:
        raise Refused("conflict", f"host {ours['host']} has it with read_only = {ours['read_only']}")
    writers = [host for host, held in grants.items() if not held["read_only"]]
    if writers and not wanted["read_only"]:
        raise Refused("in_use", f"the volume is granted for writing to host {writers[0]}")


def revoke(pool: Pool, volume: str, host: str) -> None:
    """Take it away; returns when the host has neither session nor command nor a way in."""
    place = pool.volume(volume)
    file = place / "grants" / f"{checked(host, 'host')}.json"
    held = read_json(file)
    if held is None:
        return
    write_json(file, {**held, "revoking": True})
    meta = read_json(place / "meta.json") or {}
    remove_target(pool, _target_name(pool, meta, host))
    _leave_account(pool, volume, held["user"])
    file.unlink()
    sync(file.parent)


def list_grants(pool: Pool, volume: str) -> list[dict[str, Any]]:
    """Return who may use a volume; a host that is being revoked may, until that is done."""
    return pool.grants(pool.existing_volume(volume))


def rotate(pool: Pool, user: str, secret: str, host: str) -> None:
    """Change a CHAP secret; an account that nobody uses brings it with its next grant."""
    _refuse_foreign_account(pool, user, host)
    if read_json(_account(pool, user) / "account.json") is not None:
        _set_secret(pool, user, secret, host)


def restore(pool: Pool) -> None:
    """Finish what died half-way, and offer all grants again that tgtd has lost by a restart."""
    there = {target.name for target in pool.tgt.targets(f"{_PREFIX}:{pool.owner}:") if target.initiators}
    known = pool.tgt.accounts()
    for key in names_in(pool.home / "a"):
        place = pool.home / "a" / key
        account = read_json(place / "account.json")
        if account is not None and not (account["settled"] and account["user"] in known):
            _set_secret(pool, account["user"], account["secret"], account["host"])
        for volume in names_in(place / "uses"):
            if account is not None:
                _restore_grant(pool, volume, account, there)


def _restore_grant(pool: Pool, volume: str, account: dict[str, Any], there: set[str]) -> None:
    place = pool.volume(volume)
    meta, held = read_json(place / "meta.json"), _held(place, account)
    if meta is None or held is None:
        return
    if held.get("revoking"):
        revoke(pool, volume, held["host"])
    elif _target_name(pool, meta, held["host"]) not in there:
        _export(pool, place, meta, held)


def _held(place: Path, account: dict[str, Any]) -> dict[str, Any] | None:
    """Return the grant of a volume that an account is for."""
    held = read_json(place / "grants" / f"{account['host']}.json")
    return held if held is not None and held["user"] == account["user"] else None


def refresh_luns(pool: Pool, place: Path) -> None:
    """Let tgtd look at the size of a volume's file again."""
    meta = read_json(place / "meta.json") or {}
    for target in pool.tgt.targets(f"{_PREFIX}:{pool.owner}:{place.name}:{meta['serial']}:"):
        pool.tgt.update_lun(target.tid, f"online=0,path={place / 'data'},online=1")


# -- targets ----------------------------------------------------------------------------------------------


def _target_name(pool: Pool, meta: dict[str, Any], host: str) -> str:
    return f"{_PREFIX}:{pool.owner}:{meta['id']}:{meta['serial']}:{host}"


def _export(pool: Pool, place: Path, meta: dict[str, Any], held: dict[str, Any]) -> None:
    """Make the target what it must be; the ACL is bound last, and only to a target that is complete."""
    tgt, name, data = pool.tgt, _target_name(pool, meta, held["host"]), place / "data"
    target = tgt.find(name)
    if target is not None and not _is_of(target, data, meta["serial"], held):
        remove_target(pool, name)
        target = None
    if target is None:
        target = tgt.new_target(name)
        tgt.new_lun(target.tid, data)
        tgt.update_lun(target.tid, _lun_parameters(meta["serial"], read_only=held["read_only"]))
    if held["user"] not in target.accounts:
        tgt.bind_account(target.tid, held["user"])
    if held["iqn"] not in target.initiators:
        tgt.allow(target.tid, held["iqn"])


def _is_of(target: Target, data: Path, serial: str, held: dict[str, Any]) -> bool:
    """Tell whether the LUN is complete and nobody else may use it; what lets the host in can be added."""
    return (
        (target.lun, target.serial, target.read_only) == (str(data), serial, held["read_only"])
        and set(target.accounts) <= {held["user"]}
        and set(target.initiators) <= {held["iqn"]}
    )


def _lun_parameters(serial: str, *, read_only: bool) -> str:
    identity = f"scsi_sn={serial},scsi_id={serial},vendor_id={_VENDOR}"
    # Read-only first: until it is set the LUN could be written, if there were anybody to log in.
    return f"readonly={int(read_only)},thin_provisioning=1,{identity}"


def remove_target(pool: Pool, name: str) -> None:
    """Lock everybody out and end all sessions; returns when tgtd has the target no more."""
    while (target := pool.tgt.find(name)) is not None:
        for initiator in target.initiators:
            pool.tgt.forbid(target.tid, initiator)
        for session, connection in target.sessions:
            pool.tgt.kick(target.tid, session, connection)
        try:
            _delete(pool, target)
        except TgtError as error:
            if error.number not in (LUN_ACTIVE, TARGET_ACTIVE, NO_TARGET):
                raise
            time.sleep(_PAUSE)  # bounded by the request's own alarm


def _delete(pool: Pool, target: Target) -> None:
    try:
        pool.tgt.delete_lun(target.tid)
    except TgtError as error:
        if error.number != NO_LUN:
            raise
    pool.tgt.delete_target(target.tid)


# -- CHAP accounts ----------------------------------------------------------------------------------------
#
# tgtd's are global: one that is there and not in our books is somebody else's.


def _account(pool: Pool, user: str) -> Path:
    return pool.home / "a" / hashlib.sha256(user.encode()).hexdigest()[:32]


def _refuse_foreign_account(pool: Pool, user: str, host: str) -> None:
    account = read_json(_account(pool, user) / "account.json")
    if account is not None and account["host"] != host:
        raise Refused("conflict", f"this chap_user is that of host {account['host']}")
    if account is None and user in pool.tgt.accounts():
        raise Refused("conflict", "this chap_user is used by somebody else on the array")


def _use_account(pool: Pool, volume: str, held: dict[str, Any], secret: str) -> None:
    place = _account(pool, held["user"])
    (place / "uses").mkdir(mode=0o700, parents=True, exist_ok=True)
    (place / "uses" / volume).touch()
    account = read_json(place / "account.json")
    settled = account is not None and account["settled"] and account["secret"] == secret
    if not settled or held["user"] not in pool.tgt.accounts():
        _set_secret(pool, held["user"], secret, held["host"])


def _set_secret(pool: Pool, user: str, secret: str, host: str) -> None:
    """Replace an account in tgtd, and offer all that it opens again.

    A target without an account lets the initiator in without CHAP, so the ACLs go first. Sessions stay.
    """
    place = _account(pool, user)
    account = {"user": user, "secret": secret, "host": host, "settled": False}
    write_json(place / "account.json", account)
    for target in pool.tgt.targets(f"{_PREFIX}:{pool.owner}:"):
        if user in target.accounts:
            for initiator in target.initiators:
                pool.tgt.forbid(target.tid, initiator)
    pool.tgt.delete_account(user)
    pool.tgt.new_account(user, secret)
    for volume in names_in(place / "uses"):
        _restore_grant(pool, volume, account, set())
    write_json(place / "account.json", {**account, "settled": True})
    sync(place)


def _leave_account(pool: Pool, volume: str, user: str) -> None:
    """Forget that a volume needs an account, and the account with its last one."""
    place = _account(pool, user)
    (place / "uses" / volume).unlink(missing_ok=True)
    if place.exists() and not names_in(place / "uses"):
        if read_json(place / "account.json") is not None:
            pool.tgt.delete_account(user)
        remove_tree(place)
