"""python-swiftclient's functions with our own session: tokens, connections, deadlines, retries.

`swiftclient.Connection` retries by itself, without regard to a deadline, and serves one thread; its
functions do one request each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ...core.spi import Call, Outcome, Unavailable
from . import _swift_keystone as keystone
from ._http import quiet
from ._retry import repeated
from ._swift_errors import from_answer, from_connection, from_sign_in

if TYPE_CHECKING:
    from .swift import SwiftOptions

T = TypeVar("T")


class Wire(NamedTuple):
    """What a function of swiftclient needs: `api.head_object(*wire.account, …, http_conn=wire.http)`."""

    url: str
    token: str
    http: Any

    @property
    def account(self) -> tuple[str, str]:
        """Storage URL and token."""
        return self.url, self.token


class SwiftClient:
    """Requests of one user on one account, from any number of threads."""

    def __init__(self, options: SwiftOptions) -> None:
        quiet("swiftclient", "keystoneauth", "requests", "urllib3")
        self._options = options
        self._lock = threading.Lock()
        self._signed_in: tuple[str, str] | None = None
        self._idle: list[Any] = []
        self._closed = False

    @property
    def api(self) -> ModuleType:
        """Swiftclient's functions; imported when they are needed."""
        import swiftclient.client

        return swiftclient.client  # type: ignore[no-any-return] # it has no type information

    def close(self) -> None:
        """Close all connections; repeatable."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            self._signed_in = None
        for _, connection in idle:
            _hang_up(connection)

    def run(self, what: str, call: Call, act: Callable[[Wire], T]) -> T:
        """Run `act`, which is one request and safe to repeat, with retries."""
        with self.borrowed(what, call) as http:
            return self.run_on(http, what, call, act)

    def run_on(self, http: Any, what: str, call: Call, act: Callable[[Wire], T]) -> T:
        """As `run`, on a connection that the caller has borrowed and reads the answer from."""
        return repeated(lambda: self._once(http, what, call, act), call, self._options.attempts)

    @contextmanager
    def borrowed(self, what: str, call: Call) -> Iterator[Any]:
        """Lend a connection to one thread."""
        with self.translating(what, call):
            url, _ = self._session(call)
            http = self._connection(url)
        try:
            yield http
        finally:
            self._give_back(http)

    @contextmanager
    def translating(self, what: str, call: Call) -> Iterator[None]:
        """Turn swiftclient's and its HTTP library's errors from the block into the taxonomy."""
        from requests.exceptions import RequestException
        from swiftclient.exceptions import ClientException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ClientException as error:
            raise from_answer(error, what) from error
        except (RequestException, HTTPError, OSError) as error:
            raise from_connection(error, what, call) from error

    def _once(self, http: Any, what: str, call: Call, act: Callable[[Wire], T]) -> T:
        with self.translating(what, call):
            url, token = self._session(call)
            try:
                return act(self._wire(url, token, http, call))
            except self.api.ClientException as error:
                if error.http_status != 401:
                    raise
            except OSError:
                # A server that refuses a token in the middle of a large body may reset the connection
                # before its 401 is read; the next attempt then signs in again, which costs one request.
                self._forget(token)
                raise
            self._forget(token)
            url, token = self._session(call)
            return act(self._wire(url, token, http, call))

    def _wire(self, url: str, token: str, http: Any, call: Call) -> Wire:
        http[1].requests_args["timeout"] = self._timeouts(call)
        return Wire(url, token, http)

    def _timeouts(self, call: Call) -> tuple[float, float]:
        options = self._options
        return call.remaining(at_most=options.connect_timeout), call.remaining(at_most=options.read_timeout)

    def _session(self, call: Call) -> tuple[str, str]:
        """Return storage URL and token; one thread signs in, the others wait for it."""
        with self._lock:
            if self._closed:
                raise Unavailable("the store is closed", outcome=Outcome.NOT_APPLIED)
            if self._signed_in is None:
                self._signed_in = self._sign_in(call)
            return self._signed_in

    def _forget(self, token: str) -> None:
        """Drop a token that expired, unless another thread has replaced it."""
        with self._lock:
            if self._signed_in is not None and self._signed_in[1] == token:
                self._signed_in = None

    def _sign_in(self, call: Call) -> tuple[str, str]:
        options = self._options
        if options.auth_version != "1":
            return keystone.sign_in(options, self._timeouts(call), call)
        try:
            url, token = self.api.get_auth(
                options.url,
                options.sign_in_user(),
                options.key.reveal(),
                auth_version="1",
                os_options={"object_storage_url": options.storage_url} if options.storage_url else {},
                insecure=not options.verify_tls,
                cacert=str(options.ca_file) if options.ca_file else None,
                timeout=min(self._timeouts(call)),
            )
        except self.api.ClientException as error:
            raise from_sign_in(error) from error
        return str(url), str(token)

    def _connection(self, url: str) -> Any:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        options = self._options
        cacert = str(options.ca_file) if options.ca_file else None
        return self.api.http_connection(url, cacert=cacert, insecure=not options.verify_tls)

    def _give_back(self, http: Any) -> None:
        if (answer := http[1].resp) is not None:
            # It keeps the request, which keeps its body: an idle connection held a segment of 32 MiB.
            answer.request.body = None
        with self._lock:
            if not self._closed:
                self._idle.append(http)
                return
        _hang_up(http[1])


def _hang_up(connection: Any) -> None:
    """Close a connection and its sockets.

    Closing swiftclient's closes the session, which lets its pools go without closing them; the last answer,
    which refers to itself, then keeps their sockets until the garbage collector comes by.
    """
    for adapter in connection.request_session.adapters.values():
        pools = adapter.poolmanager.pools
        for key in list(pools.keys()):
            pools[key].close()
    connection.close()
