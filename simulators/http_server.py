"""An HTTP server for the simulators: keep-alive, streamed bodies, clean stop.

Werkzeug's own request handler closes every connection after one reply and reads whatever the client
still sends for at least 10 ms per request. Storage clients keep connections open and upload gigabytes,
so the loop around the WSGI call is ours; parsing and the WSGI environment stay Werkzeug's.
"""

from __future__ import annotations

import io
import logging
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Iterable
from typing import IO, TYPE_CHECKING, Any

from werkzeug.exceptions import ClientDisconnected
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

log = logging.getLogger("bollard.simulators.http")

CHUNK = 256 * 1024
"""Bytes moved per step; no simulator holds more than a few of these of any object."""

_DRAIN_LIMIT = 64 * 1024 * 1024  # an early refusal reads this much on, so that the client sees the reply


class DropConnection(Exception):
    """Raised while a reply is produced: the connection is reset at once, without another byte."""


class RequestBody(io.RawIOBase):
    """The body of one request: known length or chunked, read at most once, never past its end.

    Args:
        source: where the (already dechunked) bytes come from.
        length: bytes announced by the client; None for a chunked body.
        before_first_read: called once before anything is read; sends "100 Continue" when it was asked for.

    Raises:
        ClientDisconnected: from reads, when the client went away before the announced end.
    """

    def __init__(self, source: IO[bytes], length: int | None, before_first_read: Callable[[], None]) -> None:
        self._source = source
        self._left = length
        self._before_first_read: Callable[[], None] | None = before_first_read
        self.untouched = True
        self.complete = length == 0

    def readable(self) -> bool:
        """Always readable."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills ``buffer`` with what is there; 0 only at the announced end."""
        if self.complete:
            return 0
        if self._before_first_read is not None:
            self._before_first_read()
            self._before_first_read = None
        self.untouched = False
        wanted = len(buffer) if self._left is None else min(len(buffer), self._left)
        try:
            data = self._source.read(wanted)
        except (OSError, ValueError) as error:
            raise ClientDisconnected from error
        return self._account(buffer, data)

    def readall(self) -> bytes:
        """All that is left; io.RawIOBase would take steps of 8 KiB."""
        return b"".join(iter(lambda: self.read(CHUNK) or b"", b""))

    def _account(self, buffer: Any, data: bytes) -> int:
        if self._left is None:
            self.complete = not data
        elif not data:
            raise ClientDisconnected
        else:
            self._left -= len(data)
            self.complete = self._left == 0
        buffer[: len(data)] = data
        return len(data)


# TLS says it in its own way: SSLEOFError is no ConnectionError.
_CLIENT_LEFT = (ConnectionError, TimeoutError, ssl.SSLError)


