"""Real images and real servers for tests: qcow2, raw, ext4 and XFS made by the tools that users have.

Reached through the `images` fixture (tests run in importlib mode, so files here cannot import each
other by name):

    def test_something(images, tmp_path):
        image = images.ext4_qcow2(tmp_path / "a.qcow2", images.file_tree(tmp_path / "tree"))
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bollard.core.dataplane

MIB = 1024 * 1024

# Makes a server listen on a socket of ours and die with us.
_ACTIVATE = Path(bollard.core.dataplane.__file__).with_name("activate.py")
# Debian keeps mkfs and debugfs where an ordinary user's PATH does not look.
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def run(*command: str | Path, stdin: str | None = None) -> str:
    """Run a tool to its end and return its output; fail the test with its stderr otherwise."""
    program = shutil.which(str(command[0]), path=_PATH)
    assert program, f"{command[0]} is not installed"
    done = subprocess.run(
        [program, *map(str, command[1:])],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def create_qcow2(path: Path, size: int, *options: str) -> Path:
    """Create an empty qcow2 image; `options` as in `qemu-img create -o`."""
    extra = ["-o", ",".join(options)] if options else []
    run("qemu-img", "create", "-q", "-f", "qcow2", *extra, "--", path, str(size))
    return path


def create_raw(path: Path, size: int) -> Path:
    """Create an empty sparse file."""
    with path.open("xb") as file:
        file.truncate(size)
    return path


def qemu_io(path: Path, image_format: str, *commands: str) -> str:
    """Run qemu-io commands ("write -P 0x5a 1M 64k", "read -P 0 0 1M", "discard 0 64k") on an image."""
    arguments = [part for command in commands for part in ("-c", command)]
    output = run("qemu-io", "-d", "unmap", "-f", image_format, *arguments, path)
    assert "failed" not in output, output
    return output


def image_info(path: Path, image_format: str) -> dict[str, Any]:
    """Return what `qemu-img info` says."""
    info: dict[str, Any] = json.loads(run("qemu-img", "info", "--output=json", "-f", image_format, path))
    return info


def same(a: Path, a_format: str, b: Path, b_format: str) -> bool:
    """Tell whether `qemu-img compare` finds two images equal."""
    command = ["qemu-img", "compare", "-q", "-f", a_format, "-F", b_format, str(a), str(b)]
    code = subprocess.run(command, timeout=120, check=False).returncode
    assert code in (0, 1), f"qemu-img compare failed with {code}"
    return code == 0


def noise(length: int, *, seed: int = 1) -> bytes:
    """Return reproducible bytes that look random: no zero runs, nothing to compress."""
    return random.Random(seed).randbytes(length)  # noqa: S311 - reproducible is the point


def file_tree(directory: Path, *, files: int = 8, size: int = 64 * 1024, seed: int = 1) -> Path:
    """Make a directory of files with reproducible contents, some of them in a sub-directory."""
    (directory / "sub").mkdir(parents=True)
    for number in range(files):
        parent = directory / "sub" if number % 2 else directory
        (parent / f"file-{number}").write_bytes(noise(size + number, seed=seed + number))
    return directory


def digests(directory: Path) -> dict[str, str]:
    """Return relative path -> SHA-256 of every file, `lost+found` left out."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def ext4_raw(path: Path, tree: Path, size: int = 64 * MIB) -> Path:
    """Make a raw image with an ext4 file system that holds `tree`. No mount, no root."""
    create_raw(path, size)
    run("mkfs.ext4", "-q", "-F", "-d", tree, path)
    return path


def ext4_qcow2(path: Path, tree: Path, size: int = 64 * MIB) -> Path:
    """Make a qcow2 image with an ext4 file system that holds `tree`."""
    return to_qcow2(ext4_raw(path.with_name(path.name + ".raw"), tree, size), path)


def to_qcow2(raw: Path, path: Path) -> Path:
    """Move a raw image into a new qcow2 image."""
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path)
    raw.unlink()
    return path


def to_raw(path: Path, raw: Path) -> Path:
    """Copy a qcow2 image into a new raw image with qemu-img."""
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
    return raw


def ext4_digests(raw: Path, scratch: Path) -> dict[str, str]:
    """Check the file system of a raw image and return the digests of its files; `scratch` is made."""
    run("e2fsck", "-fn", raw)
    scratch.mkdir()
    run("debugfs", "-R", f"rdump / {scratch}", raw)
    return digests(scratch)


def xfs_raw(path: Path, tree: Path, size: int = 320 * MIB) -> Path:
    """Make a raw image with an XFS file system that holds the files at the top of `tree`.

    XFS wants 300 MiB at least; nearly all of it stays a hole.
    """
    create_raw(path, size)
    files = [f"{file.name} ---644 0 0 {file}" for file in sorted(tree.iterdir()) if file.is_file()]
    proto = path.with_name(path.name + ".proto")
    proto.write_text("\n".join(["/", "0 0", "d--755 0 0", *files, "$", ""]))
    run("mkfs.xfs", "-q", "-p", proto, path)
    proto.unlink()
    return path


@contextmanager
def serve(listener: socket.socket, *command: str | Path) -> Iterator[int]:
    """Let a server that knows socket activation (nbdkit, qemu-nbd) serve `listener`; yields its pid.

    Clients may connect at once: they wait in the backlog until it is ready. At the end it is killed,
    which is a crash: flush before, what must survive. It dies with us, too.
    """
    with listener:
        script = [sys.executable, "-I", "-S", str(_ACTIVATE), str(os.getpid()), str(listener.fileno())]
        process = subprocess.Popen(
            [*script, *map(str, command)],
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    try:
        yield process.pid
    finally:
        # nbdkit would wait for its clients after SIGTERM.
        process.kill()
        process.wait()


@contextmanager
def serve_unix(path: Path, *command: str | Path) -> Iterator[Path]:
    """Let a server serve a new unix socket at `path`."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(64)
    with serve(listener, *command):
        yield path


@contextmanager
def serve_tcp(*command: str | Path) -> Iterator[tuple[str, int]]:
    """Let a server serve a free port of 127.0.0.1."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    host, port = listener.getsockname()
    with serve(listener, *command):
        yield host, port
