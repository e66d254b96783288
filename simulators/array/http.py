"""The frame around every REST call: request id, statistics, latency, throttle, session, retries, errors."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
import uuid
from collections import Counter
from collections.abc import Callable

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from .core import Core, Json
from .errors import STATUS, ArrayError
from .logins import Logins, Throttle

PREFIX = "/api/v1"
_MAX_BODY = 1024 * 1024
_KEY = re.compile(r"[\x21-\x7e]{1,128}")

_log = logging.getLogger(__name__)

Result = tuple[int, Json | None]
Handler = Callable[..., Result]


class Frame:
    """A Flask application with our conventions.

    Args:
        core: settings, defects and the database of idempotency keys.
        logins: checks tokens.
        stopping: set when the server stops; ends the waits for simulated latencies.
    """

    def __init__(self, core: Core, logins: Logins, stopping: threading.Event) -> None:
        self.calls = Counter[str]()
        self.app = Flask("bollard-array", static_folder=None)
        self.app.config["MAX_CONTENT_LENGTH"] = _MAX_BODY
        self._core = core
        self._logins = logins
        self._throttle = Throttle(core)
        self._stopping = stopping
        self._lock = threading.Lock()
        self.app.before_request(self._identify)
        self.app.after_request(self._finish)
        self.app.register_error_handler(ArrayError, _refusal)
        self.app.register_error_handler(HTTPException, _http_error)
        self.app.register_error_handler(Exception, _bug)

    def add(self, method: str, path: str, handler: Handler, *, login: bool = True) -> None:
        """Serve ``handler`` at an API path; path parameters become its arguments."""
        endpoint = f"{method} {re.sub('<[^>]+>', '{id}', path)}"

        def view(**parts: str) -> Response:
            self._enter(endpoint, login=login)
            if login and method == "POST" and "Idempotency-Key" in request.headers:
                return self._once(handler, parts)
            if method == "GET":
                with self._core.db.steady():
                    return _answer(*handler(**parts))
            return _answer(*handler(**parts))

        self.app.add_url_rule(
            PREFIX + path, endpoint, view, methods=[method], provide_automatic_options=False
        )

    def add_control(self, method: str, path: str, handler: Handler) -> None:
        """Serve the simulator's own control, behind HTTP Basic; neither counted nor delayed."""

        def view() -> Response:
            given = request.authorization
            if given is None or not self._logins.is_admin(given.username or "", given.password or ""):
                raise ArrayError("unauthenticated", "HTTP Basic with the administrator's name and password")
            return _answer(*handler())

        self.app.add_url_rule(
            path, f"{method} {path}", view, methods=[method], provide_automatic_options=False
        )

    def stats(self) -> dict[str, int]:
        """Calls per endpoint since the start or the last reset."""
        with self._lock:
            return dict(self.calls)

    def reset_stats(self) -> None:
        """Count from zero."""
        with self._lock:
            self.calls.clear()

    def _identify(self) -> None:
        wanted = request.headers.get("X-Request-Id", "")
        g.request_id = wanted if _KEY.fullmatch(wanted) else uuid.uuid4().hex

    def _enter(self, endpoint: str, *, login: bool) -> None:
        with self._lock:
            self.calls[endpoint] += 1
        self._stopping.wait(self._core.defects.latency(endpoint))
        self._throttle.admit()
        if login:
            self._logins.check(bearer_token())

    def _once(self, handler: Handler, parts: dict[str, str]) -> Response:
        """The first success of a key, now or again. Effect and record are one transaction."""
        key = request.headers["Idempotency-Key"]
        if not _KEY.fullmatch(key):
            raise ArrayError("invalid_argument", "Idempotency-Key: 1-128 printable characters")
        digest = hashlib.sha256(f"{request.path}\n".encode() + request.get_data()).hexdigest()
        db = self._core.db
        with db.transaction():
            row = db.one("SELECT * FROM idempotency WHERE key = ?", key)
            if row is None:
                status, body = handler(**parts)
                db.run("INSERT INTO idempotency VALUES (?, ?, ?, ?)", key, digest, status, json.dumps(body))
                return _answer(status, body)
        if row["request"] != digest:
            raise ArrayError("idempotency_key_reused", "the key belongs to another request")
        replay = _answer(row["status"], json.loads(row["body"]))
        replay.headers["Idempotent-Replay"] = "true"
        return replay

    def _finish(self, response: Response) -> Response:
        response.headers["X-Request-Id"] = g.request_id
        _log.info("%s %s %s -> %d", g.request_id, request.method, request.path, response.status_code)
        return response


def bearer_token() -> str:
    """The token of the present request. Raises unauthenticated without one."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token:
        raise ArrayError("unauthenticated", "log in at POST /sessions")
    return token.strip()


def body() -> Json:
    """The present request's JSON object, possibly empty."""
    data = request.get_data()
    try:
        value = json.loads(data) if data else {}
    except (ValueError, RecursionError) as error:
        raise ArrayError("invalid_argument", "the body is not JSON") from error
    if not isinstance(value, dict):
        raise ArrayError("invalid_argument", "the body must be a JSON object")
    return value


def query() -> dict[str, str]:
    """The present request's URL query; a repeated key counts once."""
    return request.args.to_dict()


def _answer(status: int, content: Json | None) -> Response:
    if content is None:
        return Response(status=status)
    return Response(json.dumps(content), status=status, mimetype="application/json")


def _refusal(error: ArrayError) -> Response:
    response = _answer(error.status, error.to_json())
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def _http_error(error: HTTPException) -> Response:
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.code or 500, "invalid_argument")
    return _answer(STATUS[code], ArrayError(code, error.name).to_json())


def _bug(error: Exception) -> Response:
    # Process edge: an unforeseen error must not take the server down. Its text may hold a secret, so it is
    # logged by type and place only.
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where is not None else "?"
    _log.error("%s: unexpected %s at %s", g.get("request_id"), type(error).__name__, place)
    return _answer(500, ArrayError("internal_error", "unexpected error").to_json())
