"""Talking to the array: one session per driver, a deadline on every request, typed errors.

    client.talk(call) ──> Conversation: get, post, patch, delete, pages      one per SPI call
                            └─> ArrayClient: token, renewal, throttling      one per driver
                                  └─> Exchanges                              deadlines

Nothing is repeated here that might have run: only refusals (401 with an old token, 429) are.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, urlencode

import httpcore

from ....core.spi import (
    Call,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    Outcome,
    StorageError,
    Unauthenticated,
    Unavailable,
)
from ....transfer_objects.secret import Secret
from .answers import Answer, Json, content_of
from .options import ArrayOptions
from .transport import Exchanges, server_of

T = TypeVar("T")

_MAX_ANSWER = 8 * 1024 * 1024  # the largest page (10 000 extents) has about 600 KiB
_MAX_WAITS = 3  # for a throttled request, within one call
_LONGEST_WAIT = 10.0  # seconds; a longer Retry-After is passed on to the caller
_GOODBYE = 1.0  # seconds for the logout; it may come on top of a deadline
_PAGE = 1000
_API = "/api/v1"
_ALWAYS = {"User-Agent": "bollard", "Accept": "application/json", "Accept-Encoding": "identity"}
_EARLY = 0.01  # seconds by which a socket's timeout may come before the deadline it stands for

# The connection was never made: the array cannot have seen the request.
_NOT_SENT = (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout)
_BROKEN = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)


class ArrayClient:
    """The array's REST interface under our account.

    Raises:
        InvalidArgument: the url or the CA file cannot be used.
    """

    def __init__(self, options: ArrayOptions) -> None:
        self._options = options
        self._http = Exchanges(_server(options), _tls(options))
        self._lock = threading.Lock()
        self._token: Secret | None = None

    def talk(self, call: Call) -> Conversation:
        """Begin one operation."""
        return Conversation(self, call)

    def close(self) -> None:
        """Log out if the array listens, and close all connections."""
        token, self._token = self._token, None
        if token is not None:
            with contextlib.suppress(StorageError):  # the session ends by itself, too
                self._send("DELETE", "/sessions/current", Call.within(_GOODBYE), token=token)
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        call: Call,
        *,
        query: Mapping[str, Any] | None = None,
        body: Json | None = None,
        secrets: Iterable[Secret] = (),
    ) -> Json:
        """Send a request within our session and return the answer's content."""
        answer = self._as_us(method, path, call, query=query, body=body)
        hidden = (self._options.password, *secrets)
        return content_of(answer, f"{method} {path}", writes=method != "GET", secrets=hidden)

    def _as_us(self, method: str, path: str, call: Call, **rest: Any) -> Answer:
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
        answer = self._patiently("POST", "/sessions", call, body=who)
        if answer.status == 401 and answer.json() is not None:
            raise Unauthenticated(f"the array refuses user {self._options.username!r} or the password")
        content = content_of(answer, "POST /sessions", writes=False, secrets=[self._options.password])
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
        seconds = call.remaining(self._options.timeout)
        headers = {**_ALWAYS, "X-Request-Id": quote(call.request_id, safe="")[:128]}
        if token is not None:
            headers["Authorization"] = f"Bearer {token.reveal()}"
        content = None if body is None else json.dumps(body).encode()
        if content is not None:
            headers["Content-Type"] = "application/json"
        target = f"{_API}{path}?{urlencode(query)}" if query else f"{_API}{path}"
        try:
            with self._http.begin(
                method, target, headers, content, seconds=seconds, cancel=call.cancel
            ) as answer:
                return _read(answer, f"{method} {path}", writes=method != "GET")
        except _NOT_SENT as error:
            raise _lost(call, f"{method} {path}", error, Outcome.NOT_APPLIED) from error
        except _BROKEN as error:
            outcome = Outcome.NOT_APPLIED if method == "GET" else Outcome.UNKNOWN
            raise _lost(call, f"{method} {path}", error, outcome) from error


class Conversation:
    """The requests of one SPI call; knows whether something was changed already.

    An error after a change says "unknown" even if the last request was refused: half of the operation
    was applied, and the repeat goes on from there.
    """

    def __init__(self, client: ArrayClient, call: Call) -> None:
        self.call = call
        self._client = client
        self._changed = False

    def get(self, path: str, **query: Any) -> Json:
        """Read."""
        return self._request("GET", path, query={k: v for k, v in query.items() if v is not None})

    def post(self, path: str, body: Json, secrets: Iterable[Secret] = ()) -> Json:
        """Make."""
        return self._request("POST", path, body=body, secrets=secrets)

    def patch(self, path: str, body: Json, secrets: Iterable[Secret] = ()) -> Json:
        """Change."""
        return self._request("PATCH", path, body=body, secrets=secrets)

    def delete(self, path: str) -> None:
        """Remove."""
        self._request("DELETE", path)

    def items(self, path: str, **query: Any) -> Iterator[Json]:
        """Yield the items of a list, page by page."""
        cursor: str | None = None
        while True:
            found, cursor = self.page(path, limit=_PAGE, cursor=cursor, **query)
            yield from found
            if cursor is None:
                return

    def page(self, path: str, **query: Any) -> tuple[list[Json], str | None]:
        """Return one page of a list, and the cursor of the next one."""
        content = self.get(path, **query)
        found = member(content, "items", list)
        return found, member(content, "next", str) if content.get("next") is not None else None

    def wait(self, seconds: float) -> None:
        """Wait; raises when the call ends meanwhile."""
        self.call.cancel.wait(min(seconds, self.call.remaining()))
        self.call.check(self.outcome())

    def outcome(self) -> Outcome:
        """Say what is known so far."""
        return Outcome.UNKNOWN if self._changed else Outcome.NOT_APPLIED

    def _request(self, method: str, path: str, **rest: Any) -> Json:
        try:
            content = self._client.request(method, path, self.call, **rest)
        except StorageError as error:
            if self._changed and error.outcome is Outcome.NOT_APPLIED:
                error.outcome = Outcome.UNKNOWN
            raise
        self._changed = self._changed or method != "GET"
        return content


def member(content: Json, key: str, kind: type[T]) -> T:
    """Return a member of an answer.

    Raises:
        Internal: it is missing or of another type; the array speaks another language.
    """
    value = content.get(key)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Internal(f"the array's answer has no {kind.__name__} {key!r}")
    return value


def path_of(*parts: str) -> str:
    """Return a path of the parts; what the array calls its objects is never trusted to be a path."""
    if any(part in ("", ".", "..") for part in parts):
        raise Internal("the array has an object without a usable id", outcome=Outcome.NOT_APPLIED)
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _server(options: ArrayOptions) -> SplitResult:
    url = server_of(options.url, ("https", "http"))
    if url.scheme == "http" and not options.allow_http:
        raise InvalidArgument("option 'url' must be https; set 'allow_http' to send passwords in the clear")
    return url


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


def _lost(call: Call, what: str, error: Exception, outcome: Outcome) -> StorageError:
    if call.cancel.is_set():
        return DeadlineExceeded(f"{what}: the call was cancelled", outcome=outcome)
    if call.deadline is not None and call.clock() >= call.deadline - _EARLY:
        return DeadlineExceeded(f"{what}: the call's deadline has passed", outcome=outcome)
    return Unavailable(f"{what}: no answer from the array ({type(error).__name__})", outcome=outcome)
