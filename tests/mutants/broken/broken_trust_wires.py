"""Store drivers that say the wrong thing when they are opened, or trust whoever answers."""

from __future__ import annotations

import hashlib
from typing import Any

from bollard.core.spi import Body, Call, Internal, Outcome, StorageError, StoredObject
from bollard.drivers.secondary.s3 import S3Driver
from bollard.drivers.secondary.swift import SwiftDriver


class OpeningFailsInternally(SwiftDriver):
    """Whatever goes wrong while the store is opened is an internal error."""

    def open(self, call: Call) -> None:
        """Open."""
        try:
            super().open(call)
        except StorageError as error:
            raise Internal("the store cannot be opened", outcome=Outcome.UNKNOWN) from error


class TellsTheKey(SwiftDriver):
    """A sign-in that fails tells the key that it was tried with."""

    def open(self, call: Call) -> None:
        """Tell it."""
        try:
            super().open(call)
        except StorageError as error:
            error.message = f"{error.message} ({self.options.user_name}:{self.options.key.reveal()})"
            raise


class LeavesDigestsToSwift(SwiftDriver):
    """Only Swift compares: a body that is not what it says is sent with an Etag that is not its own."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        """Send it."""
        if if_absent:
            return super().put(key, body, call, if_absent=True)
        with body.open() as reader:
            data = reader.read()
        right = hashlib.sha256(data).hexdigest() == body.sha256
        etag = hashlib.md5(data if right else b"", usedforsecurity=False).hexdigest()

        def send(wire: Any) -> object:
            place = (*wire.account, self.options.container, key)
            return self._api.put_object(*place, contents=data, etag=etag, http_conn=wire.http)

        self._run(key, call, send)
        return StoredObject(key=key, size=len(data))


class TrustsAnyServer(S3Driver):
    """The server's certificate is not looked at."""

    def open(self, call: Call) -> None:
        """Open without verification."""
        object.__setattr__(self.options, "verify_tls", False)
        super().open(call)
