"""Zenith's REST interface: one place that sends, logs in, and translates errors."""

import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from bollard.core.spi import (
    Busy,
    Call,
    Conflict,
    DeadlineExceeded,
    HasDependents,
    Internal,
    InUse,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Outcome,
    OutOfCapacity,
    PermissionDenied,
    StorageError,
    Unauthenticated,
    Unavailable,
)

from .options import ZenithOptions

BY_CODE: Mapping[str, type[StorageError]] = {
    "bad_credentials": Unauthenticated,
    "name_exists": Conflict,
    "grant_exists": Conflict,
    "idempotency_key_reused": Conflict,
    "in_use": InUse,
    "has_dependents": HasDependents,
    "busy": Busy,
    "limit_exceeded": LimitExceeded,
    "session_limit": Unavailable,
}
BY_STATUS: Mapping[int, type[StorageError]] = {
    400: InvalidArgument,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    429: Busy,
    507: OutOfCapacity,
}


class Rest:
    """A session with the array, made when it is first needed."""

    def __init__(self, options: ZenithOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._token: str | None = None

    def send(self, call: Call, method: str, path: str, body: object = None, **query: str | int | None) -> Any:
        """Return the answer's JSON; a session that has ended is renewed once."""
        asked = {key: value for key, value in query.items() if value is not None}
        target = f"/api/v1{path}" + (f"?{urlencode(asked)}" if asked else "")
        token = self._login(call)
        status, answer, headers = self._exchange(call, method, target, body, token)
        if status == 401:
            self._forget(token)
            status, answer, headers = self._exchange(call, method, target, body, self._login(call))
        if status >= 300:
            raise _error(status, answer, headers)
        return answer

    def close(self) -> None:
        """Log out; the array counts sessions."""
        token, self._token = self._token, None
        if token:
            try:
                self._exchange(Call.within(5), "DELETE", "/api/v1/sessions/current", None, token)
            except StorageError:  # it ends by itself
                return

    def _login(self, call: Call) -> str:
        with self._lock:
            if self._token is None:
                who = {"username": self._options.username, "password": self._options.password.reveal()}
                status, answer, headers = self._exchange(call, "POST", "/api/v1/sessions", who, None)
                if status >= 300:
                    raise _error(status, answer, headers)
                self._token = str(answer["token"])
            return self._token

    def _forget(self, token: str) -> None:
        with self._lock:
            if self._token == token:
                self._token = None

    def _exchange(
        self, call: Call, method: str, target: str, body: object, token: str | None
    ) -> tuple[int, Any, Mapping[str, str]]:
        connection = self._connection(call.remaining(at_most=self._options.timeout))
        headers = {"Content-Type": "application/json", "X-Request-Id": call.request_id}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        done = threading.Event()
        watch = threading.Thread(target=_watch, args=(connection, call, done), daemon=True)
        try:
            connection.connect()
            watch.start()
            connection.request(method, target, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            data = response.read()
            answer = None if response.status == 204 else json.loads(data)  # nothing is no JSON either
            return response.status, answer, dict(response.headers)
        except ssl.SSLCertVerificationError as error:
            raise Unavailable(
                "the array's certificate is not trusted", outcome=Outcome.NOT_APPLIED
            ) from error
        except ConnectionRefusedError as error:
            raise Unavailable("the array refuses connections", outcome=Outcome.NOT_APPLIED) from error
        except (OSError, http.client.HTTPException) as error:
            call.check(Outcome.UNKNOWN)
            raise Unavailable(f"the array does not answer: {type(error).__name__}") from error
        except ValueError as error:
            call.check(Outcome.UNKNOWN)
            raise Unavailable("the answer is not the array's: no JSON") from error
        finally:
            done.set()
            if watch.ident:
                watch.join()
            connection.close()

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        where = urlsplit(self._options.url)
        host = where.hostname or ""
        if where.scheme == "http":
            return http.client.HTTPConnection(host, where.port, timeout=timeout)
        trust = ssl.create_default_context(cafile=self._options.ca)
        return http.client.HTTPSConnection(host, where.port, timeout=timeout, context=trust)


def _watch(connection: http.client.HTTPConnection, call: Call, done: threading.Event) -> None:
    """End a request whose time is up: a socket's timeout counts from its last byte, and knows no cancel."""
    while not done.wait(0.1):
        try:
            call.check()
        except DeadlineExceeded:
            with contextlib.suppress(OSError):  # it has ended by itself
                connection.sock.shutdown(socket.SHUT_RDWR)
            return


def _error(status: int, answer: Any, headers: Mapping[str, str]) -> StorageError:
    told = answer if isinstance(answer, dict) else {}
    error = BY_CODE.get(told.get("code", ""), BY_STATUS.get(status, Internal))
    if error is Internal and status in (502, 503, 504):
        error = Unavailable
    after = headers.get("Retry-After")
    refused = status < 500 or status == 507 or told.get("code") == "session_limit"
    return error(
        f"the array answers {status}: {told.get('message', '')}",
        outcome=Outcome.NOT_APPLIED if refused else Outcome.UNKNOWN,
        retry_after=float(after) if after and after.isdigit() else None,
    )
