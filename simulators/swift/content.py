"""The bytes that a GET delivers: of one blob, or of the segments of an SLO."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from typing import IO

from ..http_server import stream
from . import slo
from .index import ObjectKey, ObjectRecord
from .store import Store

log = logging.getLogger(__name__)


class BrokenSloError(Exception):
    """A segment is missing or is not what the manifest says."""


class Content:
    """An open object; ``close`` it.

    Args:
        store: where segments are looked up.
        record: the object.
        blob: its open file.
    """

    def __init__(self, store: Store, record: ObjectRecord, blob: IO[bytes]) -> None:
        self._store = store
        self._open: list[Content] = []
        self.record = record
        self.blob = blob
        self.size = record.content_size

    def close(self) -> None:
        """Closes the blob and the segments that are open."""
        self.blob.close()
        for content in self._open:
            content.close()

    def manifest(self) -> list[slo.Entry]:
        """The stored manifest of an SLO."""
        self.blob.seek(0)
        entries: list[slo.Entry] = json.load(self.blob)
        return entries

    def read(self, start: int, length: int, *, to_the_end: bool = False) -> Iterable[bytes]:
        """``length`` bytes from ``start``.

        A segment that turns out to be broken later ends the bytes early, for the status was sent long
        ago; with ``to_the_end`` it raises like the first.

        Raises:
            BrokenSloError: the first segment of the range is missing or changed.
        """
        if self.record.slo_size is None:
            self.blob.seek(start)
            return stream(self.blob, length)
        pieces = self._pieces(start, length)
        first = self._segment(pieces[0][0]) if pieces else None
        return self._read_pieces(pieces, first, to_the_end=to_the_end)

    def _pieces(self, start: int, length: int) -> list[tuple[slo.Segment, int, int]]:
        """(segment, start in its object, bytes) that together are the range."""
        pieces = []
        at = 0
        for segment in slo.segments(self.manifest(), self.record.key[0]):
            begin = max(start, at)
            end = min(start + length, at + segment.length)
            if begin < end:
                pieces.append((segment, segment.start + begin - at, end - begin))
            at += segment.length
        return pieces

    def _read_pieces(
        self, pieces: list[tuple[slo.Segment, int, int]], first: Content | None, *, to_the_end: bool
    ) -> Iterator[bytes]:
        for segment, start, length in pieces:
            try:
                content = first or self._segment(segment)
                yield from content.read(start, length, to_the_end=to_the_end)
            except BrokenSloError:
                if to_the_end:
                    raise
                log.warning("SLO %s breaks off at %s", self.record.key, segment.key)
                return
            first = None
            content.close()
            self._open.remove(content)

    def _segment(self, segment: slo.Segment) -> Content:
        content = open_content(self._store, segment.key)
        if content is None:
            raise BrokenSloError
        self._open.append(content)
        if slo.etag_of(content.record) != segment.etag or content.size != segment.size:
            raise BrokenSloError
        return content


def open_content(store: Store, key: ObjectKey) -> Content | None:
    """Opens an object for reading, or None."""
    found = store.open(key)
    return None if found is None else Content(store, *found)
