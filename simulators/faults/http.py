"""The HTTP proxy: TLS ends here and begins anew; requests and replies are understood and passed on.

    client ── TLS, our certificate ──> Side(SERVER) │ Conversation │ Side(CLIENT) ── TLS, verified ──> backend

A request is streamed unless a fault of the plan may keep it from the backend. Only then it is kept (on disk
when it is large) until it is whole, since such a fault counts complete requests.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import h11

from .base import Proxy
from .certificates import Certificates
from .fault import BAD_CERTIFICATES, Fault, FaultKind
from .http_reply import Ended, Origins, answer_instead, pass_on, rest_of_message
from .http_side import Side
from .links import PIECE, Link, LinkClosed, dial, log, wait_readable
from .plan import Plan, Strike

_BEFORE = frozenset(
    {
        FaultKind.LOSE_REQUEST,
        FaultKind.RESET,
        FaultKind.BLACK_HOLE,
        FaultKind.DUPLICATE,
        FaultKind.STATUS,
        FaultKind.HTML_LOGIN_PAGE,
        FaultKind.REDIRECT,
    }
)
_IN_MEMORY = 1024 * 1024  # bytes of a kept request; the rest of it goes to disk
_DRAIN_LIMIT = 64 * 1024 * 1024  # an early refusal reads this much on, so that the client sees the reply


class HttpProxy(Proxy):
    """In front of a server of HTTP/1.1, with or without TLS.

        with HttpProxy(upstream="https://10.0.0.5:8443", upstream_ca=ca, state=directory) as proxy:
            proxy.plan([Fault.lose_reply(3, method=MUTATING)])
            use(proxy.url, ca=proxy.ca)
            proxy.finish()

    Args:
        upstream: the backend's origin; an ``https`` one is verified, and the proxy has TLS, too.
        upstream_ca: PEM file of the authority to trust there instead of the system's.
        state: directory of the certificates and of large requests under way; made when missing.
        port: TCP port; 0 takes a free one.
        wait: see :class:`.base.Proxy`.

    Raises:
        ValueError: when ``upstream`` is no origin.
    """

    def __init__(
        self,
        *,
        upstream: str,
        state: str | os.PathLike[str],
        upstream_ca: str | os.PathLike[str] | None = None,
        port: int = 0,
        wait: Callable[[float], None] | None = None,
    ) -> None:
        super().__init__(port, wait)
        parts = urlsplit(upstream)
        if (
            parts.scheme not in {"http", "https"}
            or not parts.hostname
            or parts.path.strip("/")
            or parts.query
        ):
            raise ValueError("upstream must be http://HOST:PORT or https://HOST:PORT")
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._tls = parts.scheme == "https"
        self._address = (parts.hostname, parts.port or (443 if self._tls else 80))
        self.state = Path(state)
        self.state.mkdir(parents=True, exist_ok=True)
        self._certificates = Certificates(self.state / "tls") if self._tls else None
        self._trust = ssl.create_default_context(cafile=upstream_ca) if self._tls else None
        self._idle: set[Link] = set()
        self._idle_lock = threading.Lock()

    @property
    def offers(self) -> frozenset[FaultKind]:  # type: ignore[override] # depends on TLS here
        """All kinds; the certificates only with TLS."""
        return frozenset(FaultKind) - (frozenset() if self._tls else BAD_CERTIFICATES)

    @property
    def url(self) -> str:
        """The proxy's origin."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path | None:
        """The authority that clients must trust, None without TLS."""
        return None if self._certificates is None else self._certificates.ca

    def ready(self) -> dict[str, object]:
        """The authority's file."""
        return {"ca": None if self.ca is None else str(self.ca)}

    def origins(self) -> Origins:
        """For the headers of replies."""
        return Origins(self._origin.encode(), self.url.encode())

    def backend(self) -> Side:
        """A new connection to the backend, verified."""
        link = self.door.adopt(dial(*self._address))
        try:
            if self._trust is not None:
                link.secure(self._trust, self._address[0])
        except OSError:
            self.door.drop(link)
            raise
        return Side(link, h11.CLIENT)

    @contextlib.contextmanager
    def idling(self, client: Link, dialed_under: Plan) -> Iterator[None]:
        """No exchange is under way on this connection meanwhile.

        A client may arm a plan before the thread of its last exchange comes here, so a connection of an
        earlier plan is hung up here, too.
        """
        with self._idle_lock:
            self._idle.add(client)
            if self.current is not dialed_under and self.current.concerns_connections():
                client.abort()
        try:
            yield
        finally:
            with self._idle_lock:
                self._idle.discard(client)

    def plan(self, faults: Iterable[Fault]) -> None:
        """See :meth:`.base.Proxy.plan`.

        A plan with faults of connections hangs up those that idle, so that clients which keep theirs open
        must come anew.
        """
        super().plan(faults)
        if self.current.concerns_connections():
            with self._idle_lock:
                for link in self._idle:
                    link.abort()

    def _serve(self, client: Link) -> None:
        if not client.said_something():
            return  # somebody looked whether the port is open
        plan = self.current
        fault = plan.connected()
        kind = None if fault is None else fault.kind
        if kind is FaultKind.REFUSE:
            client.reset()
            return
        if self._certificates is not None:
            client.secure(self._certificates.context(kind))
        Conversation(self, Side(client, h11.SERVER), plan, kind).run()


