"""The server: a socket, the application on it, and a worker beside it.

    SIGTERM ─> readiness says no, who waits is answered ─> requests end ─> jobs are given back ─> exit

A kill -9 at any point costs nothing but time: orders are in the catalog, and jobs are taken over when their
lease has passed.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from ..core.jobs import Worker
from ..core.spi.errors import InvalidArgument
from .app import create_app
from .door import Door
from .patience import PatientProtocol
from .services import Services

_GRACE_SECONDS = 5
_MOST_CONNECTIONS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """A certificate with its key, both PEM; `clients` are the authorities whose certificates clients need."""

    certificate: Path
    key: Path
    clients: Path | None = None


def listen(address: str, port: int, *, plain: bool) -> Door:
    """Return a socket that listens.

    Args:
        address: an IP address.
        port: 0: any free one.
        plain: the server has no certificate; tokens would be read by everybody on the way.

    Raises:
        InvalidArgument: plain, and not on a loopback address; or no address at all.
    """
    try:
        where = ipaddress.ip_address(address)
    except ValueError as error:
        raise InvalidArgument("the address must be an IP address, e.g. 127.0.0.1") from error
    if plain and not where.is_loopback:
        raise InvalidArgument("beyond this machine the API needs TLS: give a certificate and its key")
    family = socket.AF_INET6 if where.version == 6 else socket.AF_INET
    return Door(socket.create_server((address, port), family=family, backlog=128))


class _Server(uvicorn.Server):
    """Tells the application when it begins to stop, not when all connections have gone."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, on a signal."""
        self._services.stopping.set()
        super().handle_exit(sig, frame)


class ApiServer:
    """Answers on a socket until it is stopped.

    Args:
        listener: from `listen`; closed with the server.
        worker: does jobs in this process; None leaves them to others.
    """

    def __init__(
        self,
        services: Services,
        listener: Door,
        *,
        worker: Worker | None = None,
        tls: Tls | None = None,
    ) -> None:
        self._services = services
        self._listener = listener
        self._worker = worker
        self._server = _Server(_config(create_app(services), tls, self._listener), services)
        if worker is not None:
            services.orders.listen(worker.wake)

    def run(self) -> None:
        """Serve until SIGTERM, Ctrl-C or `stop`; jobs of this process are given back to the queue."""
        try:
            if self._worker is not None:
                self._worker.start()
            with suppress(KeyboardInterrupt):  # uvicorn passes the signal on when it has stopped
                self._server.run(sockets=[self._listener])
        finally:
            self._listener.close()
            if self._worker is not None:
                self._worker.close()

    def stop(self) -> None:
        """Make `run` return; from another thread."""
        self._services.stopping.set()
        self._server.should_exit = True


def _config(app: FastAPI, tls: Tls | None, door: Door) -> uvicorn.Config:
    protocol = type("Protocol", (PatientProtocol,), {"door": door})
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=str(tls.key) if tls else None,
        ssl_ca_certs=str(tls.clients) if tls and tls.clients else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if tls and tls.clients else ssl.CERT_NONE,
    )
