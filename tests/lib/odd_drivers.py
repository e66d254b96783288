"""Drivers that do what no driver should, for the host that must survive them. What, is in the volume's id."""

# ruff: noqa: ARG002, D102 - the methods are the interface's, whose docstrings stand in core/spi

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bollard.core.spi import (
    Body,
    Call,
    Capability,
    ChangedBlocks,
    Extent,
    FileLocation,
    Guest,
    HostPrimaryDriver,
    ImageStoreDriver,
    Location,
    NotFound,
    Outcome,
    Page,
    PoolInfo,
    QuiescedSnapshots,
    ReportsCapacity,
    Snapshot,
    StorageError,
    StoredObject,
    StoreTraits,
    Traits,
    Unavailable,
    Volume,
    VolumeSpec,
    option,
)
from bollard.transfer_objects.secret import Secret

KEPT: dict[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class OddOptions:
    """What it is told."""

    password: Secret = option(help="Its password", secret=True)
    path: Path | None = option(help="Where", default=None)
    at_start: str = option(help="What it does while it is made", default="")


class AcmeNotFound(NotFound):
    """A vendor's own kind of error."""


class Rude(Exception):
    """Nothing of the taxonomy, and not even a text."""

    def __str__(self) -> str:
        raise RuntimeError


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


def _forever(call: Call) -> None:
    while True:
        call.log.debug("still here")
        time.sleep(0.01)


def _until_stopped(call: Call) -> None:
    while True:
        call.check(Outcome.UNKNOWN)
        time.sleep(0.005)


def _recurse(call: Call) -> None:
    _recurse(call)


def _typed(_: Call) -> None:
    error = AcmeNotFound("no such LUN", outcome=Outcome.APPLIED, detail="LUN 7", retry_after=1.5)
    error.add_note("seen on port 2")
    raise error from KeyError("lun-7")


def _raise(error: BaseException) -> None:
    raise error


def _tell(call: Call) -> None:
    for done in range(1000):
        call.progress(done, 999)


def _print(_: Call) -> None:
    sys.stdout.write("printed\n")
    sys.stdout.flush()
    sys.stderr.write("complained\n")
    logging.getLogger("acme.sdk").debug("logged")
    os.write(1, b"written\n")


def _leak(_: Call) -> None:
    KEPT["file"] = os.open(os.devnull, os.O_RDONLY)
    KEPT["thread"] = threading.Thread(target=threading.Event().wait, name="acme-poller", daemon=True)
    KEPT["thread"].start()
    KEPT["child"] = subprocess.Popen(["sleep", "100"])


def _signal(_: Call) -> None:
    signal.signal(signal.SIGUSR1, signal.getsignal(signal.SIGUSR1))


_DEEDS: Mapping[str, Callable[[Call], Any]] = {
    "print": _print,
    "sys-exit": lambda _: sys.exit("enough"),
    "os-exit": lambda _: os._exit(3),
    "segfault": lambda _: os.kill(os.getpid(), signal.SIGSEGV),
    "recurse": _recurse,
    "rude": lambda _: _raise(Rude()),
    "foreign": lambda _: _raise(ZeroDivisionError("1/0 in the SDK")),
    "interrupt": lambda _: _raise(KeyboardInterrupt()),
    "bare": lambda _: _raise(StorageError("what?")),
    "half-made": lambda _: _raise(NotFound.__new__(NotFound)),
    "typed": _typed,
    "huge": lambda _: "x" * (40 << 20),
    "huge-error": lambda _: _raise(NotFound("x", detail="x" * (40 << 20))),
    "function": lambda _: _deep,
    "coroutine": lambda _: asyncio.sleep(0),
    "half-made-value": lambda _: Volume.__new__(Volume),
    "deep": lambda _: _deep(),
    "digits": lambda _: 10**5000,
    "text": lambda _: "not a volume",
    "forever": _forever,
    "until-stopped": _until_stopped,
    "progress": _tell,
    "leak": _leak,
    "signal": _signal,
    "thread": lambda _: threading.get_ident(),
    "environ": lambda _: dict(os.environ),
    "rubbish": lambda _: [os.write(fd, b"\xff" * 64) for fd in _sockets()],
    "close-sockets": lambda _: os.closerange(_sockets()[0], _sockets()[-1] + 1),
}


def _sockets() -> list[int]:
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [int(link.name) for link in links if str(link.readlink()).startswith("socket:")]


class OddDriver(HostPrimaryDriver[OddOptions], ChangedBlocks, QuiescedSnapshots, ReportsCapacity):
    """A pool without any storage."""

    spi = (1, 0)
    Options: ClassVar[type[OddOptions]] = OddOptions
    closed = 0

    def __init__(self, options: OddOptions) -> None:
        super().__init__(options)
        if options.at_start:
            _DEEDS[options.at_start](Call())

    def open(self, call: Call) -> PoolInfo:
        return PoolInfo(identity="odd", name=self.options.password.reveal())

    def close(self) -> None:
        self.closed += 1
        assert self.closed <= 2
        for name, thing in list(KEPT.items()):
            if name == "child" and self.options.at_start != "keep":
                thing.kill()
                thing.wait()
                del KEPT[name]

    def unavailable(self, call: Call) -> Mapping[Capability, str]:
        return {Capability.CAPACITY: "no licence"}

    def traits(self) -> Traits:
        return Traits(max_size=12345 * 512)

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        return Volume(id=spec.id, size=spec.size, private={"request": call.request_id})

    def delete_volume(self, volume: str, call: Call) -> None: ...

    def get_volume(self, volume: str, call: Call) -> Any:
        return _DEEDS[volume](call)

    def list_volumes(self, call: Call, *, after: str | None = None, limit: int = 1000) -> Page[Volume]:
        return Page(items=(), after=f"{after} {limit}")

    def locate_volume(self, volume: str, call: Call) -> Location:
        return FileLocation(path=Path(f"/dev/{volume}"), format="raw")

    def capacity(self, call: Call) -> Any:
        return {"deadline": call.deadline, "remaining": call.remaining()}

    def changed(self, base: Any, target: str, call: Call, *, start: int = 0) -> Iterator[Extent]:
        KEPT["closed"] = False
        try:
            for number in range(start, start + 5000):
                if target == "breaks" and number == 1500:
                    raise Unavailable("the array is restarting")
                if target == "odd" and number == 3:
                    yield _deep  # type: ignore[misc]  # on purpose
                if target == "made":
                    KEPT["made"] = number
                yield Extent(number * 512, 512)
        finally:
            KEPT["closed"] = True

    def create_quiesced_snapshot(self, volume: str, snapshot: str, guest: Guest, call: Call) -> Snapshot:
        guest.freeze()
        guest.thaw()
        raise NotFound(f"{volume} {snapshot}")


class KeptDriver(OddDriver):
    """Tells what it did before; same odd manners."""

    def get_volume(self, volume: str, call: Call) -> Any:
        return KEPT.get(volume)


class LeakyDriver(OddDriver):
    """Leaves behind what it started."""

    def close(self) -> None: ...


class OddStore(ImageStoreDriver[OddOptions]):
    """A store that keeps its objects in memory, and reads bodies in every way there is."""

    spi = (1, 0)
    Options: ClassVar[type[OddOptions]] = OddOptions

    def __init__(self, options: OddOptions) -> None:
        super().__init__(options)
        self._objects: dict[str, bytes] = {}

    def open(self, call: Call) -> None: ...

    def close(self) -> None: ...

    def traits(self) -> StoreTraits:
        return StoreTraits(conditional_put=False, max_object_size=1 << 40, listing_consistent=True)

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        if key == "late":
            threading.Thread(target=body.open, daemon=True).start()
            return StoredObject(key=key, size=0)
        read = {"all": _read_all, "seek": _read_from_the_middle, "into": _read_into, "thread": _in_a_thread}
        read["chunks"] = _read_in_chunks
        try:
            self._objects[key] = read.get(key, _read_all)(body)
        except OSError as error:
            if key == "swallow":
                raise Unavailable(f"errno {error.errno}") from error
            raise
        return StoredObject(key=key, size=len(self._objects[key]))

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        if key not in self._objects:
            raise NotFound(key)
        yield self._objects[key][offset:]

    def head(self, key: str, call: Call) -> StoredObject:
        return StoredObject(key=key, size=len(self._objects[key]))

    def list(
        self, prefix: str, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[StoredObject]:
        return Page(items=[self.head(key, call) for key in self._objects])

    def delete(self, key: str, call: Call) -> None:
        self._objects.pop(key, None)

    def abort_uploads(self, prefix: str, call: Call, *, older_than: float) -> int:
        return 0


def _read_all(body: Body) -> bytes:
    with body.open() as reader:
        return reader.read()


def _read_from_the_middle(body: Body) -> bytes:
    with body.open() as reader:
        assert reader.seekable()
        reader.seek(body.size // 2)
        assert reader.tell() == body.size // 2
        return reader.read(3)


def _read_in_chunks(body: Body) -> bytes:
    with body.open() as reader:
        while chunk := reader.read(1 << 20):
            last = chunk
    return last


def _read_into(body: Body) -> bytes:
    with body.open() as reader:
        data = bytearray(body.size)
        assert reader.readinto(data) == body.size  # type: ignore[attr-defined]  # BinaryIO lacks it
        return bytes(data)


def _in_a_thread(body: Body) -> bytes:
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(_read_all(body)))
    thread.start()
    thread.join()
    return found[0]
