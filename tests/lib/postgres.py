"""A real PostgreSQL of our own, for tests: one cluster per test process, one database per test.

    with Postgres() as server:
        server.url("bollard")           an empty database, made when it is first asked for
        server.catalog_url()            a new database with the catalog's tables

It runs as the user `postgres` when the tests run as root, which it refuses, and does not wait for the
disk: no test pulls its plug. The next run ends what a killed one left.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql

from bollard.core.catalog import schema
from bollard.core.catalog.engines import open_engine, parse_url
from ports import free_ports

PASSWORD = "made-up-of-the-catalog"  # no part of a word that a message may hold
_PREFIX = "bollard-postgres-"
_HOMES = Path(tempfile.gettempdir()) / f"bollard-postgres.{os.getuid()}.lock"
_TEMPLATE = "with_tables"


class Postgres:
    """The server; close it.

    Args:
        durable: wait for the disk, as one in production does.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._waits = "on" if durable else "off"
        with _HOMES.open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)  # nobody sweeps a home that has no lock yet
            sweep()
            self.home = Path(tempfile.mkdtemp(prefix=_PREFIX))
            self._lock = _locked(self.home)
        [self.port] = free_ports(1)
        self._numbers = itertools.count(1)
        self._names: set[str] = {"postgres"}
        if os.geteuid() == 0:
            shutil.chown(self.home, "postgres", "postgres")
        try:
            self._initialise()
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.home),
            "fsync": self._waits,
            "synchronous_commit": self._waits,
            "full_page_writes": self._waits,
            "max_connections": "60",
            "shared_buffers": "32MB",
        }
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        _control(self.home, "start", "-w", "-l", str(self.home / "log"), "-o", options)

    def stop(self) -> None:
        """Stop it without a word to its clients, as a crash would; repeatable."""
        _stop(self.home)

    def close(self) -> None:
        """Stop it and remove all of it; repeatable."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)
        self._lock.close()

    def url(self, database: str, *, password: str = PASSWORD) -> str:
        """Return a database's URL, for our own user; it is made if it is new."""
        if database not in self._names:
            self._create(database, "template1")
        return self._url(database, password)

    def catalog_url(self) -> str:
        """Return the URL of a new database that has the catalog's tables."""
        if _TEMPLATE not in self._names:
            engine = open_engine(parse_url(self.url(_TEMPLATE)))
            schema.upgrade(engine)
            engine.dispose()  # nobody may be connected to what is copied
        name = f"catalog_{next(self._numbers)}"
        self._create(name, _TEMPLATE)
        return self._url(name, PASSWORD)

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        name = parse_url(url).database or ""
        self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        self._names.discard(name)

    def execute(self, statement: sql.Composed | sql.SQL, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement as the administrator; return what it says."""
        plain = self._url(database, PASSWORD).replace("+psycopg", "")
        with psycopg.connect(plain, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _create(self, name: str, template: str) -> None:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        self._names.add(name)

    def _url(self, database: str, password: str) -> str:
        return f"postgresql+psycopg://bollard:{password}@127.0.0.1:{self.port}/{database}"

    def _initialise(self) -> None:
        secret = self.home / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            shutil.chown(secret, "postgres")
        arguments = ["-D", "data", "-U", "bollard", "-A", "scram-sha-256", "--pwfile", str(secret)]
        _run([_tool("initdb"), *arguments, "--no-sync", "--locale=C", "--encoding=UTF8"], self.home)


def sweep() -> None:
    """End what a killed run left: a home whose lock nobody holds."""
    for home in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            lock = _locked(home)
        except (BlockingIOError, PermissionError, FileNotFoundError):
            continue
        with lock:
            _stop(home)
            shutil.rmtree(home, ignore_errors=True)


def _locked(home: Path) -> Any:
    """Hold a home for as long as the file that is returned is open; the kernel frees it with its holder."""
    file = (home / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    return file


def _stop(home: Path) -> None:
    if _runs(home / "data"):
        _control(home, "stop", "-w", "-m", "immediate")


def _runs(data: Path) -> bool:
    """Tell whether a server lives there. One that a power cut ended leaves its pid file, on which `pg_ctl`
    fails, and the number may be another process's by now; a living one stands in its data directory.
    """
    try:
        pid = (data / "postmaster.pid").read_text().split("\n")[0]
        return Path(f"/proc/{int(pid)}/cwd").samefile(data)
    except (FileNotFoundError, ValueError):
        return False


def _control(home: Path, *arguments: str) -> None:
    _run([_tool("pg_ctl"), "-D", "data", "-s", *arguments], home)


def _run(command: Sequence[str], home: Path) -> None:
    # Its output into a file: a pipe would stay open in the server, and be waited for.
    who: dict[str, Any] = (
        {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    )
    with (home / "output").open("ab") as output:
        done = subprocess.run(
            command,
            cwd=home,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=60,
            **who,
        )
    if done.returncode:
        said = "".join(path.read_text() for path in (home / "output", home / "log") if path.exists())
        raise RuntimeError(f"{command[0]} failed: {said}")


def _tool(name: str) -> str:
    """Return a tool's path: Debian keeps the server's off PATH, in a directory per version."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    path = str(found[-1]) if found else shutil.which(name)
    if path is None:
        raise RuntimeError(f"{name} is missing: scripts/setup-system.sh installs PostgreSQL")
    return path
