"""A simulated S3: moto's server behind the same command line as the other simulators.

    python -m bollard.simulators.s3 --state DIR --bucket archive

Everything lives in memory and is gone when the process ends: moto has no persistence. Any credentials
are accepted. Its backends are global to the process, so two ``S3Simulator`` in one process share them.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from moto.backends import get_backend
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.wrappers import Response
from werkzeug.wsgi import get_input_stream

from .http_server import KeepAliveHandler
from .s3_defects import S3Defects, S3WithDefects
from .serving import HttpSimulator, serve

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_ACCOUNT = "123456789012"  # the one that moto gives to unknown credentials


class _Handler(KeepAliveHandler, MotoRequestHandler):
    """moto's handling of header names on connections that stay open."""


class _OneAtATime:
    """moto, asked one question at a time.

    It reads a part's spooled file to answer an upload and a listing, and both move the one position in it:
    asked at once, 1 of 3 runs of the suite got the digest of half a part, or a read from a closed file. The
    body comes before the turn, so that a client that stalls holds up nobody.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._turn = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        environ["wsgi.input"] = io.BytesIO(get_input_stream(environ).read())
        with self._turn:
            answer = Response.from_app(self._app, environ, buffered=True)
        return answer(environ, start)


class _BegunWhen:
    """Tells when an upload of parts began; moto says 2010 of each.

    Until its first part has arrived, that is all by which a sweep knows a living upload from a dead one: on a
    busy machine one was aborted in the middle of its put.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._begun: dict[bytes, bytes] = {}

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        answer = Response.from_app(self._app, environ, buffered=True)
        query = environ.get("QUERY_STRING", "").split("&")
        if "uploads" in (name.partition("=")[0] for name in query):
            body = answer.get_data()
            if environ["REQUEST_METHOD"] == "POST" and (found := _UPLOAD_ID.search(body)):
                self._begun[found[1]] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z").encode()
            elif environ["REQUEST_METHOD"] == "GET":
                answer.set_data(_UPLOAD.sub(self._dated, body))
        return answer(environ, start)

    def _dated(self, upload: re.Match[bytes]) -> bytes:
        found = _UPLOAD_ID.search(upload[0])
        begun = self._begun.get(found[1]) if found else None
        return (
            upload[0]
            if begun is None
            else _INITIATED.sub(b"<Initiated>" + begun + b"</Initiated>", upload[0])
        )


_UPLOAD = re.compile(rb"<Upload>.*?</Upload>", re.DOTALL)
_UPLOAD_ID = re.compile(rb"<UploadId>([^<]+)</UploadId>")
_INITIATED = re.compile(rb"<Initiated>[^<]*</Initiated>")


class S3Simulator(HttpSimulator):
    """moto's S3 on 127.0.0.1; starts empty, except for the buckets asked for.

        with S3Simulator(state, buckets=["archive"]) as s3:
            boto3.client("s3", endpoint_url=s3.url, region_name="us-east-1", ...)

    Args:
        state: directory for the lock; no object is stored there.
        buckets: made on start, in us-east-1.
        port: TCP port; 0 takes a free one.
    """

    handler = _Handler

    def __init__(self, state: str | os.PathLike[str], *, buckets: Iterable[str] = (), port: int = 0) -> None:
        super().__init__(state, port)
        self.defects = S3Defects()
        self._buckets = list(buckets)

    def application(self) -> WSGIApplication:
        """Empties moto's S3 and makes the buckets."""
        _empty()
        backend = get_backend("s3")[_ACCOUNT]["aws"]
        for bucket in self._buckets:
            backend.create_bucket(bucket, "us-east-1")
        moto = _OneAtATime(DomainDispatcherApplication(create_backend_app))
        return S3WithDefects(_BegunWhen(moto), self.defects)

    def close_state(self) -> None:
        """Frees the memory of all objects."""
        _empty()

    def ready(self) -> dict[str, object]:
        """The buckets that are there."""
        return {"buckets": self._buckets}


def _empty() -> None:
    for account in get_backend("s3").values():
        account.reset()


def main(arguments: list[str] | None = None) -> None:
    """Serves until SIGTERM; prints one JSON line when ready."""
    parser = argparse.ArgumentParser(
        prog="python -m bollard.simulators.s3",
        description="A simulated S3 on 127.0.0.1. Objects are in memory only; any credentials do.",
    )
    parser.add_argument("--state", required=True, help="directory for the lock file")
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0 takes a free one")
    parser.add_argument("--bucket", action="append", default=[], help="make this bucket on start; repeatable")
    given = parser.parse_args(arguments)
    serve(S3Simulator(given.state, buckets=given.bucket, port=given.port), sys.stdout)


if __name__ == "__main__":
    main()
