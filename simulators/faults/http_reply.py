"""How a reply gets from the backend to the client, with the faults that strike it on its way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import h11

from .fault import Fault, FaultKind
from .http_side import Side
from .plan import Strike

Headers = list[tuple[bytes, bytes]]

_INVERTED = bytes(255 - byte for byte in range(256))  # no JSON, XML or UTF-8 text begins with such a byte
_ORIGIN_HEADERS = {b"location", b"content-location", b"x-storage-url"}
_LOGIN_PAGE = b"<!doctype html><html><title>Sign in</title><form method=post><input name=user></form></html>"


class Ended(Exception):
    """The connection to the client is over, as the plan wants."""


@dataclasses.dataclass(frozen=True, slots=True)
class Origins:
    """What the backend calls itself in its answers, and what it is called here."""

    theirs: bytes
    ours: bytes

    def rewritten(self, headers: Headers) -> Headers:
        """The headers, leading to the proxy wherever they led to the backend."""
        return [
            (name, self._here(value) if name.lower() in _ORIGIN_HEADERS else value) for name, value in headers
        ]

    def _here(self, value: bytes) -> bytes:
        rest = value.removeprefix(self.theirs)
        if rest == value or rest[:1] not in {
            b"",
            b"/",
            b"?",
        }:  # http://host:80 is no prefix of http://host:8080
            return value
        return self.ours + rest


def pass_on(
    reply: h11.Response,
    backend: Side,
    client: Side,
    strike: Strike,
    origins: Origins,
    wait: Callable[[float], None],
) -> None:
    """Passes a reply on, piece by piece, as far as the fault lets it.

    Raises:
        Ended: after a fault that ends the connection.
    """
    strike.answered(reply.status_code)
    if strike.kind in {FaultKind.LOSE_REPLY, FaultKind.RESET_AFTER}:
        _swallow(backend, client, strike)
    head = _head(reply, client, strike, origins)
    emit = _emitter(client, strike, wait)
    if strike.kind is FaultKind.TRUNCATE:
        _halve(head, backend, client, strike)
    emit(client.http.send(head))
    for event in rest_of_message(backend):
        emit(client.http.send(_garbled(event, strike)))


def rest_of_message(side: Side) -> Iterator[h11.Event]:
    """What follows a head, with the end."""
    while not isinstance(event := side.event(), h11.EndOfMessage):
        yield event
    yield event


def _swallow(backend: Side, client: Side, strike: Strike) -> None:
    for _ in rest_of_message(backend):
        pass  # to its end: then the backend is done with it, whatever the client believes
    strike.hit()
    if strike.kind is FaultKind.RESET_AFTER:
        client.link.reset()
    raise Ended


def _head(reply: h11.Response, client: Side, strike: Strike, origins: Origins) -> h11.Response:
    headers = origins.rewritten(reply.headers.raw_items())
    if strike.fault is not None and strike.kind is FaultKind.WRONG_CONTENT_TYPE:
        strike.hit()
        headers = [(name, value) for name, value in headers if name.lower() != b"content-type"]
        headers.append((b"Content-Type", strike.fault.content_type.encode()))
    if client.http.their_state is h11.SEND_BODY:  # refused before it was sent whole: nobody reads the rest
        headers = [(name, value) for name, value in headers if name.lower() != b"connection"]
        headers.append((b"Connection", b"close"))
    return h11.Response(status_code=reply.status_code, headers=headers, reason=reply.reason)


def _emitter(client: Side, strike: Strike, wait: Callable[[float], None]) -> Callable[[bytes | None], None]:
    fault = strike.fault
    if fault is not None and fault.kind is FaultKind.DELAY:
        strike.hit()
        wait(fault.seconds)
    if fault is not None and fault.kind is FaultKind.DRIP:
        strike.hit()
        rate = fault.bytes_per_second
        return lambda data: drip(client.link.send, data or b"", rate, wait)
    return lambda data: client.link.send(data or b"")


def drip(
    send: Callable[[bytes], None], data: bytes, bytes_per_second: float, wait: Callable[[float], None]
) -> None:
    """Sends in about ten steps per second."""
    step = max(1, int(bytes_per_second / 10))
    for start in range(0, len(data), step):
        piece = data[start : start + step]
        send(piece)
        wait(len(piece) / bytes_per_second)


def garble(data: bytes) -> bytes:
    """The data with all bits inverted."""
    return data.translate(_INVERTED)


def _garbled(event: h11.Event, strike: Strike) -> h11.Event:
    if strike.kind is not FaultKind.GARBLE or not isinstance(event, h11.Data):
        return event
    strike.hit()
    return dataclasses.replace(event, data=garble(bytes(event.data)))


def _halve(head: h11.Response, backend: Side, client: Side, strike: Strike) -> None:
    """Half of the body; of a chunked one half of its first piece; without a body half of the head."""
    length = next((int(value) for name, value in head.headers if name == b"content-length"), None)
    start = client.http.send(head) or b""
    sent, half = 0, None if length is None else length // 2
    for event in rest_of_message(backend):
        if not isinstance(event, h11.Data):
            start = start[: len(start) // 2]  # an empty body, or none
            break
        data = bytes(event.data)
        half = len(data) // 2 if half is None else half
        client.link.send(start + (client.http.send(h11.Data(data=data[: half - sent])) or b""))
        start, sent = b"", sent + len(data)
        if sent >= half:
            break
    strike.hit()
    client.link.send(start)
    raise Ended


def answer_instead(fault: Fault, request: h11.Request, client: Side, strike: Strike) -> None:
    """What the proxy says when the backend is not asked."""
    status, kind, body = fault.code, b"text/plain", b"the fault proxy says no\n"
    headers: Headers = []
    if fault.kind is FaultKind.HTML_LOGIN_PAGE:
        status, kind, body = 200, b"text/html; charset=utf-8", _LOGIN_PAGE
    elif fault.kind is FaultKind.REDIRECT:
        status = 307
        headers.append((b"Location", fault.to.encode() + request.target))
    elif fault.retry_after is not None:
        headers.append((b"Retry-After", str(fault.retry_after).encode()))
    headers += [(b"Content-Type", kind), (b"Content-Length", str(len(body)).encode())]
    strike.hit()
    strike.answered(status)
    client.send(h11.Response(status_code=status, headers=headers, reason=b"Fault"))
    if request.method != b"HEAD" and status not in {204, 304}:
        client.send(h11.Data(data=body))
    client.send(h11.EndOfMessage())
