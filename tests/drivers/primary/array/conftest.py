"""What several tests of the array driver need: an array, and servers that misbehave."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bollard.core.spi import Call, parse_options
from bollard.drivers.primary.array import ArrayDriver
from bollard.simulators.array import ArraySimulator
from lossy_proxy import LossyProxy

GIB = 1024**3
_owners = itertools.count(1)


@pytest.fixture(scope="module")
def array(tmp_path_factory) -> Iterator[ArraySimulator]:
    """An array with TLS and two pools, for all tests of a module; each driver is an owner of its own."""
    state = tmp_path_factory.mktemp("array")
    with ArraySimulator(state, pools={"pool-a": 4 * GIB, "pool-b": GIB}, job_seconds=0.02) as simulator:
        yield simulator


@pytest.fixture
def options(array) -> Callable[..., dict[str, Any]]:
    """Options for the array; keywords override."""

    def make(**changes: Any) -> dict[str, Any]:
        made = {
            "url": array.url,
            "username": array.admin_user,
            "password": array.admin_password,
            "pool": "pool-a",
            "owner": f"o{next(_owners)}",
            "ca": array.ca,
        }
        return {**made, **changes}

    return make


@pytest.fixture
def connect(options) -> Iterator[Callable[..., ArrayDriver]]:
    """Open drivers that are closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(**changes: Any) -> ArrayDriver:
            driver = ArrayDriver(parse_options(ArrayDriver.Options, options(**changes)))
            stack.callback(driver.close)
            driver.open(Call.within(30))
            return driver

        yield make


@pytest.fixture
def driver(connect) -> ArrayDriver:
    """An open driver with an owner of its own."""
    return connect()


@pytest.fixture
def listen() -> Iterator[Callable[..., int]]:
    """Serve TCP connections with a function, each in a thread; returns the port."""
    with contextlib.ExitStack() as stack:

        def start(serve: Callable[[socket.socket], None]) -> int:
            server = socket.create_server(("127.0.0.1", 0))
            stack.callback(_stop, server)
            threading.Thread(target=_accept, args=(server, serve), daemon=True).start()
            return int(server.getsockname()[1])

        yield start


def _stop(server: socket.socket) -> None:
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def _accept(server: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(connection, serve), daemon=True).start()


def _serve(connection: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    with connection, contextlib.suppress(OSError):
        serve(connection)


@pytest.fixture
def lossy_proxy(listen) -> LossyProxy:
    """A proxy that is told later what to stand in front of."""
    proxy = LossyProxy()
    proxy.url = f"http://127.0.0.1:{listen(proxy)}"
    return proxy
