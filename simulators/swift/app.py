"""The HTTP face of the simulated Swift: which request goes where."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from urllib.parse import unquote

from flask import Flask, Request, Response, abort, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from ..defects import defects_view
from . import headers as head
from . import listing, read, slo
from .auth import TempAuth
from .defects import SwiftDefects
from .index import ObjectKey
from .store import Store
from .write import MAX_OBJECT_BYTES, Writer, bulk_reply

MAX_BULK_DELETES = 10_000
MAX_BULK_BYTES = 16 * 1024 * 1024

_METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE", "COPY"]


class SwiftApp:
    """Requests of accounts, containers and objects.

    Args:
        store: the durable state.
        auth: who may do what.
        defects: what goes wrong.
        pause: waits so many seconds (the defect ``latency``); returns early when the server stops.
    """

    def __init__(
        self, store: Store, auth: TempAuth, defects: SwiftDefects, pause: Callable[[float], object]
    ) -> None:
        self._store = store
        self._auth = auth
        self._defects = defects
        self._pause = pause
        self._writer = Writer(store, defects)

    def flask(self) -> Flask:
        """The WSGI application."""
        app = Flask(__name__, static_folder=None)
        app.url_map.merge_slashes = False  # "a//b" is an object name like any other
        app.add_url_rule("/info", view_func=_info, methods=["GET"])
        app.add_url_rule("/auth/v1.0", view_func=lambda: self._auth.sign_in(request), methods=["GET"])
        app.add_url_rule("/sim/defects", view_func=defects_view(self._defects), methods=["GET", "PUT"])
        app.add_url_rule(
            "/v1/<path:path>", view_func=self._dispatch, methods=_METHODS, provide_automatic_options=False
        )
        app.before_request(self._misbehave)
        app.after_request(_with_ids)
        app.register_error_handler(HTTPException, _plain_error)
        return app

    def _misbehave(self) -> Response | None:
        if request.path.startswith("/sim/"):
            return None
        if self._defects.latency:
            self._pause(self._defects.latency)
        if self._defects.token_expires_now:
            self._store.index.drop_tokens()
            self._defects.update({"token_expires_now": False})
        if self._defects.take("unavailable"):
            return Response("Service Unavailable", 503, {"Retry-After": "0"})
        return None

    def _dispatch(self, path: str) -> Response:
        account, container, name = (*path.split("/", 2), "", "")[:3]
        self._auth.check(request, account)
        if "\0" in path or len(container.encode()) > 256 or len(name.encode()) > 1024:
            abort(400, "a name is longer than 256 (container) or 1024 (object) bytes, or holds a NUL")
        self._store.expire()
        if name:
            return self._object(request, (account, container, name))
        if container:
            return self._container(request, account, container)
        return self._account(request, account)

    def _object(self, request: Request, key: ObjectKey) -> Response:
        match request.method:
            case "GET" | "HEAD":
                return read.get(self._store, self._defects, request, key)
            case "PUT":
                return self._writer.put(request, key)
            case "POST":
                return self._writer.post(request, key)
            case "DELETE":
                return self._writer.delete(request, key)
            case _:
                return self._writer.copy(request, key)

    def _container(self, request: Request, account: str, name: str) -> Response:
        match request.method:
            case "GET" | "HEAD":
                return self._list_container(request, account, name)
            case "PUT" | "POST":
                return self._put_container(request, account, name)
            case "DELETE":
                return self._delete_container(account, name)
            case _:
                raise MethodNotAllowed

    def _list_container(self, request: Request, account: str, name: str) -> Response:
        now = self._store.clock()
        container = self._store.index.container(account, name, now)
        if container is None:
            abort(404)
        headers = {
            **container.headers,
            "X-Container-Object-Count": str(container.count),
            "X-Container-Bytes-Used": str(container.used_bytes),
            "X-Timestamp": f"{container.created:.5f}",
            "X-Storage-Policy": "Policy-0",
        }
        if request.method == "HEAD":
            return Response("", 204, headers)
        query = listing.Query.of(request)
        records = self._store.index.listed(account, name, now, query.prefix, query.marker)
        return listing.reply(listing.page(map(listing.object_entry, records), query), query, headers)

    def _put_container(self, request: Request, account: str, name: str) -> Response:
        if request.method == "POST" and not self._store.index.has_container(account, name):
            abort(404)
        given = head.metadata(request, "Container")
        made = self._store.index.put_container(account, name, self._store.clock(), given)
        if request.method == "POST":
            return Response("", 204)
        return Response("", 201 if made else 202)

    def _delete_container(self, account: str, name: str) -> Response:
        index = self._store.index
        with index.transaction():
            if not index.has_container(account, name):
                abort(404)
            if index.holds_objects(account, name, self._store.clock()):
                abort(409, "There was a conflict when trying to complete your request.")
            index.delete_container(account, name)
        return Response("", 204)

    def _account(self, request: Request, account: str) -> Response:
        if request.method in ("POST", "DELETE") and "bulk-delete" in request.args:
            return self._bulk_delete(request, account)
        if request.method not in ("GET", "HEAD"):
            abort(405)
        containers = self._store.index.containers(account, self._store.clock())
        headers = {
            "X-Account-Container-Count": str(len(containers)),
            "X-Account-Object-Count": str(sum(container.count for container in containers)),
            "X-Account-Bytes-Used": str(sum(container.used_bytes for container in containers)),
        }
        if request.method == "HEAD":
            return Response("", 204, headers)
        query = listing.Query.of(request)
        return listing.reply(listing.page(map(listing.container_entry, containers), query), query, headers)

    def _bulk_delete(self, request: Request, account: str) -> Response:
        if (request.content_length or 0) > MAX_BULK_BYTES:
            abort(413)
        lines = [unquote(line.strip()).strip("/") for line in request.get_data(as_text=True).splitlines()]
        if len(lines) > MAX_BULK_DELETES:
            abort(413, f"Maximum Bulk Deletes: {MAX_BULK_DELETES} per request")
        keys = [(account, *line.partition("/")[::2]) for line in lines if "/" in line]
        return bulk_reply(request, [self._writer.remove(key) for key in keys])


def _info() -> Response:
    """What this cluster can do, in Swift's words."""
    answer = {
        "swift": {
            "version": "2.38.3",
            "max_file_size": MAX_OBJECT_BYTES,
            "container_listing_limit": listing.LIMIT,
            "max_object_name_length": 1024,
            "max_container_name_length": 256,
            "policies": [{"name": "Policy-0", "default": True}],
        },
        "slo": {
            "max_manifest_segments": slo.MAX_SEGMENTS,
            "max_manifest_size": slo.MAX_MANIFEST_BYTES,
            "min_segment_size": 1,
        },
        "bulk_delete": {"max_deletes_per_request": MAX_BULK_DELETES, "max_failed_deletes": 1000},
        "tempauth": {"account_acls": False},
    }
    return Response(json.dumps(answer), content_type="application/json; charset=UTF-8")


def _with_ids(response: Response) -> Response:
    transaction = "tx" + uuid.uuid4().hex[:21]
    response.headers["X-Trans-Id"] = response.headers["X-Openstack-Request-Id"] = transaction
    return response


def _plain_error(error: HTTPException) -> Response:
    if isinstance(error.response, Response):
        return error.response
    return Response(f"{error.description}\n", error.code, content_type="text/plain; charset=utf-8")
