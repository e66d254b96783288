"""Restores a snapshot from a Bollard archive with Python's standard library, nothing else.

    python3 RESTORE.py ARCHIVE VOLUME SNAPSHOT OUTPUT

ARCHIVE is the directory with this file in it (download it first if it lies on S3 or Swift); OUTPUT must
not exist: it becomes a sparse raw image. Every part is checked against the manifest before it is used.
"""

from __future__ import annotations

import hashlib
import io
import json
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


def read_part(path: Path, size: int, sha256: str) -> zipfile.ZipFile:
    """Read a part and check it against the manifest."""
    data = path.read_bytes()
    if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
        sys.exit(f"the part {path} is damaged")
    return zipfile.ZipFile(io.BytesIO(data))


def apply_part(part: zipfile.ZipFile, window: bytearray, start: int) -> None:
    """Put what a part says into a window that begins at `start`."""
    for name in part.namelist():
        if name.endswith((".data", ".zero")):
            offset, length = (int(text, 16) for text in name.split(".")[:2])
            data = part.read(name) if name.endswith(".data") else bytes(length)
            window[offset - start : offset - start + length] = data


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
