"""What nobody can be faster than: reading the data, hashing them on all cores, the server's best."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from botocore.config import Config

from .contestant import CONNECTIONS, Place
from .images import MIB, Image

_PIECE = 16 * MIB


def pieces(image: Image) -> Iterator[tuple[int, int]]:
    """Yield the data in pieces."""
    for offset, length in image.extents:
        for at in range(offset, offset + length, _PIECE):
            yield at, min(_PIECE, offset + length - at)


def read(image: Image) -> None:
    """Read the data once, in order."""
    _each(image, len)


def sha256(image: Image) -> None:
    """Read and hash the data on all cores."""
    _each(image, lambda data: hashlib.sha256(data).digest())


def _each(image: Image, act: Any) -> None:
    with image.path.open("rb") as file, ThreadPoolExecutor(os.cpu_count()) as pool:
        fd = file.fileno()
        list(pool.map(lambda at: act(os.pread(fd, at[1], at[0])), pieces(image)))


class Raw:
    """Objects of 16 MiB, several at a time, signed in the headers only."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._s3: Any = boto3.client(
            "s3",
            endpoint_url=place.s3,
            aws_access_key_id=place.access,
            aws_secret_access_key=place.secret,
            region_name="us-east-1",
            config=Config(
                s3={"addressing_style": "path", "payload_signing_enabled": False},
                max_pool_connections=CONNECTIONS,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def upload(self, image: Image) -> None:
        """As many bytes as there are data."""
        self._all(image, lambda key, size: self._put(key, os.urandom(16) + bytes(size - 16)))

    def download(self, image: Image) -> None:
        """What `upload` put."""
        self._all(image, lambda key, _: self._get(key))

    def _all(self, image: Image, act: Any) -> None:
        count = -(-image.data // _PIECE)
        sizes = [min(_PIECE, image.data - number * _PIECE) for number in range(count)]
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(lambda n: act(f"raw/{n:05}", sizes[n]), range(count)))

    def _put(self, key: str, data: bytes) -> None:
        self._s3.put_object(Bucket=self._place.bucket, Key=key, Body=data)

    def _get(self, key: str) -> None:
        self._s3.get_object(Bucket=self._place.bucket, Key=key)["Body"].read()
