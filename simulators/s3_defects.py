"""What the simulated S3 can be told to do wrong: a layer of WSGI between the client and moto.

    client ── request ──> S3Defects changes it ──> moto ── answer ──> S3Defects changes it ──> client

moto itself stays as it is: what it stores is right, and only what travels is wrong. So a defect is what
a proxy, a gateway or a server with that bug would show.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlencode
from xml.etree import ElementTree as Xml

from werkzeug.wrappers import Response
from werkzeug.wsgi import get_input_stream

from .defects import DefectSet, defects_view
from .http_server import DropConnection

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_Change = Callable[[bytes], bytes]
_XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"
_CHECKSUMS = re.compile(r"HTTP_(CONTENT_MD5|X_AMZ_CHECKSUM_.*|X_AMZ_SDK_CHECKSUM_.*|X_AMZ_CONTENT_SHA256)")


@dataclass
class S3Defects(DefectSet):
    """Switches of the S3 simulator; the field bug behind each stands in brackets.

    Attributes:
        unavailable: so many requests are answered with 503 SlowDown [restic/restic#1600 and #4018].
        lost_reply: so many object PUTs are committed and then reset, not answered [restic/restic#3834].
        put_ignores_if_none_match: a conditional create overwrites [adobe/S3Mock#2371].
        put_corrupts: one bit of each object that is sent flips before it is stored, and no checksum is
            compared [minio/minio#1603].
        put_loses_tail: half of each object is not stored, with 200 [alexmojaki/s3-stream-upload#17].
        put_keeps_old: a PUT on a key that exists answers 200 and leaves the old object
            [S3 before December 2020: read after overwrite was eventually consistent].
        delete_says_ok_but_keeps: a DELETE answers 204 and deletes nothing [cloudstack#9501].
        delete_missing_is_error: deleting what is not there answers 404 [minio/minio#1643, adobe/S3Mock#47].
        range_ignored: a range is answered with the whole object [basho/riak_cs#304, treeverse/lakeFS#6100].
        get_short_body: an answer has half of the bytes and calls that the whole [mlcommons/storage#593].
        get_flips_bit: one bit of each answer is wrong [chimera-nas/chimera#1385].
        list_unsorted: keys of a page come in descending order [versity/versitygw#1283].
        list_repeats_marker: a page begins with the key that it should come after [gilbertchen/duplicacy#655].
        list_duplicates: each key is listed twice [rustfs/rustfs#2439].
        list_ends_early: the first page says that it is the last [Corymbia/eucalyptus#116].
        list_keys_encoded: listed keys are percent-encoded though nobody asked for that [minio/minio#8325].
        key_decoded_twice: "%2F" in a key becomes "/" [Altinity/ClickHouse#1516].
        plus_is_space: "a+b" and "a b" are one key [bji/libs3#35].
        multipart_loses_part: an upload completes without its last part [mlcommons/storage#593].
        abort_says_ok_but_keeps: an aborted or completed upload stays listed [minio/minio#21456].
    """

    unavailable: int = 0
    lost_reply: int = 0
    put_ignores_if_none_match: bool = False
    put_corrupts: bool = False
    put_loses_tail: bool = False
    put_keeps_old: bool = False
    delete_says_ok_but_keeps: bool = False
    delete_missing_is_error: bool = False
    range_ignored: bool = False
    get_short_body: bool = False
    get_flips_bit: bool = False
    list_unsorted: bool = False
    list_repeats_marker: bool = False
    list_duplicates: bool = False
    list_ends_early: bool = False
    list_keys_encoded: bool = False
    key_decoded_twice: bool = False
    plus_is_space: bool = False
    multipart_loses_part: bool = False
    abort_says_ok_but_keeps: bool = False


class S3WithDefects:
    """A WSGI application in front of moto's.

    Args:
        app: moto.
        defects: what goes wrong; also served at ``/sim/defects``.
    """

    def __init__(self, app: WSGIApplication, defects: S3Defects) -> None:
        self._app = app
        self._defects = defects
        self._control = Control(defects)

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if environ["PATH_INFO"] == "/sim/defects":
            return self._control(environ, start)
        return self._answer(environ)(environ, start)

    def _answer(self, environ: WSGIEnvironment) -> Response:
        defects, request = self._defects, _Request(environ)
        if defects.take("unavailable"):
            return _refusal(503, "SlowDown", "Please reduce your request rate.")
        if lie := self._lie(request):
            return lie
        self._spoil_key(request)
        self._spoil_upload(request)
        if defects.range_ignored:
            environ.pop("HTTP_RANGE", None)
        answer = Response.from_app(self._app, environ, buffered=True)
        if request.is_object_put and defects.take("lost_reply"):
            raise DropConnection
        self._spoil_download(request, answer)
        if request.is_listing and answer.status_code == 200:
            self._spoil_listing(request, answer)
        return answer

    def _lie(self, request: _Request) -> Response | None:
        """An answer that moto never hears of, or None."""
        defects = self._defects
        if request.method == "DELETE" and request.key:
            upload = "uploadId" in request.query
            if (defects.abort_says_ok_but_keeps and upload) or (
                defects.delete_says_ok_but_keeps and not upload
            ):
                return Response(status=204)
            if defects.delete_missing_is_error and not upload and not self._exists(request):
                return _refusal(404, "NoSuchKey", "The specified key does not exist.")
        if defects.put_keeps_old and request.is_object_put and self._exists(request):
            # A client that waits a second for "100 Continue" sends the body: a reset would be another defect.
            get_input_stream(request.environ).read()
            digest = request.environ.get("HTTP_X_AMZ_CHECKSUM_SHA256", "")
            return Response(status=200, headers={"ETag": '"0"', "x-amz-checksum-sha256": digest})
        return None

    def _exists(self, request: _Request) -> bool:
        asked = {**request.environ, "REQUEST_METHOD": "HEAD", "QUERY_STRING": "", "CONTENT_LENGTH": "0"}
        asked["wsgi.input"] = io.BytesIO()
        for header in ("HTTP_RANGE", "HTTP_IF_NONE_MATCH"):
            asked.pop(header, None)
        return Response.from_app(self._app, asked, buffered=True).status_code == 200

    def _spoil_key(self, request: _Request) -> None:
        if self._defects.key_decoded_twice:
            request.rename(unquote(request.key))
        if self._defects.plus_is_space:
            request.rename(request.key.replace("+", " "))

    def _spoil_upload(self, request: _Request) -> None:
        defects = self._defects
        if defects.put_ignores_if_none_match:
            request.environ.pop("HTTP_IF_NONE_MATCH", None)
        if request.is_upload and (defects.put_corrupts or defects.put_loses_tail):
            request.change_body(_flipped if defects.put_corrupts else _half)
        if request.method == "POST" and "uploadId" in request.query and defects.multipart_loses_part:
            request.change_body(_without_last_part)

    def _spoil_download(self, request: _Request, answer: Response) -> None:
        downloads = request.method == "GET" and request.key and "uploadId" not in request.query
        if not downloads or answer.status_code not in (200, 206):
            return
        if self._defects.get_short_body:
            answer.data = _half(answer.data)
        if self._defects.get_flips_bit:
            answer.data = _flipped(answer.data)

    def _spoil_listing(self, request: _Request, answer: Response) -> None:
        defects, root = self._defects, Xml.fromstring(answer.data)  # noqa: S314 - moto's own answer
        found = root.findall(f"{{{_XMLNS}}}Contents")
        marker = request.query.get("start-after", "")
        for item in found:
            root.remove(item)
        if defects.list_unsorted:
            found.reverse()
        if defects.list_duplicates:
            found = [item for item in found for _ in range(2)]
        if defects.list_repeats_marker and marker:
            found = [_entry(marker), *found]
        root.extend(found)
        if defects.list_keys_encoded:
            asked = "encoding-type" in request.query  # then the client decodes once itself
            for key in root.iterfind(f".//{{{_XMLNS}}}Key"):
                once = quote(key.text or "", safe="")
                key.text = quote(once) if asked else once
        if defects.list_ends_early:
            for truncated in root.iterfind(f"{{{_XMLNS}}}IsTruncated"):
                truncated.text = "false"
        Xml.register_namespace("", _XMLNS)
        answer.data = Xml.tostring(root)


class Control:
    """The switches over HTTP, as the other simulators have them: GET and PUT of ``/sim/defects``."""

    def __init__(self, defects: S3Defects) -> None:
        from flask import Flask

        app = Flask(__name__, static_folder=None)
        app.add_url_rule("/sim/defects", view_func=defects_view(defects), methods=["GET", "PUT"])
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        return self._app(environ, start)


class _Request:
    """What a path-style request is about."""

    def __init__(self, environ: WSGIEnvironment) -> None:
        self.environ = environ
        self.method = environ["REQUEST_METHOD"]
        self.query = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
        path = environ["PATH_INFO"].encode("latin-1").decode()
        self.bucket, _, self.key = path.lstrip("/").partition("/")

    @property
    def is_object_put(self) -> bool:
        return self.method == "PUT" and bool(self.key) and "uploadId" not in self.query

    @property
    def is_upload(self) -> bool:
        return self.method == "PUT" and bool(self.key)

    @property
    def is_listing(self) -> bool:
        return self.method == "GET" and not self.key and self.query.get("list-type") == "2"

    def rename(self, key: str) -> None:
        """Make the request about another key."""
        if key == self.key or not key:
            return
        self.key = key
        query = urlencode(self.query)
        self.environ["PATH_INFO"] = f"/{self.bucket}/{key}".encode().decode("latin-1")
        raw = f"/{self.bucket}/{quote(key)}"
        self.environ["RAW_URI"] = self.environ["REQUEST_URI"] = f"{raw}?{query}" if query else raw

    def change_body(self, change: _Change) -> None:
        """Send another body, without the checksums of the first."""
        length = int(self.environ.get("CONTENT_LENGTH") or 0)
        data = change(self.environ["wsgi.input"].read(length))
        for name in [name for name in self.environ if _CHECKSUMS.fullmatch(name)]:
            del self.environ[name]
        self.environ["CONTENT_LENGTH"] = str(len(data))
        self.environ["wsgi.input"] = io.BytesIO(data)


def _flipped(data: bytes) -> bytes:
    if not data:
        return data
    spoilt = bytearray(data)
    spoilt[len(data) // 2] ^= 1
    return bytes(spoilt)


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _without_last_part(data: bytes) -> bytes:
    root = Xml.fromstring(data)  # noqa: S314 - the suite's own request
    parts = [element for element in root if element.tag.endswith("Part")]
    if len(parts) > 1:
        root.remove(parts[-1])
    return Xml.tostring(root)


def _entry(key: str) -> Xml.Element:
    item = Xml.Element(f"{{{_XMLNS}}}Contents")
    for name, text in {
        "Key": key,
        "LastModified": "2026-01-01T00:00:00.000Z",
        "ETag": '"0"',
        "Size": "0",
        "StorageClass": "STANDARD",
    }.items():
        Xml.SubElement(item, f"{{{_XMLNS}}}{name}").text = text
    return item


def _refusal(status: int, code: str, message: str) -> Response:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(body, status, content_type="application/xml")
