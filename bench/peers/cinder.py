"""The input and output of Cinder's chunked backup driver, with its parameters, ours in code.

Facts in docs of Cinder and shared notes: the volume is read in objects of 50 MiB, holes and zeros too; each
32 KiB block is hashed with SHA-256; each object is compressed by zlib and put, one after the other; metadata
and the list of hashes are put last. An increment reads and hashes everything and puts an object for each run
of changed blocks. A restore gets and unpacks each object of the full, then of each increment, in order.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from .contestant import Changed, Contestant, Place
from .images import KIB, MIB, Image
from .tools import Patience, flush

_OBJECT, _BLOCK = 50 * MIB, 32 * KIB


class Cinder(Contestant):
    """To S3, through boto3, as its S3 driver."""

    name = "Cinder chunked"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._s3: Any = boto3.client(
            "s3",
            endpoint_url=place.s3,
            aws_access_key_id=place.access,
            aws_secret_access_key=place.secret,
            region_name="us-east-1",
            config=Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        self._known: dict[str, dict[str, Any]] = {}

    def full(self, image: Image, tag: str) -> None:
        """Put all of it."""
        self._store(image, tag, None)

    def increment(self, image: Image, tag: str, parent: str, changed: Changed) -> None:
        """Hash all of it, put what differs; that the changes are known is of no use to it."""
        del changed
        self._store(image, tag, parent)

    def _store(self, image: Image, tag: str, parent: str | None) -> None:
        before = self._known[parent]["hashes"] if parent else []
        hashes: list[str] = []
        objects: list[tuple[str, int]] = []
        with image.path.open("rb") as file:
            for base in range(0, image.size, _OBJECT):
                Patience.left()
                data = file.read(_OBJECT)
                blocks = [data[at : at + _BLOCK] for at in range(0, len(data), _BLOCK)]
                new = [hashlib.sha256(block).hexdigest() for block in blocks]
                old = before[len(hashes) : len(hashes) + len(new)]
                hashes += new
                for first, last in _runs(new, old):
                    key = f"cinder/{tag}/{len(objects):05}"
                    self._put(key, zlib.compress(data[first * _BLOCK : last * _BLOCK]))
                    objects.append((key, base + first * _BLOCK))
        self._known[tag] = {"parent": parent, "size": image.size, "hashes": hashes, "objects": objects}
        self._put(f"cinder/{tag}/sha256", json.dumps(hashes).encode())
        self._put(f"cinder/{tag}/metadata", json.dumps(objects).encode())

    def _put(self, key: str, data: bytes) -> None:
        self._s3.put_object(Bucket=self.place.bucket, Key=key, Body=data)

    def restore(self, tag: str, target: Path) -> None:
        """Each object of each layer, the oldest first; zeros are not written."""
        layers = [tag]
        while self._known[layers[0]]["parent"]:
            layers.insert(0, self._known[layers[0]]["parent"])
        with target.open("xb") as out:
            out.truncate(self._known[tag]["size"])
            for layer in layers:
                for key, offset in self._known[layer]["objects"]:
                    body = self._s3.get_object(Bucket=self.place.bucket, Key=key)["Body"].read()
                    _write_nonzero(out, offset, zlib.decompress(body))
        flush(target)


def _runs(new: list[str], old: list[str]) -> Iterator[tuple[int, int]]:
    """Yield the runs of blocks that differ; all of them, if there is nothing to compare with."""
    differs = [number >= len(old) or digest != old[number] for number, digest in enumerate(new)]
    for changed, run in groupby(range(len(differs)), differs.__getitem__):
        numbers = list(run)
        if changed:
            yield numbers[0], numbers[-1] + 1


def _write_nonzero(out: Any, offset: int, data: bytes) -> None:
    for at in range(0, len(data), MIB):
        piece = data[at : at + MIB]
        if piece.count(0) != len(piece):
            out.seek(offset + at)
            out.write(piece)
