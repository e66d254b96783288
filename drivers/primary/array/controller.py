"""One controller of the array: our session there, a deadline on every request, typed errors.

    Controller: token, renewal, throttling
      └─> Exchanges: deadlines

Nothing is repeated here that might have run: only refusals (401 with an old token, 429) are.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import httpcore

from ....core.spi import (
    Call,
    Internal,
    InvalidArgument,
    Outcome,
    StorageError,
    Unauthenticated,
    Unavailable,
)
from ....transfer_objects.secret import Secret
from .answers import Answer, Json, content_of, member
from .options import ArrayOptions
from .transport import Exchanges, server_of, told_as_lost

_MAX_ANSWER = 8 * 1024 * 1024  # the largest page (10 000 extents) has about 600 KiB
_MAX_WAITS = 3  # for a throttled request, within one call
_LONGEST_WAIT = 10.0  # seconds; a longer Retry-After is passed on to the caller
_GOODBYE = 1.0  # seconds for the logout; it may come on top of a deadline
_API = "/api/v1"
_LOGIN = "/sessions"
_ALWAYS = {"User-Agent": "bollard", "Accept": "application/json", "Accept-Encoding": "identity"}


class Controller:
    """One controller's REST interface under our account; its sessions are its own.

    Args:
        option: name of the option that `url` comes from, for messages.

    Raises:
        InvalidArgument: the url or the CA file cannot be used.
    """

    def __init__(self, url: str, options: ArrayOptions, option: str) -> None:
        self._options = options
        server = server_of(url, ("https", "http"), option)
        if server.scheme == "http" and not options.allow_http:
            raise InvalidArgument(
                f"option {option!r} must be https; set 'allow_http' to send passwords in the clear"
            )
        self._http = Exchanges(server, _tls(options))
        self._lock = threading.Lock()
        self._token: Secret | None = None

    def close(self) -> None:
        """Log out if the array listens, and close all connections."""
        token, self._token = self._token, None
        if token is not None:
            with contextlib.suppress(StorageError):  # the session ends by itself, too
                self._send("DELETE", "/sessions/current", Call.within(_GOODBYE), token=token)
        self._http.close()

    def answer(self, method: str, path: str, call: Call, **rest: Any) -> Answer:
        """Send a request within our session; the answer may be a refusal."""
        token = self._logged_in(call, expired=None)
        answer = self._patiently(method, path, call, token=token, **rest)
        if answer.status == 401 and answer.json() is not None:
            token = self._logged_in(call, expired=token)
            answer = self._patiently(method, path, call, token=token, **rest)
        return answer

    def _logged_in(self, call: Call, *, expired: Secret | None) -> Secret:
        """Return a token; a new one if there is none, or if the one that expired is still ours."""
        if not self._lock.acquire(timeout=call.remaining(self._options.timeout)):
            raise Unavailable("another call still waits for its login", outcome=Outcome.NOT_APPLIED)
        try:
            if self._token is None or self._token is expired:
                self._token = None
                self._token = self._login(call)
            return self._token
        finally:
            self._lock.release()

    def _login(self, call: Call) -> Secret:
        who = {"username": self._options.username, "password": self._options.password.reveal()}
        answer = self._patiently("POST", _LOGIN, call, body=who)
        if answer.status == 401 and answer.json() is not None:
            raise Unauthenticated(f"the array refuses user {self._options.username!r} or the password")
        content = content_of(answer, f"POST {_LOGIN}", writes=False, secrets=[self._options.password])
        return Secret(member(content, "token", str))

    def _patiently(self, method: str, path: str, call: Call, **rest: Any) -> Answer:
        """Send; wait as long as the array asks while it refuses because we ask too much."""
        for _ in range(_MAX_WAITS):
            answer = self._send(method, path, call, **rest)
            wait = answer.retry_after
            if answer.status not in (429, 503) or wait is None or answer.json() is None:
                return answer
            if wait > min(_LONGEST_WAIT, call.remaining()):
                return answer
            call.cancel.wait(wait)
        return answer

    def _send(
        self,
        method: str,
        path: str,
        call: Call,
        *,
        token: Secret | None = None,
        query: Mapping[str, Any] | None = None,
        body: Json | None = None,
    ) -> Answer:
        # A login that came through without our knowing is one session more, which ends by itself.
        changes = method != "GET" and path != _LOGIN
        seconds = call.remaining(self._options.timeout)
        headers = {**_ALWAYS, "X-Request-Id": quote(call.request_id, safe="")[:128]}
        if token is not None:
            headers["Authorization"] = f"Bearer {token.reveal()}"
        content = None if body is None else json.dumps(body).encode()
        if content is not None:
            headers["Content-Type"] = "application/json"
        target = f"{_API}{path}?{urlencode(query)}" if query else f"{_API}{path}"
        with (
            told_as_lost(call, f"{method} {path}", "the array", changes=changes),
            self._http.begin(method, target, headers, content, seconds=seconds, cancel=call.cancel) as answer,
        ):
            return _read(answer, f"{method} {path}", writes=changes)


def _tls(options: ArrayOptions) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=options.ca)
    except OSError as error:  # ssl.SSLError is one
        raise InvalidArgument(f"option 'ca': {options.ca} is not a readable PEM file") from error


def _read(response: httpcore.Response, what: str, *, writes: bool) -> Answer:
    body = bytearray()
    for data in response.iter_stream():
        body += data
        if len(body) > _MAX_ANSWER:
            outcome = Outcome.UNKNOWN if writes else Outcome.NOT_APPLIED
            raise Internal(f"{what}: the answer is larger than {_MAX_ANSWER} bytes", outcome=outcome)
    headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
    return Answer(
        status=response.status,
        content_type=headers.get(b"content-type", ""),
        body=bytes(body),
        retry_after=_seconds(headers.get(b"retry-after")),
    )


def _seconds(text: str | None) -> float | None:
    """Read Retry-After in seconds; a date, which some proxies send, counts as none."""
    return float(text) if text is not None and text.isascii() and text.isdigit() else None
