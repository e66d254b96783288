"""The suite's write-ahead ledger: one append-only file per run, from which `clean` works after kill -9.

    line 1     who: run, driver, configuration file       (never options: they may hold secrets)
    line 2     the identity of the pool that was opened
    line 3…    "intend" volume bct-…  ── fsync'ed ──>  create  ── removed, and seen to be gone ──>  "done"

What is not in the file was not made by the run, and is never touched. A torn last line is an intent whose
act had not begun. One file and not one per object, as `core.journal` has: it is copied to another machine.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Self

from ..core.dataplane.os_errors import os_errors
from ..core.mover import state_directory
from ..core.spi import Conflict, DataLoss, InUse, InvalidArgument

FORMAT = 1
_WORK = ".work"
_GRACE = 5.0  # seconds that a driver host may need to notice that its suite is dead
_RUN = re.compile(r"\d{8}-\d{6}-([0-9a-f]{8})")


class LedgerFailed(BaseException):
    """The ledger cannot be written, so nothing may be created.

    No `Exception`: core would take it for a driver's failure, and it must never count against one.
    """


class Kind(StrEnum):
    """What the suite makes."""

    VOLUME = "volume"
    ADOPTED = "adopted"
    RELEASED = "released"
    SNAPSHOT = "snapshot"
    VM_SNAPSHOT = "vm-snapshot"
    GRANT = "grant"
    TEMPLATE = "template"
    PREFIX = "prefix"
    KEY = "key"
    INTRODUCED = "introduced"
    ATTACHED = "attached"
    HOST_SNAPSHOT = "host-snapshot"
    FROZEN = "frozen"
    POWER = "power"
    MOVED = "moved"
    BACKUP = "backup"
    FENCED = "fenced"
    OBJECTS = "objects"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One object that the run may have made.

    Attributes:
        id: of the object; of the volume for a grant; a prefix or key on a store; what the names of objects
            for hosts begin with.
        scope: the host of a grant, VM and members of a VM snapshot, the store of a prefix or key; size of
            what was released, which released volume was adopted; kind and host of what was introduced, VM,
            host and path of what was attached, VM of a host's snapshot, directory of objects for hosts; the
            state that a VM is to have, the host that it is to be on; VM and device of a backup, whose
            checkpoint is the id. A fenced host has none: the driver is of one host.
    """

    kind: Kind
    id: str
    scope: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.id}" + (f" ({self.scope})" if self.scope else "")


@dataclass(slots=True, kw_only=True)
class Contents:
    """What a ledger file says.

    Attributes:
        run: the run's id; empty if it died before it could make anything.
        config: the configuration's absolute path on the machine of the run, or "".
        pool: identity of the pool that was opened, or "".
        intents: what may still exist, in the order in which it was begun.
    """

    run: str = ""
    driver: str = ""
    config: str = ""
    started: str = ""
    pool: str = ""
    intents: dict[Intent, None] = field(default_factory=dict)


def default_directory() -> Path:
    """Return where ledgers live unless `--ledger` says otherwise."""
    return state_directory() / "conformance"


def ledger_path(directory: Path, run: str) -> Path:
    """Return the file of a run; it is gone when all of the run is.

    Raises:
        InvalidArgument: `run` is no run id (it becomes a file name).
    """
    if _RUN.fullmatch(run) is None:
        raise InvalidArgument(f"{run!r} is not a run id: `bollard conformance runs` lists them")
    return directory / f"{run}.jsonl"


