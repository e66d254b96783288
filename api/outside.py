"""What every request passes before a route sees it: an id, a limit on its size, a line in the metrics.

Plain ASGI: Starlette's own middleware class would read and keep each body.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import problem

REQUEST_ID = "X-Request-Id"
_VALID_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_LINGER = 2.0
"""Seconds."""

Seen = Callable[[str, str, int, float], None]
"""Told method, route, status and seconds of each request."""


class _TooLarge(Exception):
    """The body is larger than allowed; never leaves this module."""


class Outside:
    """The outermost layer.

    Args:
        max_body: bytes.
        new_id: makes ids of requests that bring none.
        seen: is told of each request.
    """

    def __init__(self, app: ASGIApp, *, max_body: int, new_id: Callable[[], str], seen: Seen) -> None:
        self._app = app
        self._max_body = max_body
        self._new_id = new_id
        self._seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["bollard.request_id"] = request_id = self._id_of(scope)
        started = time.perf_counter()
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (REQUEST_ID.lower().encode(), request_id.encode()),
                    (b"cache-control", b"no-store"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        try:
            await self._limited(scope, receive, answer)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._seen(scope["method"], route, status, time.perf_counter() - started)

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = self._max_body

        async def limited() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise _TooLarge
            return message

        declared = dict(scope["headers"]).get(b"content-length", b"0")
        try:
            if declared.isdigit() and int(declared[:20]) > self._max_body:
                raise _TooLarge
            await self._app(scope, limited, send)
        except _TooLarge:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = problem(
            413,
            "limit_exceeded",
            f"a request may have {self._max_body} bytes",
            outcome="not_applied",
            retryable=False,
            request_id=Request(scope).scope["bollard.request_id"],
        )
        refusal.headers["connection"] = "close"
        if not any(name == b"expect" for name, _ in scope["headers"]):  # who asked first has sent nothing
            await self._linger(receive)
        await refusal(scope, receive, send)

    async def _linger(self, receive: Receive) -> None:
        """Read for a while what the client is still sending: closing on unread bytes resets the connection,
        and the answer is lost with it (RFC 9112, 9.6).
        """
        left = self._max_body
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                while left > 0:
                    message = await receive()
                    if not message.get("more_body"):
                        return
                    left -= len(message.get("body", b""))

    def _id_of(self, scope: Scope) -> str:
        given: bytes = dict(scope["headers"]).get(REQUEST_ID.lower().encode(), b"")
        return given.decode() if _VALID_ID.fullmatch(given) else self._new_id()
