"""The software inside a running VM: it writes blocks in order, except while it is frozen."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from .errors import Refused
from .files import read_files, write_file
from .media import Address, Medium
from .pattern import BLOCK, Block, layout_of, position

log = logging.getLogger(__name__)

DEFAULT_SLOTS = 64


@dataclass(frozen=True, slots=True)
class GuestDisk:
    """A disk that the guest may write to.

    Attributes:
        name: id of the disk.
        address: where its bytes are.
        offset: first byte of the guest's region.
        slots: blocks in the region.
    """

    name: str
    address: Address
    offset: int
    slots: int


class Guest:
    """A running guest.

    Args:
        vm: its id.
        disks: in the order in which it writes to them.
        rate: blocks per second that it writes by itself; 0 for none.
        frozen_until: when it thaws by itself, by ``clock``; None when it is not frozen.
        clock: seconds; only compared with ``frozen_until``.
        mark: told disk, offset and length of each write before it happens.

    The newest generation is read back from the disks when the guest first writes, so a restarted
    simulator goes on where the killed one stopped.
    """

    def __init__(
        self,
        vm: str,
        disks: Sequence[GuestDisk],
        *,
        rate: float,
        frozen_until: float | None,
        clock: Callable[[], float],
        mark: Callable[[str, int, int], None],
    ) -> None:
        self._vm = vm
        self._mark = mark
        self._disks = list(disks)
        self._slots = min((disk.slots for disk in disks), default=0)
        self._layout = layout_of([disk.name for disk in disks], self._slots)
        self._rate = rate
        self._clock = clock
        self._frozen_until = frozen_until
        self._lock = threading.RLock()
        self._media: dict[str, Medium] = {}
        self._generation: int | None = None
        self._first = 1
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"guest-{vm}")
        self.io_errors = 0

    def start(self) -> None:
        """Begins to write by itself, if it has a rate."""
        if self._rate > 0:
            self._thread.start()

    def stop(self) -> None:
        """Power off: no write happens after the return."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        with self._lock:
            self._close()

    def _run(self) -> None:
        while not self._stopping.wait(1 / self._rate):
            if not self.frozen:
                try:
                    self.write(1)
                except (OSError, Refused) as error:
                    log.debug("guest %s could not write: %s", self._vm, error)

    @property
    def frozen(self) -> bool:
        """Whether its file systems are frozen now."""
        with self._lock:
            return self._frozen_until is not None and self._clock() < self._frozen_until

    @property
    def generation(self) -> int | None:
        """The newest block that it wrote; 0 for none, None while its storage does not answer."""
        with self._lock:
            try:
                return self._resume()
            except OSError:
                self.io_errors += 1
                return None

    def freeze(self, until: float) -> None:
        """Flushes everything and stops writing until ``thaw`` or the time ``until``."""
        with self._lock:
            for disk in self._disks:
                if disk.name in self._media:
                    self._media[disk.name].flush()
            self._frozen_until = until

    def thaw(self) -> None:
        """Goes on writing."""
        with self._lock:
            self._frozen_until = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No write happens inside, and all earlier ones are in the files: the hypervisor stopped the CPUs."""
        with self._lock:
            yield

    def write(self, blocks: int) -> int | None:
        """Writes so many blocks now; returns the newest generation.

        Raises:
            Refused: 423 while it is frozen; 409 when it has no disk to write to.
            OSError: the storage failed; counted in ``io_errors``.
        """
        for _ in range(blocks):
            with self._lock:
                if self.frozen:
                    raise Refused(423, "frozen", "the guest is frozen and does not write")
                self._write_one()
        return self.generation

    def _write_one(self) -> None:
        if not self._disks:
            raise Refused(409, "no_disk", "the guest has no disk to write to")
        try:
            generation = self._resume() + 1
            index, slot = position(generation - self._first, len(self._disks), self._slots)
            disk = self._disks[index]
            offset = disk.offset + slot * BLOCK
            self._medium(disk).write(offset, self._block(generation, index, offset).pack())
        except OSError:
            self.io_errors += 1
            self._close()  # the next write opens anew: a session that was kicked never comes back by itself
            raise
        self._generation = generation

    def put_file(self, disk: str, name: str, text: str) -> None:
        """Writes a file into the file system of one disk, and syncs it.

        Raises:
            Refused: 423 while it is frozen; 404 without such a disk.
            OSError: the storage failed.
        """
        with self._lock:
            if self.frozen:
                raise Refused(423, "frozen", "the guest is frozen and does not write")
            write_file(self._disk_medium(disk), name, text)

    def files(self, disk: str) -> dict[str, str]:
        """The files on one disk."""
        with self._lock:
            return read_files(self._disk_medium(disk))

    def _disk_medium(self, name: str) -> Medium:
        for disk in self._disks:
            if disk.name == name:
                return self._medium(disk)
        raise Refused(404, "not_found", f"the guest has no disk {name}")

    def _block(self, generation: int, index: int, offset: int) -> Block:
        return Block(
            generation=generation,
            offset=offset,
            first=self._first,
            disk_index=index,
            disk_count=len(self._disks),
            slots=self._slots,
            layout=self._layout,
            vm=self._vm,
            disk=self._disks[index].name,
        )

    def _medium(self, disk: GuestDisk) -> Medium:
        if disk.name not in self._media:
            self._media[disk.name] = _Marked(disk.address.open(), partial(self._mark, disk.name))
        return self._media[disk.name]

    def _resume(self) -> int:
        """The newest generation; read from the disks the first time. Another set of disks is a new layout."""
        if self._generation is None:
            newest = max(self._written(), key=lambda block: block.generation, default=None)
            self._generation = 0 if newest is None else newest.generation
            same = newest is not None and newest.layout == self._layout
            self._first = newest.first if newest is not None and same else self._generation + 1
        return self._generation

    def _written(self) -> Iterator[Block]:
        for disk in self._disks:
            medium = self._medium(disk)
            for slot in range(self._slots):
                block = _read(medium, disk.offset + slot * BLOCK)
                if block is not None and block.vm == self._vm:
                    yield block

    def _close(self) -> None:
        media = list(self._media.values())
        self._media.clear()
        for medium in media:
            medium.close()


class _Marked:
    """A medium of which it is known where it was written to."""

    def __init__(self, medium: Medium, mark: Callable[[int, int], None]) -> None:
        self._medium = medium
        self._mark = mark
        self.size = medium.size
        self.read = medium.read
        self.flush = medium.flush
        self.close = medium.close

    def write(self, offset: int, data: bytes) -> None:
        """Marks, then writes: a mark too many costs time, one too few costs data."""
        self._mark(offset, len(data))
        self._medium.write(offset, data)


def _read(medium: Medium, offset: int) -> Block | None:
    try:
        return Block.unpack(medium.read(offset, BLOCK))
    except ValueError:
        return None  # torn by a power cut: as if it had not been written