class Ledger:
    """A ledger that this process writes; locked, so that nobody cleans a run that is still going on."""

    def __init__(self, path: Path, file: IO[bytes], contents: Contents) -> None:
        self.path = path
        self.contents = contents
        self.known: set[str] = {intent.id for intent in contents.intents}
        self._file = file
        self._lock = threading.Lock()

    @classmethod
    def create(cls, directory: Path, *, driver: str, config: Path | None) -> Self:
        """Begin a run's ledger.

        Raises:
            StorageError: the directory cannot be written.
        """
        now = datetime.now(UTC)
        contents = Contents(
            run=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}",
            driver=driver,
            config=str(config.absolute()) if config else "",
            started=now.isoformat(timespec="seconds"),
        )
        with os_errors(f"cannot write the ledger in {directory}"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = directory / f"{contents.run}.jsonl"
            ledger = cls(path, _locked(path, os.O_CREAT | os.O_EXCL), contents)
            who = {k: getattr(contents, k) for k in ("run", "driver", "config", "started")}
            ledger._append({"format": FORMAT} | who, durable=True)
            _sync_directory(directory)
        return ledger

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """Take over the ledger of a run that is dead.

        Raises:
            InUse: the run, one of its processes, or another `clean`, is still going on.
            DataLoss: a line in the middle is damaged.
        """
        with os_errors(f"cannot open the ledger {path}"):
            file = _locked(path, 0)
            try:
                _await_end(path.stem)
                # A torn line's act had not begun; a new line must not be glued to it.
                content = path.read_bytes()
                file.truncate(content.rfind(b"\n") + 1)
                return cls(path, file, read(path))
            except BaseException:
                file.close()
                raise

    @property
    def prefix(self) -> str:
        """What every id of this run starts with."""
        match = _RUN.fullmatch(self.contents.run)
        assert match, "a ledger of this process has a run id"
        return f"bct-{match[1]}"

    @property
    def work(self) -> Path:
        """The run's own directory beside the ledger; it goes with it."""
        return self.path.with_suffix(_WORK)

    def open_intents(self) -> list[Intent]:
        """Return what may exist, newest first: the order in which it can be removed."""
        return list(reversed(self.contents.intents))

    def bind(self, pool: str) -> None:
        """Tie the ledger to the pool that was opened.

        Raises:
            Conflict: it belongs to another pool, whose objects are none of this one's business.
        """
        if self.contents.pool not in ("", pool):
            raise Conflict(f"the ledger is of pool {self.contents.pool!r}, the configuration opens {pool!r}")
        if not self.contents.pool:
            self._append({"act": "pool", "id": pool}, durable=True)
            self.contents.pool = pool

    def intend(self, intent: Intent) -> bool:
        """Make an intent durable; its object may be made when this returns. Tells whether it is new."""
        with self._lock:
            new = intent not in self.contents.intents
            if new:
                self._append(_line("intend", intent), durable=True)
                self.contents.intents[intent] = None
                self.known.add(intent.id)
        return new

    def done(self, intent: Intent) -> None:
        """Note that the object is gone. Losing this line costs a removal that finds nothing."""
        with self._lock:
            if intent in self.contents.intents:
                self._append(_line("done", intent), durable=False)
                del self.contents.intents[intent]

    def finish(self) -> bool:
        """Close the ledger; remove it if nothing of the run is left. Tells whether it was removed."""
        clean = not self.contents.intents
        if clean:
            shutil.rmtree(self.work, ignore_errors=True)
            self.path.unlink(missing_ok=True)
        self.close()
        return clean

    def close(self) -> None:
        """Let go of the ledger as it is; repeatable."""
        self._file.close()

    def _append(self, line: Mapping[str, Any], *, durable: bool) -> None:
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
            if durable:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise LedgerFailed(f"cannot write the ledger {self.path}: {error}") from error


def read(path: Path) -> Contents:
    """Return what a ledger says, without locking it.

    Raises:
        DataLoss: a line that is not the last is damaged: something may be missing from it.
    """
    contents = Contents()
    with os_errors(f"cannot read the ledger {path}"):
        lines = path.read_bytes().splitlines(keepends=True)
    for number, raw in enumerate(lines, 1):
        if not raw.endswith(b"\n"):
            break
        try:
            _apply(contents, json.loads(raw))
        except (ValueError, KeyError, TypeError) as error:
            raise DataLoss(f"line {number} of {path} is damaged: look at it by hand") from error
    return contents


def ledgers(directory: Path) -> Iterator[tuple[Path, Contents, bool]]:
    """Yield path, contents and "still running" of each ledger, oldest first."""
    for path in sorted(directory.glob("*.jsonl")):
        if _RUN.fullmatch(path.stem):
            yield path, read(path), _is_locked(path)


def _apply(contents: Contents, line: Mapping[str, Any]) -> None:
    match line.get("act"):
        case None:
            if line["format"] != FORMAT:
                raise ValueError(f"format {line['format']}")
            for name in ("run", "driver", "config", "started"):
                setattr(contents, name, str(line[name]))
        case "pool":
            contents.pool = str(line["id"])
        case "intend":
            contents.intents[_intent(line)] = None
        case "done":
            contents.intents.pop(_intent(line), None)
        case other:
            raise ValueError(f"act {other!r}")


def _line(act: str, intent: Intent) -> dict[str, str]:
    return {"act": act, "kind": intent.kind.value, "id": intent.id, "scope": intent.scope}


def _intent(line: Mapping[str, Any]) -> Intent:
    return Intent(kind=Kind(line["kind"]), id=str(line["id"]), scope=str(line["scope"]))


def _locked(path: Path, flags: int) -> IO[bytes]:
    file = os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | flags, 0o600), "ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise InUse(f"{path.stem} is still running, or being cleaned") from error
    return file


def _await_end(run: str) -> None:
    """Wait for the driver hosts of a killed run: what they still make, nobody would remove after us.

    Each is told a file below the run's work directory, whose name is like no other.
    """
    deadline = time.monotonic() + _GRACE
    while pids := _processes_of(run):
        if time.monotonic() >= deadline:
            raise InUse(f"processes of {run} are still running: {', '.join(pids)}")
        threading.Event().wait(0.05)


def _processes_of(run: str) -> list[str]:
    mark, found = f"/{run}{_WORK}/".encode(), []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            if mark in command.read_bytes():
                found.append(command.parent.name)
    return found


def _is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
