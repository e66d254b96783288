"""The array as one object: opens the state, starts both servers, stops them in order."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from flask import Flask

from ...core.nbd_server import NbdServer
from ..http_server import HttpServer
from . import routes, rules
from .access import Access, Grants
from .core import Core, Settings
from .database import Database
from .defects import Defect, Defects
from .exports import ArrayExports
from .http import Frame
from .jobs import Jobs
from .logins import Logins
from .snapshots import Snapshots
from .store import Store
from .tls import certificates
from .volumes import Volumes

DEFAULT_POOLS: Mapping[str, int] = {"pool-a": 256 * 2**30}


class ArraySimulator:
    """An all-flash array on 127.0.0.1. Start and stop it with ``with``, any number of times.

    Args:
        state_dir: where everything is kept; made when missing, mode 0700. One simulator per directory.
        pools: name to capacity in bytes; kept from the first start on, later starts may add or change some.
        port: of the REST API, 0 for any.
        controllers: 2 for a second address of the REST API (``urls``), with sessions of its own.
        nbd_port: of the data path, 0 for any.
        tls: REST over HTTPS with a self-signed authority (``ca``); False: plain HTTP.
        nbd_tls: hosts must use STARTTLS; off, NBD is in the clear.
        password: the administrator's; random when not given, and then kept in ``state_dir/admin-password``.
        defects: switched on from the start.
        clock: seconds since the epoch; decides expiry and jobs.
        settings: further fields of :class:`.core.Settings`.

    Raises:
        RuntimeError: on start, when another simulator uses the directory.
        ValueError: for an unknown defect.
    """

    def __init__(
        self,
        state_dir: Path | str,
        *,
        pools: Mapping[str, int] | None = None,
        port: int = 0,
        controllers: int = 1,
        nbd_port: int = 0,
        tls: bool = True,
        nbd_tls: bool = False,
        password: str | None = None,
        defects: Iterable[Defect | str] = (),
        clock: Callable[[], float] = time.time,
        **settings: Any,
    ) -> None:
        self.state_dir = Path(state_dir).absolute()
        self.defects = Defects()
        self.defects.set(*defects)
        self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.password_file = None if password is not None else self.state_dir / "admin-password"
        self.admin_password = password if password is not None else _kept_password(self.state_dir)
        self._settings = Settings(password=self.admin_password, **settings)
        self._pools = dict(pools or {})
        self._ports = [port, *[0] * (controllers - 1)]
        self._nbd_port = nbd_port
        self._tls, self._nbd_tls = tls, nbd_tls
        self._clock = clock
        self._running: _Running | None = None
        self._stack = ExitStack()

    @property
    def admin_user(self) -> str:
        """The administrator's name."""
        return self._settings.username

    @property
    def url(self) -> str:
        """Where REST answers, without a trailing slash; ``/api/v1`` follows."""
        return self.urls[0]

    @property
    def urls(self) -> list[str]:
        """The same of all controllers, also of those that have failed."""
        scheme = "https" if self._tls else "http"
        return [f"{scheme}://127.0.0.1:{one.port}" for one in self._started.controllers]

    @property
    def ca(self) -> Path | None:
        """The authority to trust, None without TLS."""
        return self.state_dir / "tls" / "ca.pem" if self._tls or self._nbd_tls else None

    @property
    def nbd_host(self) -> str:
        """Where hosts find the data."""
        return "127.0.0.1"

    @property
    def nbd_port(self) -> int:
        """Where hosts find the data."""
        return self._started.nbd.port

    @property
    def pools(self) -> list[str]:
        """The names of the pools."""
        return list(self._started.core.store.pools)

    def stats(self) -> dict[str, int]:
        """REST calls per endpoint, e.g. ``{"POST /volumes": 3}``."""
        return dict(sum((Counter(one.frame.stats()) for one in self._started.controllers), Counter()))

    def reset_stats(self) -> None:
        """Count from zero."""
        for one in self._started.controllers:
            one.frame.reset_stats()

    def fail_controller(self, number: int) -> None:
        """Let a controller fail: its sessions end, its connections break, nothing listens at its address.

        What it had begun goes on to its end, as the other one would take it over.
        """
        self._started.controllers[number].stop()

    def repair_controller(self, number: int) -> None:
        """Let a controller that failed come back at its address."""
        self._started.controllers[number].start()

    @property
    def _started(self) -> _Running:
        if self._running is None:
            raise RuntimeError("the array simulator is not running")
        return self._running

    def start(self) -> Self:
        """Open the state and serve."""
        with ExitStack() as stack:
            self._running = self._open(stack)
            self._stack = stack.pop_all()
        return self

    def stop(self) -> None:
        """End all requests and sessions, commit, close; a stopped simulator can be started again."""
        self._running = None
        self._stack.close()

    def _open(self, stack: ExitStack) -> _Running:
        core = self._open_core(stack)
        files = certificates(self.state_dir / "tls") if self._tls or self._nbd_tls else None
        context = files.server_context() if files else None
        access = Access(core)
        exports = ArrayExports(core, access)
        nbd = exports.server = NbdServer(
            exports, port=self._nbd_port, tls=context if self._nbd_tls else None, tls_required=self._nbd_tls
        )
        nbd.start()
        stack.callback(nbd.stop)
        jobs = Jobs(core)
        grants = Grants(core, jobs, self.nbd_host, nbd.port, tls=self._nbd_tls)

        def frame(stopping: threading.Event) -> Frame:
            logins = Logins(core)
            made = Frame(core, logins, stopping)
            _add_routes(made, core, logins, jobs, access, grants, exports)
            return made

        controllers = [_Controller(frame, port, context if self._tls else None) for port in self._ports]
        for one in controllers:
            one.start()
            stack.callback(one.stop)
        return _Running(core, controllers, nbd)

    def _open_core(self, stack: ExitStack) -> Core:
        stack.callback(_lock(self.state_dir).close)
        db = Database(self.state_dir / "array.db")
        stack.callback(db.close)
        store = Store(db, self.state_dir / "pools", _declare(db, self._pools))
        stack.callback(store.close)
        return Core(db, store, self.defects, self._settings, self._clock)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


