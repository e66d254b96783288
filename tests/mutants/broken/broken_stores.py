"""The NFS driver with one method wrong each: puts, reads, lists, keys, leftovers."""

# ruff: noqa: D102, ARG002 - the class says what is wrong, and the SPI what the arguments are

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bollard.core.spi import (
    Body,
    Call,
    InvalidArgument,
    NotFound,
    Page,
    StorageError,
    StoredObject,
    StoreTraits,
)
from bollard.drivers.secondary import nfs
from bollard.drivers.secondary.nfs import NfsDriver


class _Direct(NfsDriver):
    """Writes and reads files by path, as a script would."""

    def _file(self, key: str) -> Path:
        return self.directory / key

    def _write(self, key: str, data: bytes) -> StoredObject:
        path = self._file(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return StoredObject(key=key, size=len(data), etag="")


class WritesInPlace(_Direct):
    """A put writes under the object's own name, and checks afterwards."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        if if_absent:
            return super().put(key, body, call, if_absent=True)
        path = self._file(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with body.open() as reader, path.open("wb") as file:
            while data := reader.read(65536):
                file.write(data)
                file.flush()
        return super().put(key, body, call)


class DigestIsNotChecked(_Direct):
    """A put stores whatever the body gives."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        with body.open() as reader:
            data = reader.read()
        return super().put(key, Body.of(data), call, if_absent=if_absent)


class IfAbsentIsAskedFirst(_Direct):
    """A conditional put looks, and then writes."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        if if_absent and self._file(key).exists():
            return super().put(key, body, call, if_absent=True)
        return super().put(key, body, call)


class IfAbsentIsIgnored(_Direct):
    """A conditional put overwrites."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        return super().put(key, body, call)


class OverwriteKeepsTheLonger(_Direct):
    """What a shorter object does not cover stays."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        old = self._file(key).read_bytes() if self._file(key).is_file() else b""
        done = super().put(key, body, call, if_absent=if_absent)
        if len(old) > body.size:
            with self._file(key).open("ab") as file:
                file.write(old[body.size :])
        return done


class PutLoadsTheBody(_Direct):
    """A put reads the whole body into memory, twice."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        with body.open() as reader:
            pieces = list(iter(lambda: reader.read(1 << 20), b""))
        return super().put(key, Body.of(b"".join(pieces)), call, if_absent=if_absent)


class UploadsAreLeft(_Direct):
    """An upload that fails stays where it is, and one that succeeds leaves a link to it."""

    def _publish(self, upload: nfs.Upload, parts: tuple[str, ...], *, if_absent: bool) -> None:
        with upload.tree.directory(upload.folder) as folder:
            folder.link(upload.name, folder, f"{upload.name}0")
        super()._publish(upload, parts, if_absent=if_absent)

    def _discard(self, folder: tuple[str, ...], name: str) -> None:
        return


class LeftoversAreOnlyCounted(NfsDriver):
    """What failed puts left is counted each time, and never removed."""

    def abort_uploads(self, prefix: str, call: Call, *, older_than: float) -> int:
        return 1 + super().abort_uploads(prefix, call, older_than=older_than)


class AbortsLivePuts(NfsDriver):
    """Uploads are aborted whatever their age."""

    def abort_uploads(self, prefix: str, call: Call, *, older_than: float) -> int:
        return super().abort_uploads(prefix, call, older_than=0)


class AbortDeletesObjects(NfsDriver):
    """Aborting uploads deletes the objects of the prefix."""

    def abort_uploads(self, prefix: str, call: Call, *, older_than: float) -> int:
        for stored in super().list(prefix, call).items:
            self.delete(stored.key, call)
        return super().abort_uploads(prefix, call, older_than=older_than)


class DeleteMissingRaises(NfsDriver):
    """Deleting what is not there is an error."""

    def delete(self, key: str, call: Call) -> None:
        self.head(key, call)
        super().delete(key, call)


class DeleteTakesTheDirectory(NfsDriver):
    """Deleting a key deletes what begins with it."""

    def delete(self, key: str, call: Call) -> None:
        for stored in super().list(key, call).items:
            super().delete(stored.key, call)


class DeletesNothing(NfsDriver):
    """A delete says that it did."""

    def delete(self, key: str, call: Call) -> None:
        return


class MissingIsEmpty(NfsDriver):
    """What is not there reads as nothing."""

    def head(self, key: str, call: Call) -> StoredObject:
        try:
            return super().head(key, call)
        except NotFound:
            return StoredObject(key=key, size=0, etag="")

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        try:
            yield from super().get(key, call, offset=offset, length=length)
        except NotFound:
            return


class EmptyIsMissing(NfsDriver):
    """An object of no bytes is none."""

    def head(self, key: str, call: Call) -> StoredObject:
        found = super().head(key, call)
        if not found.size:
            raise NotFound(f"there is no object {key!r}")
        return found


class RangesEndEarly(NfsDriver):
    """The end of a range is taken for the first byte behind it."""

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        shorter = length - 1 if length and length > 1 else length
        return super().get(key, call, offset=offset, length=shorter)


class RangesAreCut(NfsDriver):
    """A range that leaves the object is cut to what there is."""

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        size = super().head(key, call).size
        offset = min(max(offset, 0), size)
        if length is not None:
            length = min(max(length, 0), size - offset)
        return super().get(key, call, offset=offset, length=length)


class ReadsLeaveFilesOpen(NfsDriver):
    """A read that is not finished leaves its file open."""

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        super().head(key, call)
        _open.append((self.directory / key).open("rb"))
        return super().get(key, call, offset=offset, length=length)


class SizesAreRounded(NfsDriver):
    """Head tells sizes in whole blocks."""

    def head(self, key: str, call: Call) -> StoredObject:
        found = super().head(key, call)
        return replace(found, size=-(-found.size // 4096) * 4096)


class ListsUnsorted(NfsDriver):
    """The keys of a page come in descending order."""

    def list(
        self, prefix: str, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[StoredObject]:
        page = super().list(prefix, call, after=after, limit=limit)
        return Page(items=list(page.items)[::-1], after=page.after)


class ListsOnePage(NfsDriver):
    """A list has one page."""

    def list(
        self, prefix: str, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[StoredObject]:
        return Page(items=super().list(prefix, call, after=after, limit=limit).items, after=None)


class ListsByNumber(NfsDriver):
    """The cursor of a list is a number of keys."""

    def list(
        self, prefix: str, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[StoredObject]:
        everything = list(super().list(prefix, call, limit=100_000).items)
        start = int(after or 0)
        more = start + limit < len(everything)
        return Page(items=everything[start : start + limit], after=str(start + limit) if more else None)


class ListsDirectories(NfsDriver):
    """A prefix is a directory."""

    def list(
        self, prefix: str, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[StoredObject]:
        inside = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
        return super().list(inside, call, after=after, limit=limit)


class HeadsFromMemory(NfsDriver):
    """What was seen once is there for ever."""

    def head(self, key: str, call: Call) -> StoredObject:
        seen: dict[str, StoredObject] = self.__dict__.setdefault("seen", {})
        if key not in seen:
            seen[key] = super().head(key, call)
        return seen[key]

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        done = super().put(key, body, call, if_absent=if_absent)
        self.__dict__.setdefault("seen", {})[key] = done
        return done

    def delete(self, key: str, call: Call) -> None:
        self.__dict__.get("seen", {}).pop(key, None)
        super().delete(key, call)


class _Mapped(NfsDriver):
    """Stores each key under another one."""

    def _stored(self, key: str) -> str:
        raise NotImplementedError

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        return replace(super().put(self._stored(key), body, call, if_absent=if_absent), key=key)

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        return super().get(self._stored(key), call, offset=offset, length=length)

    def head(self, key: str, call: Call) -> StoredObject:
        return replace(super().head(self._stored(key), call), key=key)

    def delete(self, key: str, call: Call) -> None:
        super().delete(self._stored(key), call)


class KeysAreCut(_Mapped):
    """A key of more than 200 characters is cut."""

    def _stored(self, key: str) -> str:
        return key[:200]


class KeysAreLowerCase(_Mapped):
    """Keys that differ in case only are one."""

    def _stored(self, key: str) -> str:
        return key.lower()


class KeysAreComposed(_Mapped):
    """A letter and its accent become one character."""

    def _stored(self, key: str) -> str:
        return unicodedata.normalize("NFC", key)


class KeysAreNormalised(_Mapped):
    """Keys are made into what a file system likes, instead of refused."""

    def _stored(self, key: str) -> str:
        return os.path.normpath(key.replace("\0", "").replace("\n", "")).lstrip("/.")


class MakesItsPlace(NfsDriver):
    """A directory that does not exist is made."""

    def open(self, call: Call) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        super().open(call)


class OpensAnything(NfsDriver):
    """Opening looks at nothing, and what is wrong shows later."""

    def open(self, call: Call) -> None:
        try:
            super().open(call)
        except StorageError as error:
            raise InvalidArgument("the store cannot be opened") from error


class ListingTraitLies(NfsDriver):
    """The first list of a prefix is kept, and listings are told to be consistent."""

    def list(
        self, prefix: str, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[StoredObject]:
        kept: dict[object, Page[StoredObject]] = self.__dict__.setdefault("kept", {})
        where = (prefix, after, limit)
        if where not in kept:
            kept[where] = super().list(prefix, call, after=after, limit=limit)
        return kept[where]

    def traits(self) -> StoreTraits:
        return replace(super().traits(), listing_consistent=True)


class KeysEndAtTheQuery(_Mapped):
    """A key goes into a URL as it is, so what stands behind "?" or "#" is no part of it."""

    def _stored(self, key: str) -> str:
        return key.partition("?")[0].partition("#")[0]


class OneBufferForAll(NfsDriver):
    """All puts of a driver share one buffer."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        shared: bytearray = self.__dict__.setdefault("shared", bytearray())
        shared.clear()
        with body.open() as reader:
            while data := reader.read(4096):
                shared.extend(data)
        return super().put(key, Body.of(bytes(shared)), call, if_absent=if_absent)


class OneReadIsTheBody(NfsDriver):
    """A put takes what one read gives for the whole body."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        with body.open() as reader:
            data = reader.read(body.size)
        return super().put(key, Body.of(data), call, if_absent=if_absent)


class CountsPartsFromZero(NfsDriver):
    """A last part of one byte is not sent."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        with body.open() as reader:
            data = b"".join(iter(lambda: reader.read(1 << 20), b""))
        parts = max(1, -(-(len(data) - 1) // _PART))
        return super().put(key, Body.of(data[: parts * _PART]), call, if_absent=if_absent)


class GoesOnAfterAnAbort(NfsDriver):
    """A put whose upload was aborted begins a new one in its middle."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        folder, name = nfs._upload_place(key)
        path = self.directory.joinpath(*folder, name)
        with body.open() as reader:
            while data := reader.read(1 << 20):
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("ab") as file:
                    file.write(data)
        tree = self._tree(call)
        with tree.directory(folder) as inside:
            upload = nfs.Upload(tree, folder, name, inside.status(name))
        self._publish(upload, tuple(key.split("/")), if_absent=if_absent)
        return StoredObject(key=key, size=body.size)


class ReservesThePlace(_Direct):
    """An object has its name and its size before it has its bytes."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        path = self._file(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with body.open() as reader, path.open("wb") as file:
            file.truncate(body.size)
            while data := reader.read(1024):  # so little that a cancel comes before the end
                call.check()
                file.write(data)
        return StoredObject(key=key, size=body.size)


class GetsFromMemory(NfsDriver):
    """What was read once is never read again."""

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        kept: dict[str, bytes] = self.__dict__.setdefault("read", {})
        if key not in kept:
            kept[key] = b"".join(super().get(key, call))
        yield kept[key][offset : None if length is None else offset + length]


class ListsWithoutTheNewest(NfsDriver):
    """The object that was written last is not listed, although listings are said to be consistent."""

    def list(
        self, prefix: str, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[StoredObject]:
        page = super().list(prefix, call, after=after, limit=limit)
        newest = max((self._written(stored) for stored in page.items), default=0)
        return Page(items=[s for s in page.items if self._written(s) < newest], after=page.after)

    def _written(self, stored: StoredObject) -> int:
        return (self.directory / stored.key).stat().st_mtime_ns


class FilesForEverybody(_Direct):
    """Objects can be read by everybody on the machine."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        done = super().put(key, body, call, if_absent=if_absent)
        self._file(key).chmod(0o666)
        return done


_PART = 5 * 2**20  # bytes
_open: list[object] = []
