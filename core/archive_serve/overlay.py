"""Copy-on-write over a snapshot: a local qcow2 file takes what is written, the archive stays as it is.

    guest ── NBD ── QEMU's storage daemon ── overlay.qcow2          what was written
                                └── NBD ── SnapshotServer ── archive       everything else

The overlay outlives the server: opened again with the same snapshot, it has what was written. Its header
names volume, snapshot and digest of the image below it in a form that nothing can open, so that an overlay
is never put over other bytes, and a QEMU that is given the file alone refuses instead of reading rubbish.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from ...transfer_objects.secret import Secret
from ..archive import ArchiveSource
from ..dataplane import activate
from ..dataplane.activate import FIRST_FD
from ..dataplane.endpoint import SocketEndpoint
from ..dataplane.file import open_nofollow
from ..dataplane.image_info import probe, probe_fd
from ..dataplane.nbd_source import NbdSource
from ..dataplane.qemu_img import create_image
from ..dataplane.qemu_nbd import moved_up, private_listener, reason_of
from ..spi.call import DEFAULT_TIMEOUT, Call
from ..spi.errors import Conflict, NotFound, Unavailable, Unsupported
from .server import Address, SnapshotServer

_SECTOR = 512  # QEMU rounds the size of an image up to it
_END_SECONDS = 30.0  # closing flushes the image's caches; on a slow disk that is seconds


class Overlay:
    """A writable export over a snapshot. It ends with the thread that made it, however that ends.

    Args:
        source: the snapshot; its owner closes it, after this: its reads end with the server.
        path: the qcow2 file; made if it is not there.
        name: what the overlay belongs to, such as `volume/snapshot@digest`.
        listener: where it serves; owned from now on.
        address: of the listener.
        ended: called when the daemon has ended, also by itself.
        timeout: seconds that making the file, and starting, may take.
        read_only: serve what the overlay has, and change nothing.

    Raises:
        Conflict: the file belongs to another snapshot, or to none.
        InUse: another server or VM has it open.
        NotFound: read-only, and there is no such file.
        Unsupported: qemu-storage-daemon or qemu-img is not installed.
    """

    def __init__(
        self,
        source: ArchiveSource,
        path: Path,
        name: str,
        listener: socket.socket,
        address: Address,
        ended: Callable[[], None] = lambda: None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        read_only: bool = False,
    ) -> None:
        self._tell_end = ended
        self._ended = threading.Event()
        call = Call.within(timeout)
        self._stack = ExitStack()
        with self._stack, ExitStack() as ours:
            ours.callback(listener.close)  # from here on the child alone listens: it dies, connections break
            # activate.py puts the listener at 3: were one of the others there, it would be lost.
            image = moved_up(_open_overlay(path, name, source.size, call, read_only=read_only))
            ours.callback(os.close, image)
            below, door = private_listener()
            ours.callback(os.close, door := moved_up(door))
            self._stack.enter_context(SnapshotServer(source, below))
            self._errors = os.memfd_create("overlay-stderr")
            self._stack.callback(os.close, self._errors)
            self._process = self._start(image, door, listener, read_only=read_only)
            self._stack.callback(self._end)
            self._stack = self._stack.pop_all()
        threading.Thread(target=self._watch, name="overlay", daemon=True).start()
        with self._stack:
            self._wait_until_ready(path, address, call)
            self._stack = self._stack.pop_all()

    @property
    def pid(self) -> int:
        """Process id of the storage daemon."""
        return self._process.pid

    def _start(
        self, image: int, door: int, listener: socket.socket, *, read_only: bool
    ) -> subprocess.Popen[bytes]:
        """Start the daemon; activate.py lets it die with the thread that is here."""
        command = [_program(), *_arguments(image, door, read_only=read_only)]
        inner = [str(os.getpid()), str(listener.fileno()), *command]
        return subprocess.Popen(
            [sys.executable, "-I", "-S", activate.__file__, *inner],
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            pass_fds=(listener.fileno(), image, door),
            cwd="/",
            start_new_session=True,  # Ctrl-C is for us; it ends in order then, which SIGINT would not let it
        )

    def _watch(self) -> None:
        self._process.wait()
        self._ended.set()
        self._tell_end()

    def _wait_until_ready(self, path: Path, address: Address, call: Call) -> None:
        """Shake hands with it once: it has opened its image then."""
        try:
            endpoint = SocketEndpoint(address, timeout=call.remaining())
            NbdSource(endpoint, Secret(""), timeout=call.remaining()).close()
        except Unavailable as error:
            self._end()
            said = os.pread(self._errors, 4096, 0).decode(errors="replace").strip()
            raise reason_of(said)(f"the storage daemon cannot serve {path}: {said}", detail=said) from error

    def _end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        if not self._ended.wait(_END_SECONDS):
            self._process.kill()
            self._ended.wait(_END_SECONDS)

    def close(self) -> None:
        """End the server in order: what was written is in the file then. Repeatable."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _program() -> str:
    found = shutil.which("qemu-storage-daemon")
    if found is None:
        raise Unsupported("qemu-storage-daemon is not installed (Debian: apt install qemu-system-common)")
    return found


def _open_overlay(path: Path, name: str, size: int, call: Call, *, read_only: bool) -> int:
    """Return the open file, made if it was not there, whose header says that it belongs to `name`."""
    below = f"bollard-archive:{name}"
    if not read_only:
        _create(path, size, below, call)
    fd = open_nofollow(path, writable=not read_only)
    try:
        found = probe_fd(fd, path, "qcow2")
        if (found.backing, found.virtual_size) != (below, -(-size // _SECTOR) * _SECTOR):
            raise Conflict(f"{path} lies over {found.backing or 'nothing'}, not over {below}")
    except BaseException:
        os.close(fd)
        raise
    return fd


def _create(path: Path, size: int, below: str, call: Call) -> None:
    """Make an overlay; a run that was killed leaves a file beside it, never half an overlay."""
    with suppress(NotFound):
        probe(path, "qcow2")
        return
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        create_image(part, size, call, backing=below, backing_format="raw")
        os.link(part, path)
    finally:
        part.unlink(missing_ok=True)


def _arguments(image: int, door: int, *, read_only: bool) -> list[str]:
    """Spell out both layers.

    The storage daemon and not qemu-nbd: its layers are nodes of their own, while `backing.file.server.*` in
    one option string is refused where the header names a file (bdrv_open_backing_file, QEMU 7.2).
    """
    mode = "on" if read_only else "off"
    below = f"driver=nbd,node-name=below,read-only=on,server.type=unix,server.path=/proc/self/fd/{door}"
    over = f"driver=qcow2,node-name=over,read-only={mode},discard=unmap,backing=below"
    over += f",file.driver=file,file.filename=/proc/self/fd/{image}"
    export = f"type=nbd,id=over,node-name=over,name=,writable={'off' if read_only else 'on'}"
    return [
        *("--blockdev", below, "--blockdev", over),
        *("--nbd-server", f"addr.type=fd,addr.str={FIRST_FD},max-connections=0", "--export", export),
    ]