@dataclass(frozen=True, slots=True)
class _Running:
    core: Core
    controllers: Sequence[_Controller]
    nbd: NbdServer


class _Controller:
    """One REST server. A start makes a new one at the address of the first."""

    def __init__(
        self, frame: Callable[[threading.Event], Frame], port: int, context: ssl.SSLContext | None
    ) -> None:
        self._make, self._context = frame, context
        self.port = port
        self._http: HttpServer | None = None

    def start(self) -> None:
        """Serve, without sessions; fine if it does."""
        if self._http is not None:
            return
        self._stopping = threading.Event()
        self.frame = self._make(self._stopping)
        self._http = _HttpsServer(self.frame.app, self.port, self._context)
        self._http.start()
        self.port = self._http.port

    def stop(self) -> None:
        """End requests and connections; fine if it has stopped."""
        self._stopping.set()
        if self._http is not None:
            self._http.stop()
            self._http = None


class _HttpsServer(HttpServer):
    """The common HTTP server, over TLS when there is a context.

    The TLS handshake happens in the connection's own thread: one silent client must not block the others.
    """

    def __init__(self, app: Flask, port: int, context: ssl.SSLContext | None) -> None:
        super().__init__(app, port)
        self._context = context

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        sock, address = super().get_request()
        if self._context is None or not isinstance(sock, socket.socket):
            return sock, address
        return self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False), address


def _add_routes(
    frame: Frame,
    core: Core,
    logins: Logins,
    jobs: Jobs,
    access: Access,
    grants: Grants,
    exports: ArrayExports,
) -> None:
    volumes = Volumes(core, jobs, exports.kick)
    routes.add_system(frame, core, logins, jobs)
    routes.add_volumes(frame, core, volumes)
    routes.add_snapshots(frame, core, Snapshots(core, jobs, volumes))
    routes.add_hosts(frame, access, exports)
    routes.add_grants(frame, core, grants, exports)
    routes.add_control(frame, core.defects)


def _declare(db: Database, wanted: Mapping[str, int]) -> dict[str, int]:
    """The pools of the array: those of earlier starts and the new ones."""
    with db.transaction():
        if db.recall("array_serial") is None:
            db.remember("array_serial", f"BAF{secrets.randbelow(10**9):09d}")
        known = {row["name"]: row["capacity"] for row in db.all("SELECT * FROM pools")}
        for name, capacity in (wanted or ({} if known else DEFAULT_POOLS)).items():
            rules.name({"name": name})
            db.run(
                "INSERT INTO pools (name, capacity) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET capacity = excluded.capacity",
                *(name, capacity),
            )
        return {row["name"]: row["capacity"] for row in db.all("SELECT * FROM pools ORDER BY seq")}


def _kept_password(directory: Path) -> str:
    """The password that an earlier start left, or a new one."""
    path = directory / "admin-password"
    if not path.exists():
        partial = path.with_name("admin-password.partial")
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(18))
        partial.rename(path)
    return path.read_text().strip()


def _lock(directory: Path) -> IO[str]:
    """A lock that the kernel drops when the process dies, however it dies."""
    handle = (directory / "lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        handle.close()
        raise RuntimeError(f"another simulator serves {directory}") from error
    return handle
