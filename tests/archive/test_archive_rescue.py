"""Without Bollard: the scripts in the root of the archive restore a full and two increments."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from bollard.core.archive import Archive, CreateOptions
from bollard.core.archive.rescue import publish_rescue
from bollard.core.dataplane import FileSource
from bollard.core.spi import Call
from bollard.drivers.secondary.nfs import NfsDriver, NfsOptions

SIZE = 5 * 2**20 + 1000
GRANULE = 65536


@pytest.fixture(scope="module")
def root(kit: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A full and two increments in a directory, and what each of them is."""
    root, contents = tmp_path_factory.mktemp("archive"), {}
    store = NfsDriver(NfsOptions(path=root))
    store.open(Call())
    archive, volume = Archive(store), kit.Ram(SIZE)
    volume.data[: 2**21] = kit.noise(1, 2**21)
    volume.data[-1500:] = kit.noise(2, 1500)
    for number in range(3):
        contents[f"s{number}"] = bytes(volume.data)
        parent = f"s{number - 1}" if number else None
        options = CreateOptions(window_size=2**20, compression=("stored", "deflate", "zstd")[number])
        archive.create(volume, Call(), volume="vol-1", snapshot=f"s{number}", parent=parent, options=options)
        volume.data[number * GRANULE : number * GRANULE + 100_000] = kit.noise(9, 50_000) + b"text" * 12_500
        volume.data[2**20 : 2**20 + GRANULE * (number + 1)] = bytes(GRANULE * (number + 1))
        volume.data[-900:] = b"x" * 900 if number == 0 else bytes(900)
    store.close()
    return root, contents


COMMANDS = {
    "sh": ["sh", "RESTORE.sh"],
    "bash": ["bash", "RESTORE.sh"],
    "python": [sys.executable, "-I", "RESTORE.py"],
    "bare": [sys.executable, "-I", "-S", "RESTORE.py"],  # no package zstandard: the tool does it
}


def rescue(
    kind: str, root: Path, snapshot: str, target: Path, path: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one of the scripts as a person would, in the root of the archive; `path`: where tools are."""
    return subprocess.run(
        [*COMMANDS[kind], ".", "vol-1", snapshot, target],
        cwd=root,
        env={**os.environ, "PATH": path} if path else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("kind", COMMANDS)
@pytest.mark.parametrize("snapshot", ["s0", "s1", "s2"])
def test_restores(root, tmp_path, kind, snapshot):
    """The image is identical, and its holes are holes."""
    path, contents = root
    target = tmp_path / "disk.img"
    done = rescue(kind, path, snapshot, target)
    assert (done.returncode, done.stderr) == (0, "")
    assert target.read_bytes() == contents[snapshot]
    assert target.stat().st_blocks * 512 < 3 * 2**20


def packed(root: Path) -> bool:
    """Whether any part of the last snapshot has a member packed with zstd."""
    parts = (root / "v1" / "vol-1" / "s2").rglob("*.zip")
    return any(info.compress_type == 93 for part in parts for info in zipfile.ZipFile(part).infolist())


@pytest.mark.parametrize("kind", ["sh", "bare"])
def test_zstd_missing_is_said(root, tmp_path, kind):
    """Without anything that unpacks zstd both scripts end with a message that says what to install."""
    path, _ = root
    assert packed(path)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "awk", "sed", "unzip", "sha256sum", "dd", "cut", "tail", "head", "fallocate"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    done = rescue(kind, path, "s2", tmp_path / "disk.img", str(tools))
    assert done.returncode != 0
    assert "compressed with zstd" in done.stderr


@pytest.mark.parametrize(
    "there", [None, b"", b"# Version 1 of the rescue files", b"# Version 99 of the rescue files"]
)
def test_older_scripts_are_replaced(memory, there):
    """A newer Bollard brings its scripts, an older one leaves newer scripts alone."""
    if there is not None:
        memory.objects["RESTORE.sh"] = there
    publish_rescue(memory, Call())
    kept = there is not None and b"99" in there
    assert (memory.objects["RESTORE.sh"] == there) == kept
    memory.calls.clear()
    publish_rescue(memory, Call())
    assert [key for method, key in memory.calls if method == "put"] == []


@pytest.mark.parametrize("kind", COMMANDS)
def test_refuses(root, tmp_path, kind):
    """Nothing is overwritten; a damaged part or manifest and a missing part are refused with their name."""
    path, _ = root
    target = tmp_path / "disk.img"
    target.write_bytes(b"precious")
    assert rescue(kind, path, "s0", target).returncode != 0
    assert target.read_bytes() == b"precious"
    assert rescue(kind, path, "s9", tmp_path / "b").returncode != 0
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    part = sorted((copy / "v1" / "vol-1" / "s0").rglob("*.zip"))[1]
    good = part.read_bytes()
    part.write_bytes(good[:500] + bytes([good[500] ^ 1]) + good[501:])
    damaged = rescue(kind, copy, "s0", tmp_path / "c")
    assert damaged.returncode != 0
    assert part.name in damaged.stderr
    part.unlink()
    missing = rescue(kind, copy, "s0", tmp_path / "d")
    assert missing.returncode != 0
    assert part.name in missing.stderr
    manifest = copy / "v1" / "vol-1" / "s1" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"size":', b'"size":1', 1))
    assert rescue(kind, copy, "s1", tmp_path / "e").returncode != 0


def test_large_offsets(kit, tmp_path):
    """Offsets beyond 4 GiB come out right in shell and Python (32-bit awks exist)."""
    root = tmp_path / "archive"
    root.mkdir()
    store = NfsDriver(NfsOptions(path=root))
    store.open(Call())
    source = tmp_path / "source.img"
    places = [2**31, 2**32 + 2**31 + GRANULE, 2**40]
    with source.open("wb") as file:
        file.truncate(2**40 + GRANULE)
        for place in places:
            file.seek(place)
            file.write(str(place).encode())
    with FileSource.open(source) as opened:
        Archive(store).create(opened, Call(), volume="vol-1", snapshot="s0")
    for kind in ("sh", "python"):
        target = tmp_path / f"{kind}.img"
        assert rescue(kind, root, "s0", target).returncode == 0
        with target.open("rb") as file:
            for place in places:
                file.seek(place)
                assert file.read(20).rstrip(b"\0") == str(place).encode()
        assert target.stat().st_size == 2**40 + GRANULE
        target.unlink()
    store.close()


def test_readme_tells_the_truth(root):
    """README.txt names the files that are there."""
    text = (root[0] / "README.txt").read_text()
    for name in ("RESTORE.sh", "RESTORE.py", "manifest.json", "SHA256SUMS", "HASHES"):
        assert name in text
