r"""The manifest: what a snapshot consists of. Its appearance is the snapshot's only commit point.

It is JSON, and it is written one fact per line, so that `awk` reads it as well as any JSON library does
(`emergency.sh`):

    {"format":"bollard-archive","version":2,
    "volume":"vol-1",
    ...
    "layers":[
    "snap-1/3f2a9c",                                    0: where parts lie, <snapshot>/<attempt>
    "snap-2/77aa01"],                                   1
    "windows":[
    {"offset":0,"digest":"<sha256>","parts":[           a window that is not all zero
    [0,67112345,"<sha256>"],                            layer, size, digest; oldest first
    [1,12345,"<sha256>"]]}],
    "sha256":"<of all lines above>"}

A manifest is a complete view: it names every part that it needs, also those of older snapshots, and
nothing else has to be read. The text is canonical: a reader writes what it understood and compares.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..spi.errors import DataLoss, Unsupported
from .canonical import Fields, decode, is_sha256
from .digest import image_digest
from .names import is_layer, layer_prefix, part_name

FORMAT_VERSION = 2
"""What is written. Of version 1 only the parts differ: they end with SHA256SUMS, and never hold zstd."""
READABLE = (1, 2)
MAX_LAYERS = 8
"""Parts of one window: what a restore reads at most for it."""

MAX_WINDOW = 1024**3
MIN_GRANULE = 512
MAX_SECTOR = 1024**2

_KEYS = (
    "format", "version", "volume", "snapshot", "attempt", "parent", "created", "origin", "size",
    "sector_size", "window_size", "granule", "digest", "layers", "windows", "sha256",
)  # fmt: skip
ORIGIN = re.compile(r"[ -~]{0,200}")


def max_part_size(window_size: int) -> int:
    """Return the size in bytes that no honest part exceeds: a bound on memory for hostile ones."""
    return 2 * window_size + 64 * 1024


@dataclass(frozen=True, slots=True)
class PartRef:
    """One part: in which layer it lies (`<snapshot>/<attempt>`), its size in bytes, its digest."""

    layer: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Window:
    """One window that is not all zero: where it starts, its digest, its parts, oldest first."""

    offset: int
    digest: str
    parts: tuple[PartRef, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A snapshot in the archive.

    Attributes:
        attempt: the run that committed it.
        parent: the snapshot that it is an increment to, or None; for people, restoring needs it not.
        created: when the snapshot was cut, `2026-11-20T12:00:00.000Z`.
        origin: the driver that it came from, or another remark.
        size: of the image, in bytes.
        sector_size: logical sector of the source, in bytes.
        window_size: and `granule`: the raster, in bytes.
        digest: of the whole image (see `digest.py`).
        windows: those that are not all zero, by offset.
        version: of the format; a snapshot of version 2 may name parts of version 1.
    """

    volume: str
    snapshot: str
    attempt: str
    parent: str | None
    created: str
    origin: str
    size: int
    sector_size: int
    window_size: int
    granule: int
    digest: str
    windows: tuple[Window, ...]
    version: int = FORMAT_VERSION

    def parts(self) -> Iterator[tuple[Window, PartRef]]:
        """Yield every part with its window."""
        return ((window, part) for window in self.windows for part in window.parts)

    def layers(self) -> list[str]:
        """Return the layers that hold a part of this snapshot, sorted."""
        return sorted({part.layer for _, part in self.parts()})

    def key_of(self, window: Window, part: PartRef) -> str:
        """Return the key of a part on the store."""
        return layer_prefix(self.volume, part.layer) + part_name(window.offset, part.sha256)

    def length_of(self, window: Window) -> int:
        """Return the bytes of a window; the last one may be shorter than `window_size`."""
        return min(self.window_size, self.size - window.offset)

    def to_bytes(self) -> bytes:
        """Return the canonical text."""
        body = "\n".join(self._lines()) + "\n"
        seal = hashlib.sha256(body.encode()).hexdigest()
        return f'{body}"sha256":"{seal}"}}\n'.encode()

    def _lines(self) -> Iterator[str]:
        layers = self.layers()
        number = {layer: i for i, layer in enumerate(layers)}
        yield f'{{"format":"bollard-archive","version":{self.version},'
        for name in _KEYS[2:13]:
            yield f'"{name}":{json.dumps(getattr(self, name))},'
        yield '"layers":['
        yield from _separated((json.dumps(layer) for layer in layers), end="],")
        yield '"windows":['
        yield from _separated((_window_text(window, number) for window in self.windows), end="],")

    @classmethod
    def from_bytes(cls, data: bytes, volume: str, snapshot: str) -> Manifest:
        """Read a manifest and believe nothing.

        Raises:
            DataLoss: it is damaged, altered, or that of another snapshot.
            Unsupported: a newer Bollard wrote it.
        """
        what = f"the manifest of {volume}/{snapshot}"
        value = decode(what, data)
        if isinstance(value, dict) and value.get("version", FORMAT_VERSION) not in READABLE:
            known = " or ".join(map(str, READABLE))
            raise Unsupported(f"{what} has the format version {value['version']!r}, not {known}")
        manifest = _read(what, Fields(what, value, _KEYS))
        if (manifest.volume, manifest.snapshot) != (volume, snapshot):
            raise DataLoss(f"{what} is that of {manifest.volume}/{manifest.snapshot}")
        if manifest.to_bytes() != data:
            raise DataLoss(f"{what} was altered: its text is not the one that was written")
        windows = ((window.offset, window.digest) for window in manifest.windows)
        digest = image_digest(manifest.size, manifest.window_size, manifest.granule, windows)
        if digest != manifest.digest:
            raise DataLoss(f"{what} was altered: its windows do not add up to the image digest")
        return manifest


