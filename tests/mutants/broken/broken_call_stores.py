"""Store drivers after a crash, or a strange answer: what a kill leaves, and what is taken for success."""

# ruff: noqa: D102, ARG002 - the class says what is wrong, and the SPI what the arguments are

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from bollard.core.spi import (
    Body,
    Call,
    Conflict,
    Internal,
    Outcome,
    StorageError,
    StoredObject,
    Unavailable,
)
from bollard.drivers.secondary import _s3_upload
from bollard.drivers.secondary.nfs import NfsDriver
from bollard.drivers.secondary.s3 import S3Driver, S3Options


class AppendsPieces(NfsDriver):
    """An object grows under its own name, piece by piece, each appended as it comes."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        path = self.directory / key
        path.parent.mkdir(parents=True, exist_ok=True)
        if if_absent and path.exists():
            raise Conflict(f"{key} exists")
        mode = "wb"
        with body.open() as reader:
            while data := reader.read(128 * 1024):
                with path.open(mode) as file:
                    file.write(data)
                mode = "ab"
        return self.head(key, call)


class MovesLeftoversAside(NfsDriver):
    """An upload that nobody finished is renamed, not removed, and found again each time."""

    aside = False

    def abort_uploads(self, prefix: str, call: Call, *, older_than: float) -> int:
        self.aside = True
        try:
            return super().abort_uploads(prefix, call, older_than=older_than)
        finally:
            self.aside = False

    def _discard(self, folder: tuple[str, ...], name: str) -> None:
        if not self.aside or name.startswith("probe,"):
            super()._discard(folder, name)
            return
        self.directory.joinpath(*folder, name).rename(self.directory.joinpath(*folder, f"{name}0"))


class _OneTry(S3Driver):
    """Repeats nothing by itself, so that a fault shows."""

    def __init__(self, options: S3Options) -> None:
        super().__init__(replace(options, attempts=1))


class LostIsNotApplied(_OneTry):
    """Who got no answer says that nothing was stored."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        try:
            return super().put(key, body, call, if_absent=if_absent)
        except StorageError as error:
            error.outcome = Outcome.NOT_APPLIED
            raise


class PutsLater(_OneTry):
    """A put is a success as soon as it is in a queue; what becomes of it there nobody hears."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        try:
            return super().put(key, body, call, if_absent=if_absent)
        except StorageError:
            return StoredObject(key=key, size=body.size)


class ShortReadsAreWhole(S3Driver):
    """A connection that ends is the end of the object."""

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        with contextlib.suppress(Unavailable):
            yield from super().get(key, call, offset=offset, length=length)


class ThrottledIsABug(_OneTry):
    """A store that asks for patience gives Internal."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        try:
            return super().put(key, body, call, if_absent=if_absent)
        except StorageError as error:
            raise Internal(error.message) from error


class PutsWithoutEnd(_OneTry):
    """What fails is sent again at once, a hundred times."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        for _ in range(100):
            with contextlib.suppress(Unavailable):
                return super().put(key, body, call, if_absent=if_absent)
        return super().put(key, body, call, if_absent=if_absent)


class TimeoutsOfItsOwn(_OneTry):
    """A put takes five seconds if the store likes."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        return super().put(key, body, Call.within(5.0), if_absent=if_absent)


class MeetsItself(S3Driver):
    """A conditional put that was sent twice takes its own object for somebody else's."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        _s3_upload.Upload._is_ours = lambda *_: False  # type: ignore[method-assign] # the defect
        try:
            return super().put(key, body, call, if_absent=if_absent)
        except Conflict as error:
            error.outcome = Outcome.NOT_APPLIED
            raise