class Conversation:
    """All exchanges of one connection of a client.

    Args:
        proxy: whose plan counts.
        client: secured.
        dialed_under: the plan at the beginning of the connection.
        connection_fault: what the connection was struck with, and the client put up with.
    """

    def __init__(
        self, proxy: HttpProxy, client: Side, dialed_under: Plan, connection_fault: FaultKind | None
    ) -> None:
        self._proxy = proxy
        self._client = client
        self._dialed_under = dialed_under
        self._connection_fault = connection_fault
        self._kept: Side | None = None

    def run(self) -> None:
        """Until one of the three ends it: the client, the backend or the plan."""
        try:
            while (request := self._next_request()) is not None:
                self._exchange(request)
                if not self._client.both_done():
                    self._drain()
                    return
                self._client.http.start_next_cycle()
        except Ended:
            log.debug("ended by the plan")
        except (OSError, h11.ProtocolError) as error:
            log.debug("one side broke off: %s", error)
            self._client.link.reset()
        finally:
            self._forget_backend()

    def _next_request(self) -> h11.Request | None:
        with self._proxy.idling(self._client.link, self._dialed_under):
            try:
                event = self._client.event()
            except OSError:  # a client may hang up as it likes between two requests
                return None
        return event if isinstance(event, h11.Request) else None

    def _exchange(self, request: h11.Request) -> None:
        plan = self._proxy.current
        if not plan.may_strike(request.method.decode(), request.target.decode(), _BEFORE):
            self._stream(request, plan)
            return
        with tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(self._proxy.state)) as body:
            end = self._keep(body)
            strike = self._counted(request, plan)
            if strike.kind in _BEFORE:
                self._before(request, body, end, strike)
            else:
                self._pass_on(self._ask(request, body, end), strike)

    def _counted(self, request: h11.Request, plan: Plan) -> Strike:
        return plan.received(request.method.decode(), request.target.decode(), self._connection_fault)

    # -- requests that are kept until they are whole ----------------------------------------------------

    def _keep(self, body: IO[bytes]) -> h11.EndOfMessage:
        if self._client.http.they_are_waiting_for_100_continue:
            self._client.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
        while not isinstance(event := self._client.event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                body.write(event.data)
        return event

    def _before(self, request: h11.Request, body: IO[bytes], end: h11.EndOfMessage, strike: Strike) -> None:
        """The faults that keep a request from the backend, and the one that doubles it."""
        if strike.kind is FaultKind.DUPLICATE:
            self._ask(request, body, end)
            for _ in rest_of_message(self._backend):
                pass  # the first answer
            reply = self._ask(request, body, end)
            strike.hit()
            self._pass_on(reply, strike)
        elif strike.kind in {FaultKind.LOSE_REQUEST, FaultKind.RESET, FaultKind.BLACK_HOLE}:
            strike.hit()
            if strike.kind is FaultKind.RESET:
                self._client.link.reset()
            elif strike.kind is FaultKind.BLACK_HOLE:
                while self._client.link.receive():
                    pass  # until the client loses its patience
            raise Ended
        elif strike.fault is not None:
            answer_instead(strike.fault, request, self._client, strike)

    def _ask(self, request: h11.Request, body: IO[bytes], end: h11.EndOfMessage) -> h11.Response:
        backend = self._connect()
        body.seek(0)
        with contextlib.suppress(OSError):  # refused before its end: the answer is still to be read
            backend.send(_copied(request))
            while piece := body.read(PIECE):
                backend.send(h11.Data(data=piece))
            backend.send(end)
        while not isinstance(event := backend.event(), h11.Response):
            if not isinstance(event, h11.InformationalResponse):
                raise LinkClosed("the backend hung up without an answer")
        return event

    # -- requests that are streamed ---------------------------------------------------------------------

    def _stream(self, request: h11.Request, plan: Plan) -> None:
        """Both directions at once: the backend may say "100 Continue" or refuse at any time."""
        backend, strike, reply = self._connect(), None, None
        backend.send(_copied(request))
        while reply is None:
            event = None if strike else self._client.event_now()
            if isinstance(event, h11.EndOfMessage):
                strike = self._counted(request, plan)
            if event is not None:
                with contextlib.suppress(OSError):  # refused before its end: the answer is still to be read
                    backend.send(event)
            answer = backend.event_now()
            if isinstance(answer, h11.InformationalResponse):
                self._client.send(answer)
            elif isinstance(answer, h11.Response):
                reply = answer
            elif answer is not None:
                raise LinkClosed("the backend hung up without an answer")
            elif event is None:
                wait_readable(backend.link, *([] if strike else [self._client.link]))
        self._pass_on(reply, strike or self._counted(request, plan))

    # -- the backend --------------------------------------------------------------------------------------

    def _pass_on(self, reply: h11.Response, strike: Strike) -> None:
        pass_on(reply, self._backend, self._client, strike, self._proxy.origins(), self._proxy.wait)

    @property
    def _backend(self) -> Side:
        if self._kept is None:
            raise LinkClosed("not connected")
        return self._kept

    def _connect(self) -> Side:
        """The connection of the exchange before, if it is still good, or a new one."""
        if self._kept is not None and self._kept.both_done() and self._kept.link.receive_now() is None:
            self._kept.http.start_next_cycle()
            return self._kept
        self._forget_backend()
        self._kept = self._proxy.backend()
        return self._kept

    def _forget_backend(self) -> None:
        if self._kept is not None:
            self._proxy.door.drop(self._kept.link)
            self._kept = None

    def _drain(self) -> None:
        """Reads a refused upload on, else the client gets a reset instead of the reply."""
        left = 0 if self._client.http.they_are_waiting_for_100_continue else _DRAIN_LIMIT
        self._client.link.finish_sending()
        while left > 0 and (data := self._client.link.receive()):
            left -= len(data)


def _copied(request: h11.Request) -> h11.Request:
    """The request with its headers spelled and ordered as they came."""
    return h11.Request(method=request.method, target=request.target, headers=request.headers.raw_items())
