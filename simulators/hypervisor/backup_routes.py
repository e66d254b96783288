"""The part of the REST/JSON face that is about backups and checkpoints (see `app`).

POST   /vms/V/backups                 {device, checkpoint, since, quiesce}: begin
POST   /vms/V/backups/end             {device, keep}
GET    /vms/V/checkpoints             [{name, device, text}]
PUT    /vms/V/checkpoints             {checkpoints}                 {gone: [name]}
POST   /vms/V/checkpoints/delete      {device, name}
"""

from __future__ import annotations

from flask import Response

from .backups import Backups
from .bodies import View, body_of, gone, objects_in, ok, text_in
from .errors import Refused


def backup_routes(backups: Backups) -> list[tuple[str, str, View]]:
    """(method, rule, view) of each."""

    def begin(vm: str) -> Response:
        since = body_of().get("since")
        if since is not None and not isinstance(since, str):
            raise Refused(400, "bad_request", "since is a name or null")
        quiesce = body_of().get("quiesce") is True
        return ok(backups.begin(vm, text_in("device"), text_in("checkpoint"), since, quiesce=quiesce))

    def end(vm: str) -> Response:
        backups.end(vm, text_in("device"), keep=body_of().get("keep") is True)
        return gone()

    def delete(vm: str) -> Response:
        backups.delete(vm, text_in("device"), text_in("name"))
        return gone()

    return [
        ("POST", "/vms/<vm>/backups", begin),
        ("POST", "/vms/<vm>/backups/end", end),
        ("GET", "/vms/<vm>/checkpoints", lambda vm: ok(backups.all(vm))),
        ("PUT", "/vms/<vm>/checkpoints", lambda vm: ok(backups.restore(vm, objects_in("checkpoints")))),
        ("POST", "/vms/<vm>/checkpoints/delete", delete),
    ]