class KeepAliveHandler(WSGIRequestHandler):
    """Runs the WSGI application for each request of a connection until either side closes it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # header and body go out as two writes; Nagle makes that 40 ms

    def run_wsgi(self) -> None:
        """One request and its reply."""
        environ = self.environ = self.make_environ()
        body = self._body(environ)
        environ["wsgi.input"] = io.BufferedReader(body, CHUNK)
        environ["wsgi.input_terminated"] = True
        reply = _Reply(self)
        try:
            reply.run(self.server.app, environ)
        except DropConnection:
            self._reset()
            return
        except _CLIENT_LEFT:
            self.close_connection = True
            return
        except Exception:  # process edge: one broken request must not stop the server
            log.exception("request failed: %s %s", self.command, self.path)
            reply.fail()
        self._drain(body)

    def _body(self, environ: WSGIEnvironment) -> RequestBody:
        chunked = environ.get("wsgi.input_terminated", False)
        length = None if chunked else int(environ.get("CONTENT_LENGTH") or 0)
        return RequestBody(environ["wsgi.input"], length, self._continue)

    def _continue(self) -> None:
        if self.headers.get("Expect", "").strip().lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def handle_expect_100(self) -> bool:
        """Nothing yet: "100 Continue" is sent when the application starts to read, as Swift does."""
        return True

    def _drain(self, body: RequestBody) -> None:
        """Reads a refused upload on, else the client gets a reset instead of the reply's status."""
        waits_for_100 = body.untouched and "Expect" in self.headers
        left = 0 if waits_for_100 else _DRAIN_LIMIT
        try:
            while left > 0 and not body.complete:
                left -= len(body.read(CHUNK) or b"")
        except ClientDisconnected:
            pass
        if not body.complete:
            self.close_connection = True

    def _reset(self) -> None:
        """Closes with RST: the peer sees "connection reset", not a clean end."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def version_string(self) -> str:
        """The Server header; no version, so that recorded replies stay equal."""
        return "bollard-simulator"

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - Werkzeug names it so
        """To ``logging``, never to standard error."""
        log.log(logging.ERROR if type == "error" else logging.DEBUG, message, *args)


class _Reply:
    """Sends status, headers and body of one reply over a handler's connection."""

    def __init__(self, handler: KeepAliveHandler) -> None:
        self._handler = handler
        self._head: tuple[str, list[tuple[str, str]]] | None = None
        self._sent = False
        self._chunked = False
        self._left: int | None = None

    def run(self, app: WSGIApplication, environ: WSGIEnvironment) -> None:
        parts = app(environ, self._start)
        try:
            for data in parts:
                self._write(data)
            self._finish()
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()

    def fail(self) -> None:
        """A 500 when nothing was sent yet; in any case the connection ends here."""
        self._handler.close_connection = True
        if not self._sent:
            self._head = ("500 INTERNAL SERVER ERROR", [("Content-Length", "0")])
            self._send_head()

    def _start(self, status: str, headers: list[tuple[str, str]], _exc_info: object = None) -> Any:
        self._head = (status, headers)
        return self._write

    def _send_head(self) -> None:
        if self._head is None:
            raise RuntimeError("the application produced bytes without calling start_response")
        status, headers = self._head
        code, _, reason = status.partition(" ")
        names = {name.lower(): value for name, value in headers}
        no_body = self._handler.command == "HEAD" or code in {"204", "304"} or code.startswith("1")
        self._handler.send_response(int(code), reason)
        for name, value in headers:
            self._handler.send_header(name, value)
        if not no_body and "content-length" in names:
            self._left = int(names["content-length"])
        elif not no_body:
            self._chunked = True
            self._handler.send_header("Transfer-Encoding", "chunked")
        if self._handler.close_connection:
            self._handler.send_header("Connection", "close")
        self._handler.end_headers()
        self._sent = True

    def _write(self, data: bytes) -> None:
        if not self._sent:
            self._send_head()
        if not data:
            return
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        elif self._left is not None:
            self._left -= len(data)
        self._handler.wfile.write(data)

    def _finish(self) -> None:
        self._write(b"")
        if self._chunked:
            self._handler.wfile.write(b"0\r\n\r\n")
        if self._left:  # fewer bytes than announced: only closing tells the client that it ends here
            self._handler.close_connection = True


class HttpServer(ThreadedWSGIServer):
    """A threaded server on 127.0.0.1 whose ``stop`` leaves no socket and no thread behind.

    Args:
        app: the WSGI application.
        port: TCP port; 0 takes a free one.
        handler: the class that runs requests.
    """

    def __init__(
        self, app: WSGIApplication, port: int = 0, handler: type[KeepAliveHandler] = KeepAliveHandler
    ) -> None:
        super().__init__("127.0.0.1", port, app, handler)
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, socket.socket] = {}
        self._acceptor = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    def start(self) -> None:
        """Begins to accept connections in a thread."""
        self._acceptor.start()

    def stop(self) -> None:
        """Stops accepting, ends open connections, waits for their threads."""
        self.shutdown()
        self._acceptor.join()
        with self._lock:
            still_open = list(self._open.items())
        for thread, connection in still_open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                log.debug("connection had ended by itself")
            thread.join()

    def process_request(self, request: Any, client_address: Any) -> None:
        """One thread per connection, remembered until it ends."""
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        with self._lock:
            self._open[thread] = request
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serves one connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                del self._open[threading.current_thread()]

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - as called
        """To ``logging``, never to standard error."""
        if isinstance(error := sys.exc_info()[1], _CLIENT_LEFT):
            # A client that does not trust the certificate, or was killed: its business, and no trace of ours.
            log.info("connection ended by %s: %s", client_address, error)
        else:
            log.exception("connection failed")


def stream(handle: IO[bytes], length: int) -> Iterable[bytes]:
    """The next ``length`` bytes of a file in small pieces; ends early only when the file does."""
    while length > 0:
        data = handle.read(min(CHUNK, length))
        if not data:
            return
        length -= len(data)
        yield data
