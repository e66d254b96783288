"""The objects that hypervisor checks introduce: images that the suite writes and reads behind the host.

    0                          size - 256 KiB              size
    | the suite's pattern      | the guest's blocks        |

    raw      read and written as what it is
    qcow2    written through a private qemu-nbd while no VM has it; read by `qemu-img dd`, which sees the
             image as a guest does: past internal snapshots, through the images that an overlay stands on

A running VM has its image open, and QEMU's lock would keep a reader out: `-U` shares it. What the guest
has written with a flush is in the file then; the writer flushes each block.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from ..core.dataplane import BlockSink, open_chain_sink, open_sink, probe
from ..core.dataplane.qemu_img import create_image, run_qemu_img
from ..core.spi import Call, DiskFormat, FileLocation, Location
from . import pattern
from .lab import must

OBJECT_SIZE = 2**20
GUEST_AREA = 256 * 1024  # bytes at an object's end that are the guest's
TOOLS = ("qemu-img", "qemu-nbd")  # what format qcow2 needs
# Twelve blocks, where they were made: they stay there when the object grows.
_PLACES = range(0, OBJECT_SIZE - GUEST_AREA, 64 * 1024)
_SECONDS = 30.0  # for one run of qemu-img over a MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class TestObject:
    """An image with the suite's pattern, to be introduced.

    Attributes:
        id: of the object; it stays what the pattern bears, also where an overlay holds it.
        path: the image that holds the object's bytes.
        size: bytes that a guest sees.
    """

    __test__ = False  # not a test class, whatever its name begins with

    id: str
    path: Path
    format: DiskFormat = "raw"
    size: int = OBJECT_SIZE

    @property
    def identity(self) -> str:
        """What a host must find on it."""
        return os.path.realpath(self.path)

    @property
    def location(self) -> FileLocation:
        """Where it is."""
        return FileLocation(path=self.path, format=self.format)

    def is_at(self, location: Location | None) -> bool:
        """Tell whether a location leads to this image."""
        return (
            isinstance(location, FileLocation)
            and location.format == self.format
            and os.path.realpath(location.path) == self.identity
        )

    def at(self, path: Path) -> Self:
        """Return the same object as another image (an overlay) holds it."""
        return replace(self, path=path)

    def grown(self, size: int) -> Self:
        """Return the same object with another size: the guest's part is at the new end."""
        return replace(self, size=size)

    def make(self) -> None:
        """Make an empty image.

        Raises:
            FileExistsError: there is one.
        """
        with self.path.open("xb") as file:
            if self.format == "raw":
                file.truncate(self.size)
        if self.format == "qcow2":
            create_image(self.path, self.size, Call.within(_SECONDS))

    def write(self, generation: int, *, after: int = 0) -> None:
        """Put blocks of `generation` into the suite's part; no running VM may have the object.

        Args:
            after: so many of the twelve blocks stay as they are.
        """
        with self._sink() as sink:
            for at in _PLACES[after:]:
                sink.write(at, pattern.block(self.id, at, generation))
            sink.flush()

    def _sink(self) -> BlockSink:
        chain = list(self._chain())
        return open_chain_sink(chain) if len(chain) > 1 else open_sink(self.location)

    def _chain(self) -> Sequence[Path]:
        """Return the image and those that it stands on."""
        chain = [self.path]
        while self.format == "qcow2" and (below := probe(chain[-1], "qcow2").backing):
            chain.append(Path(below))
        return chain

    def judge(self, *generations: int) -> None:
        """Fail with the first thing that is wrong with the suite's part.

        Args:
            generations: of equal shares of the blocks, the first ones first.
        """
        must(self.path.exists(), f"the data of {self.id} is GONE: {self.path} is no longer there")
        data = self._read(0)
        share = len(_PLACES) // len(generations)
        for number, at in enumerate(_PLACES):
            block = data[at : at + pattern.BLOCK]
            must(len(block) == pattern.BLOCK, f"the data of {self.id} ends at {len(data)} bytes")
            wrong = pattern.difference(block, self.id, at, generations[number // share])
            must(not wrong, f"{self.path.name} of object {self.id}: {wrong}")

    def length(self) -> int:
        """Return the bytes that a guest sees, as the image says."""
        return len(self._read(0))

    def guest_part(self) -> bytes:
        """Return the guest's part: it changes when the guest writes."""
        return self._read(self.size - GUEST_AREA)

    def _read(self, start: int) -> bytes:
        """Return all bytes from `start` on, a multiple of the guest's part, as a guest would see them."""
        if self.format == "raw":
            with self.path.open("rb") as file:
                file.seek(start)
                return file.read()
        with TemporaryDirectory(prefix="bollard-object-") as directory:
            copy = Path(directory) / "raw"
            where = [f"bs={GUEST_AREA}", f"skip={start // GUEST_AREA}", f"if={self.path}", f"of={copy}"]
            run_qemu_img(["dd", "-U", "-f", "qcow2", "-O", "raw", *where], Call.within(_SECONDS))
            return copy.read_bytes()


def missing_tools(form: DiskFormat) -> list[str]:
    """Return the programs that objects of a format need and this machine has not."""
    return [tool for tool in TOOLS if form == "qcow2" and shutil.which(tool) is None]
