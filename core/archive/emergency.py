"""Restores a snapshot from a Bollard archive with Python's standard library, nothing else.

Parts that are compressed with zstd need Python 3.14, the package zstandard, or the tool zstd.
Version 2 of the rescue files.

    python3 RESTORE.py ARCHIVE VOLUME SNAPSHOT OUTPUT

ARCHIVE is the directory with this file in it (download it first if it lies on S3 or Swift); OUTPUT must
not exist: it becomes a sparse raw image. Every part is checked against the manifest before it is used.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, BinaryIO


def read_manifest(path: Path) -> Any:
    """Read a manifest and check the digest in its last line."""
    data = path.read_bytes()
    manifest = json.loads(data)
    body = data[: data.rindex(b'"sha256":')]
    if hashlib.sha256(body).hexdigest() != manifest["sha256"]:
        sys.exit(f"{path} is damaged")
    return manifest


def read_part(path: Path, size: int, sha256: str) -> bytes:
    """Read a part and check it against the manifest."""
    data = path.read_bytes()
    if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
        sys.exit(f"the part {path} is damaged")
    return data


def apply_part(data: bytes, window: bytearray, start: int) -> None:
    """Put what a part says into a window that begins at `start`."""
    part = zipfile.ZipFile(io.BytesIO(data))
    for info in part.infolist():
        if info.filename.endswith((".data", ".zero")):
            offset, length = (int(text, 16) for text in info.filename.split(".")[:2])
            content = read_member(part, data, info) if info.filename.endswith(".data") else bytes(length)
            window[offset - start : offset - start + length] = content


def read_member(part: zipfile.ZipFile, data: bytes, info: zipfile.ZipInfo) -> bytes:
    """Unpack a member; before Python 3.14 zipfile knows no zstd."""
    try:
        return part.read(info)
    except NotImplementedError:
        names = data[info.header_offset + 26 : info.header_offset + 30]
        begin = info.header_offset + 30 + sum(int.from_bytes(names[i : i + 2], "little") for i in (0, 2))
        return unpack_zstd(data[begin : begin + info.compress_size])


def unpack_zstd(packed: bytes) -> bytes:
    """Unpack one frame with whatever there is for it."""
    try:
        import zstandard
    except ImportError:
        if shutil.which("zstd") is None:
            sys.exit("a part is compressed with zstd: use Python 3.14 or newer, or install zstandard or zstd")
        return subprocess.run(["zstd", "-dcq"], input=packed, stdout=subprocess.PIPE, check=True).stdout
    return zstandard.ZstdDecompressor().decompress(packed)


def write_sparse(output: BinaryIO, window: bytearray, start: int, granule: int) -> None:
    """Write what is not zero."""
    for offset in range(0, len(window), granule):
        piece = window[offset : offset + granule]
        if any(piece):
            output.seek(start + offset)
            output.write(piece)


def main(archive: str, volume: str, snapshot: str, target: str) -> None:
    """Restore one snapshot."""
    folder = Path(archive) / "v1" / volume
    manifest = read_manifest(folder / snapshot / "manifest.json")
    with Path(target).open("xb") as output:
        output.truncate(manifest["size"])
        for entry in manifest["windows"]:
            start = entry["offset"]
            window = bytearray(min(manifest["window_size"], manifest["size"] - start))
            for layer, size, sha256 in entry["parts"]:
                name = f"{start:016x}.{sha256[:32]}.zip"
                apply_part(read_part(folder / manifest["layers"][layer] / name, size, sha256), window, start)
            write_sparse(output, window, start, manifest["granule"])
    sys.stdout.write(f"{target} is complete: {manifest['size']} bytes\n")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: python3 RESTORE.py ARCHIVE VOLUME SNAPSHOT OUTPUT")
    main(*sys.argv[1:])
