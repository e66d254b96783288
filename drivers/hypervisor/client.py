"""Talking to the cluster: a deadline on every request, typed errors with a true outcome.

Nothing is repeated here: core repeats what is worth it.
"""

from __future__ import annotations

import contextlib
import json
import ssl
from typing import Any
from urllib.parse import quote

from ...core.spi import Call, InvalidArgument, NotFound
from ..primary.array.transport import Exchanges, server_of, told_as_lost
from .answers import Json, Reply, content_of
from .options import SimulatedHypervisorOptions

_ALWAYS = {"User-Agent": "bollard", "Accept": "application/json", "Content-Type": "application/json"}


class ClusterClient:
    """The cluster's REST interface. Making one opens no connection.

    Raises:
        InvalidArgument: the url cannot be used.
    """

    def __init__(self, options: SimulatedHypervisorOptions) -> None:
        self._timeout = options.timeout
        # No authorities are loaded (100 ms): the simulator serves plain HTTP on this machine.
        no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._http = Exchanges(server_of(options.url, ("http",)), no_tls)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def get(self, path: str, call: Call) -> Any:
        """Read."""
        return self._send("GET", path, call)

    def put(self, path: str, call: Call, body: Json) -> Any:
        """Make."""
        return self._send("PUT", path, call, body)

    def post(self, path: str, call: Call, body: Json | None = None) -> Any:
        """Do."""
        return self._send("POST", path, call, body or {})

    def delete(self, path: str, call: Call) -> None:
        """Remove; fine if it is not there, or if what it would be part of is not there."""
        with contextlib.suppress(NotFound):
            self._send("DELETE", path, call)

    def _send(self, method: str, path: str, call: Call, body: Json | None = None) -> Any:
        seconds, what = call.remaining(self._timeout), f"{method} {path}"
        headers = {**_ALWAYS, "X-Request-Id": quote(call.request_id, safe="")[:128]}
        content = None if body is None else json.dumps(body).encode()
        with (
            told_as_lost(call, what, "the cluster", changes=method != "GET"),
            self._http.begin(method, path, headers, content, seconds=seconds, cancel=call.cancel) as answer,
        ):
            reply = Reply.of(method, answer.status, answer.headers, answer.read())
        return content_of(reply, what)


def path_of(*parts: str) -> str:
    """Return a path of the parts, whatever they contain.

    Raises:
        InvalidArgument: a part would lead out of its place.
    """
    if any(part in ("", ".", "..") for part in parts):
        raise InvalidArgument("an id is empty or a path")
    return "".join(f"/{quote(part, safe='')}" for part in parts)
