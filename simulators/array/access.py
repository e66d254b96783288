"""Who may reach which volume: initiators, groups of them, grants, and the decision at the NBD door."""

from __future__ import annotations

import hashlib
import hmac
import sqlite3
from dataclasses import dataclass

from . import rules
from .core import Core, Json, Query, new_id
from .defects import Defect
from .errors import ArrayError, invalid, not_found
from .jobs import Jobs

_GRANTED = (
    "SELECT * FROM grants WHERE volume = ? AND (initiator = ? OR grp IN"
    " (SELECT grp FROM members WHERE initiator = ?))"
)


def export_name(serial: str, iqn: str, chap_secret: str) -> str:
    """The NBD export name that an initiator presents for a volume.

    The secret itself never travels; whoever sees the name can use it as long as the grant stands, as with a
    recorded CHAP login that a target would accept again.
    """
    proof = hmac.new(chap_secret.encode(), f"{serial}:{iqn}".encode(), hashlib.sha256).hexdigest()
    return f"{serial}:{iqn}:{proof}"


@dataclass(frozen=True, slots=True)
class Admission:
    """An initiator that was let in."""

    volume_id: str
    read_only: bool


class Access:
    """Initiators, groups and grants. Kicking sessions is the caller's work, after these return."""

    def __init__(self, core: Core) -> None:
        self._core = core

    # -- initiators ------------------------------------------------------------------------------------------

    def initiator(self, initiator_id: str) -> Json:
        """One initiator, without its secret."""
        return self._show_initiator(self._core.find("initiators", initiator_id))

    def initiators(self, arguments: dict[str, str]) -> Json:
        """All initiators, or the one with an IQN."""
        return self._core.page(
            "initiators", Query(arguments, {"iqn": "iqn", "name": "name"}), self._show_initiator
        )

    def _show_initiator(self, row: sqlite3.Row) -> Json:
        groups = self._core.db.all("SELECT grp FROM members WHERE initiator = ?", row["id"])
        shown = {key: row[key] for key in ("id", "iqn", "name", "chap_user")}
        return {**shown, "groups": [group["grp"] for group in groups], "created_at": row["created"]}

    def add_initiator(self, body: Json) -> Json:
        """Register a host."""
        rules.check_keys(body, ("iqn", "chap_user", "chap_secret"), ("name",))
        core, initiator_id, iqn = self._core, new_id("ini"), rules.iqn(body)
        name = rules.name(body) if "name" in body else initiator_id
        user, secret = rules.name(body, "chap_user"), self._secret(body)
        with core.db.transaction():
            if core.db.one("SELECT 1 FROM initiators WHERE iqn = ?", iqn):
                raise ArrayError("name_exists", f"initiator {iqn} is registered", "iqn")
            core.db.run(
                "INSERT INTO initiators (id, iqn, name, chap_user, chap_secret, created)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                *(initiator_id, iqn, name, user, secret, core.now()),
            )
            return self.initiator(initiator_id)

    def update_initiator(self, initiator_id: str, body: Json) -> Json:
        """Rotate the CHAP credentials or rename."""
        rules.check_keys(body, (), ("chap_user", "chap_secret", "name"))
        core = self._core
        with core.db.transaction():
            row = core.find("initiators", initiator_id)
            name = rules.name(body) if "name" in body else row["name"]
            user = rules.name(body, "chap_user") if "chap_user" in body else row["chap_user"]
            secret = self._secret(body) if "chap_secret" in body else row["chap_secret"]
            if Defect.CHAP_ROTATION_IGNORED in core.defects:
                user, secret = row["chap_user"], row["chap_secret"]
            core.db.run(
                "UPDATE initiators SET name = ?, chap_user = ?, chap_secret = ? WHERE id = ?",
                *(name, user, secret, initiator_id),
            )
            return self.initiator(initiator_id)

    def _secret(self, body: Json) -> str:
        return rules.chap_secret(body, echo=Defect.PASSWORD_ECHOED_IN_ERROR in self._core.defects)

    def remove_initiator(self, initiator_id: str) -> None:
        """Forget a host that nothing is granted to."""
        db = self._core.db
        with db.transaction():
            self._core.find("initiators", initiator_id)
            granted = (
                "SELECT COUNT(*) FROM grants WHERE initiator = ?"
                " OR grp IN (SELECT grp FROM members WHERE initiator = ?)"
            )
            if db.number(granted, initiator_id, initiator_id):
                raise ArrayError("in_use", f"initiator {initiator_id} has grants")
            db.run("DELETE FROM members WHERE initiator = ?", initiator_id)
            db.run("DELETE FROM initiators WHERE id = ?", initiator_id)

    # -- groups ----------------------------------------------------------------------------------------------

    def group(self, group_id: str) -> Json:
        """One group."""
        return self._show_group(self._core.find("groups", group_id))

    def groups(self, arguments: dict[str, str]) -> Json:
        """All groups, or the one of a name."""
        return self._core.page("groups", Query(arguments, {"name": "name"}), self._show_group)

    def _show_group(self, row: sqlite3.Row) -> Json:
        members = self._core.db.all("SELECT initiator FROM members WHERE grp = ?", row["id"])
        initiators = [member["initiator"] for member in members]
        return {"id": row["id"], "name": row["name"], "initiators": initiators, "created_at": row["created"]}

    def add_group(self, body: Json) -> Json:
        """Make a group of registered initiators."""
        rules.check_keys(body, ("name", "initiators"))
        core, group_id, name = self._core, new_id("igrp"), rules.name(body)
        with core.db.transaction():
            if core.db.one("SELECT 1 FROM groups WHERE name = ?", name):
                raise ArrayError("name_exists", f"there is a group {name!r}", "name")
            core.db.run("INSERT INTO groups (id, name, created) VALUES (?, ?, ?)", group_id, name, core.now())
            self._set_members(group_id, body)
            return self.group(group_id)

    def update_group(self, group_id: str, body: Json) -> tuple[Json, list[tuple[str, str]]]:
        """Replace the members; also returns the (serial, iqn) pairs whose sessions must be kicked."""
        rules.check_keys(body, ("initiators",))
        core = self._core
        with core.db.transaction():
            core.find("groups", group_id)
            before = self._reach(group_id)
            self._set_members(group_id, body)
            after = self._reach(group_id)
            return self.group(group_id), sorted(before - after)

    def _set_members(self, group_id: str, body: Json) -> None:
        chosen = rules.texts(body, "initiators", 256)
        for initiator in chosen:
            self._core.find("initiators", initiator, "initiators")
        self._core.db.run("DELETE FROM members WHERE grp = ?", group_id)
        self._core.db.run_many("INSERT INTO members VALUES (?, ?)", [(group_id, one) for one in chosen])

    def _reach(self, group_id: str) -> set[tuple[str, str]]:
        """The (serial, iqn) pairs that a group's grants connect."""
        rows = self._core.db.all(
            "SELECT v.serial, i.iqn FROM grants g JOIN volumes v ON v.id = g.volume"
            " JOIN members m ON m.grp = g.grp JOIN initiators i ON i.id = m.initiator WHERE g.grp = ?",
            group_id,
        )
        return {(row["serial"], row["iqn"]) for row in rows}

    def remove_group(self, group_id: str) -> None:
        """Forget a group that nothing is granted to."""
        db = self._core.db
        with db.transaction():
            self._core.find("groups", group_id)
            if db.number("SELECT COUNT(*) FROM grants WHERE grp = ?", group_id):
                raise ArrayError("in_use", f"group {group_id} has grants")
            db.run("DELETE FROM members WHERE grp = ?", group_id)
            db.run("DELETE FROM groups WHERE id = ?", group_id)

    # -- the door --------------------------------------------------------------------------------------------

    def admit(self, name: str) -> Admission | None:
        """Whether an export name opens a volume; None for every kind of no."""
        serial, _, rest = name.partition(":")
        iqn, _, _proof = rest.rpartition(":")
        db = self._core.db
        volume = db.one("SELECT * FROM volumes WHERE serial = ? ORDER BY seq DESC", serial)
        initiator = db.one("SELECT * FROM initiators WHERE iqn = ?", iqn)
        if volume is None or initiator is None or not self._proven(name, serial, initiator):
            return None
        grants = self._grants_for(volume["id"], initiator["id"])
        if not grants:
            return None
        read_only = all(grant["read_only"] for grant in grants)
        if Defect.EXPORT_SHOWS_OTHER_VOLUME in self._core.defects:
            newest = "SELECT * FROM volumes WHERE pool = ? ORDER BY seq DESC LIMIT 1"
            volume = db.one(newest, volume["pool"]) or volume
        return Admission(volume["id"], read_only and Defect.READ_ONLY_IGNORED not in self._core.defects)

    def _proven(self, name: str, serial: str, initiator: sqlite3.Row) -> bool:
        expected = export_name(serial, initiator["iqn"], initiator["chap_secret"])
        matches = hmac.compare_digest(expected.encode(), name.encode(errors="replace"))
        return matches or Defect.CHAP_NOT_CHECKED in self._core.defects

    def _grants_for(self, volume_id: str, initiator_id: str) -> list[sqlite3.Row]:
        if Defect.GRANT_EVERYONE in self._core.defects:
            return self._core.db.all("SELECT * FROM grants WHERE volume = ?", volume_id)
        return self._core.db.all(_GRANTED, volume_id, initiator_id, initiator_id)