def _separated(items: Iterable[str], *, end: str) -> Iterator[str]:
    """Yield items with a comma behind each but the last, which gets `end`."""
    last = None
    for item in items:
        if last is not None:
            yield last + ","
        last = item
    yield (last or "") + end


def _window_text(window: Window, number: dict[str, int]) -> str:
    head = f'{{"offset":{window.offset},"digest":"{window.digest}","parts":['
    parts = (f'[{number[part.layer]},{part.size},"{part.sha256}"]' for part in window.parts)
    return "\n".join([head, *_separated(parts, end="]}")])


def _read(what: str, fields: Fields) -> Manifest:
    fields.text("format", re.compile("bollard-archive"), "'bollard-archive'")
    window_size = fields.number("window_size", MIN_GRANULE, MAX_WINDOW)
    granule = fields.number("granule", MIN_GRANULE, window_size)
    if window_size % granule or granule & (granule - 1):
        raise fields.fail("granule", "a power of two that divides window_size")
    size = fields.number("size", 0)
    parent = fields.raw("parent")
    return Manifest(
        version=fields.number("version", READABLE[0], READABLE[-1]),
        volume=fields.id("volume"),
        snapshot=fields.id("snapshot"),
        attempt=fields.id("attempt"),
        parent=None if parent is None else fields.id("parent"),
        created=fields.time("created"),
        origin=fields.text("origin", ORIGIN, "at most 200 printable ASCII characters"),
        size=size,
        sector_size=fields.number("sector_size", 1, MAX_SECTOR),
        window_size=window_size,
        granule=granule,
        digest=fields.sha256("digest"),
        windows=_read_windows(what, fields, size, window_size),
    )


def _read_windows(what: str, fields: Fields, size: int, window_size: int) -> tuple[Window, ...]:
    layers = fields.list("layers")
    if not all(isinstance(layer, str) and is_layer(layer) for layer in layers):
        raise fields.fail("layers", "a list of <snapshot>/<attempt>")
    windows, previous = [], -1
    for entry in fields.list("windows"):
        window = Fields(f"{what}, a window", entry, ("offset", "digest", "parts"))
        offset = window.number("offset", previous + 1, size - 1)
        if offset % window_size:
            raise window.fail("offset", "a multiple of window_size")
        parts = window.list("parts")
        if not 1 <= len(parts) <= MAX_LAYERS:
            raise window.fail("parts", f"1 to {MAX_LAYERS} parts")
        refs = tuple(_read_part(window, part, layers, window_size) for part in parts)
        windows.append(Window(offset, window.sha256("digest"), refs))
        previous = offset
    return tuple(windows)


def _read_part(window: Fields, part: object, layers: list[str], window_size: int) -> PartRef:
    match part:
        case [int(layer), int(size), str(sha256)] if (
            0 <= layer < len(layers) and 0 < size <= max_part_size(window_size) and is_sha256(sha256)
        ):
            return PartRef(layers[layer], size, sha256)
    raise window.fail("parts", "a list of [layer, size, SHA-256]")
