"""The table of endpoints: which call does what. docs/simulators-array.md describes them to clients."""

from __future__ import annotations

from flask import request

from .access import Access, Grants
from .core import Core, Json
from .defects import Defect, Defects
from .errors import ArrayError, invalid
from .exports import ArrayExports
from .http import Frame, Result, bearer_token, body, query
from .jobs import Jobs
from .logins import Logins
from .pools import Pools, system
from .rules import check_keys, texts
from .snapshots import Snapshots
from .volumes import Volumes


def add_system(frame: Frame, core: Core, logins: Logins, jobs: Jobs) -> None:
    """Sessions, system, pools, jobs."""
    pools = Pools(core)

    def logout() -> Result:
        logins.logout(bearer_token())
        return 204, None

    frame.add("POST", "/sessions", lambda: (201, logins.login(body())), login=False)
    frame.add("DELETE", "/sessions/current", logout)
    frame.add("GET", "/system", lambda: (200, system(core)))
    frame.add("GET", "/pools", lambda: (200, pools.search(query())))
    frame.add("GET", "/pools/<name>", lambda name: (200, pools.get(name)))
    frame.add("GET", "/jobs", lambda: (200, jobs.search(query())))
    frame.add("GET", "/jobs/<job>", lambda job: (200, jobs.get(job)))


def add_volumes(frame: Frame, core: Core, volumes: Volumes) -> None:
    """Volumes."""

    def delete(volume: str) -> Result:
        try:
            volumes.delete(volume)
        except ArrayError as error:
            raise core.missing_or_error(error) from error
        return 204, None

    frame.add("POST", "/volumes", lambda: (201, volumes.create(body())))
    frame.add("GET", "/volumes", lambda: (200, volumes.search(query())))
    frame.add("GET", "/volumes/<volume>", lambda volume: (200, volumes.get(volume)))
    frame.add("PATCH", "/volumes/<volume>", lambda volume: (200, volumes.update(volume, body())))
    frame.add("DELETE", "/volumes/<volume>", delete)
    frame.add("POST", "/volumes/<volume>/clone", lambda volume: (202, volumes.clone(volume, body())))
    frame.add("POST", "/volumes/<volume>/revert", lambda volume: (202, volumes.revert(volume, body())))


def add_snapshots(frame: Frame, core: Core, snapshots: Snapshots) -> None:
    """Snapshots."""

    def delete(snapshot: str) -> Result:
        try:
            snapshots.delete(snapshot)
        except ArrayError as error:
            raise core.missing_or_error(error) from error
        return 204, None

    of_volume = "/volumes/<volume>/snapshots"
    frame.add("POST", of_volume, lambda volume: (201, snapshots.create(volume, body())))
    frame.add("GET", of_volume, lambda volume: (200, snapshots.search(query(), volume)))
    frame.add("GET", "/snapshots", lambda: (200, snapshots.search(query())))
    frame.add("GET", "/snapshots/<snapshot>", lambda snapshot: (200, snapshots.get(snapshot)))
    frame.add("DELETE", "/snapshots/<snapshot>", delete)
    frame.add(
        "POST", "/snapshots/<snapshot>/clone", lambda snapshot: (202, snapshots.clone(snapshot, body()))
    )
    frame.add(
        "GET", "/snapshots/<snapshot>/changes", lambda snapshot: (200, snapshots.changes(snapshot, query()))
    )
    frame.add("POST", "/group-snapshots", lambda: (201, snapshots.create_group(body())))


def add_hosts(frame: Frame, access: Access, exports: ArrayExports) -> None:
    """Initiators and their groups."""

    def remove_initiator(initiator: str) -> Result:
        access.remove_initiator(initiator)
        return 204, None

    def update_group(group: str) -> Result:
        shown, gone = access.update_group(group, body())
        exports.kick_all(gone)
        return 200, shown

    def remove_group(group: str) -> Result:
        access.remove_group(group)
        return 204, None

    one, group = "/initiators/<initiator>", "/initiator-groups/<group>"
    frame.add("POST", "/initiators", lambda: (201, access.add_initiator(body())))
    frame.add("GET", "/initiators", lambda: (200, access.initiators(query())))
    frame.add("GET", one, lambda initiator: (200, access.initiator(initiator)))
    frame.add("PATCH", one, lambda initiator: (200, access.update_initiator(initiator, body())))
    frame.add("DELETE", one, remove_initiator)
    frame.add("POST", "/initiator-groups", lambda: (201, access.add_group(body())))
    frame.add("GET", "/initiator-groups", lambda: (200, access.groups(query())))
    frame.add("GET", group, lambda group: (200, access.group(group)))
    frame.add("PATCH", group, update_group)
    frame.add("DELETE", group, remove_group)


def add_grants(frame: Frame, core: Core, grants: Grants, exports: ArrayExports) -> None:
    """Grants and data sessions."""

    def add(volume: str) -> Result:
        grant, is_new = grants.add(volume, body())
        return (201 if is_new else 200), grant

    def remove(volume: str, grant: str) -> Result:
        try:
            exports.kick_all(grants.remove(volume, grant))
        except ArrayError as error:
            raise core.missing_or_error(error) from error
        return 204, None

    of_volume = "/volumes/<volume>/grants"
    frame.add("POST", of_volume, add)
    frame.add("GET", of_volume, lambda volume: (200, grants.search(volume, query())))
    frame.add("DELETE", of_volume + "/<grant>", remove)
    frame.add("GET", "/volumes/<volume>/sessions", lambda volume: (200, exports.sessions(volume)))
    frame.add("GET", "/data-sessions", lambda: (200, exports.sessions()))


def add_control(frame: Frame, defects: Defects) -> None:
    """The simulator's own switches."""

    def set_defects() -> Result:
        chosen = texts(check_keys(body(), ("active",)), "active", len(Defect))
        try:
            defects.replace(chosen)
        except ValueError as error:
            raise invalid("active", str(error)) from error
        return 200, _show_defects(defects)

    def set_latencies() -> Result:
        wanted = body()
        for endpoint, seconds in wanted.items():
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= 3600:
                raise invalid(endpoint, "must be seconds from 0 to 3600")
        defects.replace_latencies(wanted)
        return 200, defects.latencies()

    def stats() -> Result:
        if request.method == "DELETE":
            frame.reset_stats()
        return 200, frame.stats()

    frame.add_control("GET", "/sim/defects", lambda: (200, _show_defects(defects)))
    frame.add_control("PUT", "/sim/defects", set_defects)
    frame.add_control("GET", "/sim/latencies", lambda: (200, defects.latencies()))
    frame.add_control("PUT", "/sim/latencies", set_latencies)
    frame.add_control("GET", "/sim/stats", stats)
    frame.add_control("DELETE", "/sim/stats", stats)


def _show_defects(defects: Defects) -> Json:
    known = [{"name": d.label, "description": d.description, "field_bug": d.field_bug} for d in Defect]
    return {"active": sorted(defect.label for defect in defects.active()), "known": known}