class Grants:
    """Which initiator or group may reach a volume, and what a host must know to do so.

    Args:
        host: where the volumes are exported.
        port: idem.
        tls: hosts must use STARTTLS.
    """

    def __init__(self, core: Core, jobs: Jobs, host: str, port: int, *, tls: bool) -> None:
        self._core = core
        self._jobs = jobs
        self._door = {"protocol": "nbd", "host": host, "port": port, "tls": tls}

    def search(self, volume_id: str, arguments: dict[str, str]) -> Json:
        """The grants of a volume."""
        self._core.find("volumes", volume_id)
        query = Query(arguments, {"initiator": "initiator", "group": "grp"}).where("volume = ?", volume_id)
        return self._core.page("grants", query, self._show)

    def add(self, volume_id: str, body: Json) -> tuple[Json, bool]:
        """Grant a volume; also returns whether the grant is new."""
        rules.check_keys(body, (), ("initiator", "group", "read_only"))
        if ("initiator" in body) == ("group" in body):
            raise invalid("initiator", "give either initiator or group")
        kind, column = ("initiator", "initiator") if "initiator" in body else ("group", "grp")
        core, holder, read_only = self._core, rules.text(body, kind), rules.flag(body, "read_only")
        with core.db.transaction():
            core.find("volumes", volume_id)
            self._jobs.refuse_busy(volume_id)
            core.find("initiators" if kind == "initiator" else "groups", holder, kind)
            same = f"SELECT * FROM grants WHERE volume = ? AND {column} = ?"  # noqa: S608 - one of two constants
            existing = core.db.one(same, volume_id, holder)
            if existing is not None and Defect.GRANT_DUPLICATED not in core.defects:
                if bool(existing["read_only"]) != read_only:
                    raise ArrayError("grant_exists", f"granted to {holder} otherwise", "read_only")
                return self._show(existing), False
            return self._insert(volume_id, column, holder, read_only=read_only), True

    def _insert(self, volume_id: str, column: str, holder: str, *, read_only: bool) -> Json:
        core, grant_id = self._core, new_id("grant")
        if core.db.number("SELECT COUNT(*) FROM grants WHERE volume = ?", volume_id) >= rules.MAX_GRANTS:
            raise ArrayError("limit_exceeded", f"volume {volume_id} has {rules.MAX_GRANTS} grants")
        statement = f"INSERT INTO grants (id, volume, {column}, read_only, created) VALUES (?, ?, ?, ?, ?)"  # noqa: S608 - idem
        core.db.run(statement, grant_id, volume_id, holder, read_only, core.now())
        return self._show(core.find("grants", grant_id))

    def remove(self, volume_id: str, grant_id: str) -> list[tuple[str, str]]:
        """Take a grant back; returns the (serial, iqn) pairs to kick before answering."""
        core = self._core
        with core.db.transaction():
            volume = core.find("volumes", volume_id)
            grant = core.find("grants", grant_id)
            if grant["volume"] != volume_id:
                raise not_found("grant", grant_id)
            if Defect.REVOKE_SAYS_OK_DOES_NOTHING in core.defects:
                return []
            holders = core.db.all(
                "SELECT iqn FROM initiators WHERE id = ?"
                " OR id IN (SELECT initiator FROM members WHERE grp = ?)",
                *(grant["initiator"], grant["grp"]),
            )
            core.db.run("DELETE FROM grants WHERE id = ?", grant_id)
        if Defect.REVOKE_KEEPS_SESSIONS in core.defects:
            return []
        return [(volume["serial"], holder["iqn"]) for holder in holders]

    def _show(self, row: sqlite3.Row) -> Json:
        serial = self._core.find("volumes", row["volume"])["serial"]
        connection = {**self._door, "serial": serial}
        return {
            **{key: row[key] for key in ("id", "volume", "initiator")},
            "group": row["grp"],
            "read_only": bool(row["read_only"]),
            "created_at": row["created"],
            "connection": connection,
        }
