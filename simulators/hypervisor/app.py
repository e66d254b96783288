"""The REST/JSON face of the simulated hypervisor cluster.

    GET    /info
    PUT    /hosts/H                       {initiator}
    POST   /hosts/H/state                 {state}
    PUT    /hosts/H/objects/KIND/ID       {address, identity, size}     introduce
    DELETE /hosts/H/objects/KIND/ID                                     forget
    GET    /hosts/H/objects, /hosts/H/devices
    PUT    /vms/V                         {host, agent, disks}
    PUT    /vms/V/disks/D                 {address | object, offset, slots}
    POST   /vms/V/disks/D/resize          {size}
    POST   /vms/V/disks/D/merge           {top, base, dependents}
    POST   /vms/V/overlays                {overlays, quiesce}
    POST   /vms/V/images                  {overlays, bases}             of a stopped VM
    POST   /vms/V/migrate                 {host}
    POST   /vms/V/start, stop {force}, thaw, freeze {timeout_s}, write {blocks}, rate {blocks_per_s}
    PUT    /vms/V/files/D/F               {content}     GET /vms/V/files/D
    PUT    /vms/V/memory                  {content}
   PUT    /vms/V/note                    {text}                        of a running VM, until it ends
    GET    /vms/V/freeze, /vms/V/exports  what Hyper-V's exports cost
    PUT    /vms/V/snapshots/S             {memory, quiesce}
    POST   /vms/V/snapshots/S/revert
    PUT    /vms/V/register                {snapshots}
    GET, DELETE of what can be PUT; what is about backups stands in `backup_routes`

Errors are ``{"error": code, "message": text}``; DELETE of what is not there succeeds with 204.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from ..defects import defects_view
from .backup_routes import backup_routes
from .backups import Backups
from .bodies import View, body_of, gone, number_in, objects_in, ok, paths_in, text_in
from .defects import HypervisorDefects
from .errors import Refused
from .exports import Exports
from .guests import DEFAULT_FREEZE_S, Guests
from .hosts import Hosts
from .machines import Machines
from .overlays import Overlays
from .personality import Personality
from .snapshots import VmSnapshots

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # names become file names


class HypervisorApp:
    """Requests to a cluster."""

    def __init__(
        self,
        rules: Personality,
        hosts: Hosts,
        machines: Machines,
        guests: Guests,
        snapshots: VmSnapshots,
        overlays: Overlays,
        exports: Exports,
        backups: Backups,
        defects: HypervisorDefects,
    ) -> None:
        self._rules = rules
        self._hosts = hosts
        self._machines = machines
        self._guests = guests
        self._snapshots = snapshots
        self._overlays = overlays
        self._exports = exports
        self._backups = backups
        self._defects = defects

    def flask(self) -> Flask:
        """The WSGI application."""
        app = Flask(__name__, static_folder=None)
        app.config["MAX_CONTENT_LENGTH"] = 1024 * 1024
        routes = [*self._host_routes(), *self._vm_routes(), *self._snapshot_routes(), *self._image_routes()]
        routes += backup_routes(self._backups)
        for method, rule, view in routes:
            app.add_url_rule(rule, f"{method} {rule}", view, methods=[method])
        app.add_url_rule("/sim/defects", view_func=defects_view(self._defects), methods=["GET", "PUT"])
        app.before_request(self._before)
        app.register_error_handler(Refused, _refusal)
        app.register_error_handler(HTTPException, _http_error)
        return app

    def _before(self) -> None:
        for name in (request.view_args or {}).values():
            if not _NAME.fullmatch(name):
                raise Refused(400, "bad_request", "a name has up to 64 letters, digits and . _ -")
        if not request.path.startswith("/sim/") and self._defects.take("unavailable"):
            raise Refused(503, "unavailable", "try again")

    def _host_routes(self) -> list[tuple[str, str, View]]:
        hosts = self._hosts
        known = "/hosts/<host>/objects/<kind>/<name>"
        return [
            ("GET", "/info", lambda: ok({"personality": self._rules.name})),
            ("GET", "/hosts", lambda: ok(hosts.all())),
            ("GET", "/hosts/<host>", lambda host: ok(hosts.get(host))),
            ("PUT", "/hosts/<host>", lambda host: ok(hosts.put(host, text_in("initiator")))),
            ("POST", "/hosts/<host>/state", self._set_host_state),
            ("GET", "/hosts/<host>/objects", lambda host: ok(hosts.objects(host))),
            ("GET", "/hosts/<host>/devices", lambda host: ok(hosts.devices(host))),
            ("GET", known, lambda host, kind, name: ok(hosts.object(host, kind, name))),
            ("PUT", known, lambda host, kind, name: ok(hosts.introduce(host, kind, name, body_of()))),
            ("DELETE", known, self._forget),
        ]

    def _set_host_state(self, host: str) -> Response:
        state = self._hosts.set_state(host, text_in("state"))
        if state["state"] != "up":
            for vm in self._machines.host_gone(host, lost=state["state"] == "crashed"):
                self._backups.power_lost(vm)
        return ok(state)

    def _forget(self, host: str, kind: str, name: str) -> Response:
        return _gone(self._hosts.forget, host, kind, name, self._machines.uses)

    def _vm_routes(self) -> list[tuple[str, str, View]]:
        machines, guests = self._machines, self._guests
        return [
            ("GET", "/vms", lambda: ok(machines.all())),
            ("GET", "/vms/<vm>", lambda vm: ok(machines.show(vm))),
            ("PUT", "/vms/<vm>", lambda vm: ok(machines.put(vm, body_of()))),
            ("DELETE", "/vms/<vm>", lambda vm: _gone(machines.delete, vm)),
            ("PUT", "/vms/<vm>/disks/<disk>", lambda vm, disk: ok(machines.attach(vm, disk, body_of()))),
            ("DELETE", "/vms/<vm>/disks/<disk>", lambda vm, disk: _gone(machines.detach, vm, disk)),
            ("POST", "/vms/<vm>/start", lambda vm: ok(machines.start(vm))),
            ("PUT", "/vms/<vm>/note", lambda vm: ok(machines.note(vm, str(body_of().get("text", ""))))),
            ("POST", "/vms/<vm>/migrate", lambda vm: ok(machines.migrate(vm, text_in("host")))),
            ("POST", "/vms/<vm>/stop", self._stop),
            ("GET", "/vms/<vm>/exports", lambda vm: ok(self._exports.costs(vm))),
            ("POST", "/vms/<vm>/write", lambda vm: ok(guests.write(vm, int(number_in("blocks", 1))))),
            ("POST", "/vms/<vm>/rate", lambda vm: ok(machines.set_rate(vm, number_in("blocks_per_s", 0)))),
            ("GET", "/vms/<vm>/files/<disk>", lambda vm, disk: ok(guests.files(vm, disk))),
            ("PUT", "/vms/<vm>/files/<disk>/<name>", self._put_file),
            ("PUT", "/vms/<vm>/memory", lambda vm: ok(machines.remember(vm, text_in("content")))),
            ("POST", "/vms/<vm>/freeze", self._freeze),
            ("GET", "/vms/<vm>/freeze", lambda vm: ok(guests.state(vm))),
            ("POST", "/vms/<vm>/thaw", lambda vm: ok(guests.thaw(vm))),
        ]

    def _stop(self, vm: str) -> Response:
        stopped = self._machines.stop(vm, force=body_of().get("force") is not False)
        self._backups.power_lost(vm)
        self._exports.after("stop", vm)
        return ok(stopped)

    def _freeze(self, vm: str) -> Response:
        return ok(self._guests.freeze(vm, number_in("timeout_s", DEFAULT_FREEZE_S)))

    def _put_file(self, vm: str, disk: str, name: str) -> Response:
        return ok(self._guests.put_file(vm, disk, name, text_in("content")))

    def _image_routes(self) -> list[tuple[str, str, View]]:
        overlays = self._overlays
        return [
            ("POST", "/vms/<vm>/disks/<disk>/resize", self._resize),
            ("POST", "/vms/<vm>/disks/<disk>/merge", self._merge),
            (
                "POST",
                "/vms/<vm>/overlays",
                lambda vm: ok(
                    overlays.add(vm, paths_in("overlays"), quiesce=body_of().get("quiesce") is True)
                ),
            ),
            (
                "POST",
                "/vms/<vm>/images",
                lambda vm: ok(overlays.switch(vm, paths_in("overlays"), paths_in("bases"))),
            ),
        ]

    def _resize(self, vm: str, disk: str) -> Response:
        return ok(self._machines.resize(vm, disk, int(number_in("size", 0))))

    def _merge(self, vm: str, disk: str) -> Response:
        dependents = body_of().get("dependents", [])
        if not isinstance(dependents, list) or not all(isinstance(one, str) for one in dependents):
            raise Refused(400, "bad_request", "dependents is a list of paths")
        return ok(self._overlays.merge(vm, disk, text_in("top"), text_in("base"), dependents))

    def _snapshot_routes(self) -> list[tuple[str, str, View]]:
        snapshots = self._snapshots
        one = "/vms/<vm>/snapshots/<name>"
        return [
            ("GET", "/vms/<vm>/snapshots", lambda vm: ok(snapshots.all(vm))),
            ("GET", one, lambda vm, name: ok(snapshots.get(vm, name))),
            ("PUT", one, self._snapshot),
            ("DELETE", one, lambda vm, name: _gone(snapshots.delete, vm, name)),
            ("POST", f"{one}/revert", lambda vm, name: ok(snapshots.revert(vm, name))),
            ("PUT", "/vms/<vm>/register", lambda vm: ok(snapshots.register(vm, objects_in("snapshots")))),
        ]

    def _snapshot(self, vm: str, name: str) -> Response:
        body = body_of()
        memory, quiesce = body.get("memory") is True, body.get("quiesce") is True
        made = self._snapshots.create(vm, name, memory=memory, quiesce=quiesce)
        self._exports.after("snapshot", vm)
        return ok(made)


def _gone(remove: Callable[..., None], *what: object) -> Response:
    remove(*what)
    return gone()


def _refusal(error: Refused) -> Response:
    body = json.dumps({"error": error.code, "message": str(error)})
    return Response(body, error.status, content_type="application/json")


def _http_error(error: HTTPException) -> Response:
    return _refusal(Refused(error.code or 500, "bad_request", error.description or error.name))
