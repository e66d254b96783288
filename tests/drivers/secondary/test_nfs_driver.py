"""What is particular to a store of files: links, power cuts, full disks, foreign files, other clients."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.core.spi import (
    Body,
    Busy,
    Call,
    Conflict,
    Internal,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    OutOfCapacity,
    PermissionDenied,
    Unavailable,
    Unsupported,
)
from bollard.drivers.secondary import nfs
from bollard.drivers.secondary._errno import from_errno
from bollard.drivers.secondary.nfs import NfsDriver, NfsOptions

if TYPE_CHECKING:
    from .conftest import Store

MIB = 1024 * 1024

_PUT = """
import hashlib, io, json, sys
from bollard.core.spi import Body, Call, parse_options
from bollard.drivers.secondary.nfs import NfsDriver, NfsOptions

class Stops(io.BytesIO):
    def read(self, size=-1):
        data = super().read(size)
        if self.tell() > 2_000_000:
            print("in the middle", flush=True)
            sys.stdin.read()
        return data

data = bytes(3_000_000)
driver = NfsDriver(parse_options(NfsOptions, json.loads(sys.argv[1])))
driver.open(Call())
body = Body(size=len(data), sha256=hashlib.sha256(data).hexdigest(), open=lambda: Stops(data))
driver.put(sys.argv[2], body, Call())
"""


def root_of(store: Store) -> Path:
    """Where the files of a store are on this machine."""
    assert store.root is not None
    return store.root


@pytest.fixture
def killed(files: Store) -> str:
    """A key whose put was killed with SIGKILL in the middle of its bytes."""
    key = "v1/vol-1/" + "long" * 60 + "/part.zip"
    command = [sys.executable, "-c", _PUT, json.dumps(files.options), key]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == b"in the middle"
        child.send_signal(signal.SIGKILL)
        assert child.wait(30) == -signal.SIGKILL
    return key


def test_kill_9_leaves_only_what_abort_uploads_finds(files: Store, killed: str, call: Call) -> None:
    """[store.atomic] Nothing is visible; the leftover is found by its key's prefix and its age only."""
    assert len(files.names()) == 1
    assert not files.driver.list("", call).items
    with pytest.raises(NotFound):
        files.driver.head(killed, call)
    assert files.driver.abort_uploads("v1/vol-2/", call, older_than=0) == 0
    assert files.driver.abort_uploads("v1/", call, older_than=3600) == 0
    assert files.driver.abort_uploads(killed[:-3], call, older_than=0) == 1
    assert not files.names()
    assert [p.name for p in root_of(files).rglob("*")] == [".bollard-tmp"]


def test_the_put_after_a_kill_succeeds(files: Store, killed: str, call: Call) -> None:
    """A leftover is in nobody's way."""
    files.driver.put(killed, Body.of(b"second try"), call, if_absent=True)
    assert b"".join(files.driver.get(killed, call)) == b"second try"


@given(key=st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=300))
def test_uploads_name_their_key(key: str) -> None:
    """What an upload is called tells its key, whatever characters and length it has."""
    folder, name = nfs._upload_place(key)
    assert nfs._key_of_upload("/".join([*folder[1:], name])) == key
    assert all(len(os.fsencode(part)) <= 255 for part in (*folder, name))


def test_links_are_never_followed(files: Store, tmp_path_factory: pytest.TempPathFactory, call: Call) -> None:
    """A symbolic link in the export, to a directory or a file, leads no operation out of it."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret").write_bytes(b"not yours")
    root = root_of(files)
    (root / "dir").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    driver = files.driver
    for key in ("dir/secret", "file"):
        with pytest.raises(NotFound):
            list(driver.get(key, call))
        with pytest.raises(NotFound):
            driver.head(key, call)
        driver.delete(key, call)
    with pytest.raises(InvalidArgument):
        driver.put("dir/new", Body.of(b"x"), call)
    with pytest.raises(Conflict):
        driver.put("file", Body.of(b"x"), call, if_absent=True)
    assert not driver.list("", call).items
    driver.put("file", Body.of(b"replaces the link"), call)
    assert [p.name for p in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_bytes() == b"not yours"


def test_foreign_files_are_no_objects(files: Store, call: Call) -> None:
    """Pipes, deleted open files of NFS clients, snapshot directories and odd names stay out of listings."""
    root = root_of(files)
    os.mkfifo(root / "pipe")
    (root / ".nfs000000000000beef00000001").touch()
    (root / ".snapshot").mkdir()
    (root / ".snapshot" / "hourly").touch()
    (root / "new\nline").touch()
    Path(os.fsdecode(os.fsencode(root) + b"/not-utf8-\xff")).touch()
    (root / "mine").write_bytes(b"x")
    assert [o.key for o in files.driver.list("", call).items] == ["mine"]
    with pytest.raises(NotFound):
        list(files.driver.get("pipe", call))


def test_a_key_cannot_be_file_and_directory(files: Store, call: Call) -> None:
    """Unlike S3, a file system cannot hold both `a` and `a/b`: told as InvalidArgument, nothing changes."""
    files.driver.put("a/b", Body.of(b"x"), call)
    for if_absent in (True, False):
        with pytest.raises(InvalidArgument):
            files.driver.put("a", Body.of(b"y"), call, if_absent=if_absent)
        with pytest.raises(InvalidArgument):
            files.driver.put("a/b/c", Body.of(b"y"), call, if_absent=if_absent)
    assert files.names() == ["a/b"]


def test_puts_and_prunes_race_without_loss(files: Store, call: Call) -> None:
    """A delete that empties a directory never takes away the one that a put is about to use."""
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            files.driver.put("deep/er/a", Body.of(b"a"), call)
            files.driver.delete("deep/er/a", call)

    with ThreadPoolExecutor(2) as pool:
        busy = pool.submit(churn)
        try:
            for n in range(40):
                files.driver.put(f"deep/er/b{n}", Body.of(b"b"), call)
                assert files.driver.head(f"deep/er/b{n}", call).size == 1
                files.driver.delete(f"deep/er/b{n}", call)
        finally:
            stop.set()
        busy.result(30)
    assert not files.names()


def test_an_upload_that_was_swept_is_told(files: Store, call: Call) -> None:
    """A put whose upload was aborted under it fails as Unavailable and shows nothing."""

    class Swept(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            files.driver.abort_uploads("", call, older_than=0)
            return super().read(size)

    body = Body(size=3, sha256=hashlib.sha256(b"abc").hexdigest(), open=lambda: Swept(b"abc"))
    with pytest.raises(Unavailable, match="aborted"):
        files.driver.put("a/k", body, call)
    assert not files.names()


def test_a_repeated_link_finds_itself(nfs_store: Store, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """An NFS client that lost the answer to LINK sends it again and gets EEXIST: that is success."""
    link = os.link

    def twice(*args: object, **how: object) -> None:
        link(*args, **how)  # type: ignore[arg-type] # passed on as they came
        link(*args, **how)  # type: ignore[arg-type] # idem

    monkeypatch.setattr(os, "link", twice)
    nfs_store.driver.put("k", Body.of(b"x"), call, if_absent=True)
    with pytest.raises(Conflict):
        nfs_store.driver.put("k", Body.of(b"x"), call, if_absent=True)


def test_without_links_there_is_no_conditional_put(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SMB and some FUSE file systems the trait is false, the condition refused, and plain puts work."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(os, "link", refuse)
    driver = NfsDriver(NfsOptions(path=tmp_path))
    driver.open(call)
    assert not driver.traits().conditional_put
    with pytest.raises(Unsupported):
        driver.put("k", Body.of(b"x"), call, if_absent=True)
    driver.put("k", Body.of(b"x"), call)
    assert driver.head("k", call).size == 1
    driver.close()


def test_durable_before_visible(nfs_store: Store, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced before it gets its name, every new directory and the last one after."""
    steps: list[str] = []
    fsync, link, mkdir = os.fsync, os.link, os.mkdir
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("sync " + _kind(fd)), fsync(fd))[1])
    monkeypatch.setattr(os, "link", lambda *a, **k: (steps.append("link"), link(*a, **k))[1])
    monkeypatch.setattr(os, "mkdir", lambda *a, **k: (steps.append("mkdir"), mkdir(*a, **k))[1])
    nfs_store.driver.put("a/b/k", Body.of(b"x"), call, if_absent=True)
    assert steps == ["sync file", "mkdir", "sync folder", "mkdir", "sync folder", "link", "sync folder"]


def _kind(fd: int) -> str:
    return "folder" if Path(f"/proc/self/fd/{fd}").is_dir() else "file"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB, where root may mount one."""
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mount)], check=True, timeout=30)
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True, timeout=30)


@pytest.mark.real(root=True)
def test_a_full_disk_is_out_of_capacity(small_disk: Path, call: Call) -> None:
    """ENOSPC in the middle of a put gives OutOfCapacity, takes the half back, and smaller puts go on."""
    driver = NfsDriver(NfsOptions(path=small_disk, must_be_mounted=True))
    driver.open(call)
    with pytest.raises(OutOfCapacity):
        driver.put("big", Body.of(bytes(6 * MIB)), call)
    driver.put("fits", Body.of(bytes(3 * MIB)), call)
    assert [o.key for o in driver.list("", call).items] == ["fits"]
    assert not list((small_disk / ".bollard-tmp").iterdir())
    driver.close()


@pytest.mark.real(root=True)
def test_a_full_store_opens(small_disk: Path, call: Call) -> None:
    """With not even an inode left, a store opens, reads, and takes puts again after a delete."""
    subprocess.run(["mount", "-o", "remount,nr_inodes=20", str(small_disk)], check=True, timeout=30)
    driver = NfsDriver(NfsOptions(path=small_disk))
    driver.open(call)
    for key in ("a", "b", "c"):
        driver.put(key, Body.of(b"x"), call)
    driver.close()
    with pytest.raises(OSError, match="No space"):
        [(small_disk / f"filler-{n}").touch() for n in range(20)]
    driver.open(call)
    with pytest.raises(OutOfCapacity):
        driver.put("d", Body.of(b"x"), call)
    assert b"".join(driver.get("a", call)) == b"x"
    driver.delete("a", call)
    driver.delete("b", call)
    driver.put("d", Body.of(b"y"), call, if_absent=True)
    driver.close()


@pytest.mark.real(root=True)
def test_a_read_only_mount_can_be_restored_from(small_disk: Path, call: Call) -> None:
    """A store mounted read-only opens, reads and lists; put is PermissionDenied."""
    driver = NfsDriver(NfsOptions(path=small_disk))
    driver.open(call)
    driver.put("k", Body.of(b"x"), call)
    driver.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True, timeout=30)
    driver.open(call)
    assert not driver.traits().conditional_put
    assert b"".join(driver.get("k", call)) == b"x"
    with pytest.raises(PermissionDenied):
        driver.put("k", Body.of(b"y"), call)
    driver.close()


def test_a_file_size_limit_is_told(nfs_store: Store, call: Call) -> None:
    """EFBIG, here from RLIMIT_FSIZE, gives LimitExceeded and leaves nothing."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, before[1]))
    try:
        with pytest.raises(LimitExceeded):
            nfs_store.driver.put("k", Body.of(bytes(2 * MIB)), call)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not nfs_store.names()


def test_opening_what_is_not_there(tmp_path: Path, call: Call) -> None:
    """A missing directory and a missing mount give NotFound, a file InvalidArgument; nothing is made."""
    (tmp_path / "file").touch()
    for options, error in [
        (NfsOptions(path=tmp_path / "nowhere"), NotFound),
        (NfsOptions(path=tmp_path, must_be_mounted=True), NotFound),
        (NfsOptions(path=tmp_path / "file"), InvalidArgument),
    ]:
        with pytest.raises(error):
            NfsDriver(options).open(call)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_errors_of_the_server_are_typed() -> None:
    """Stale handles and I/O errors are Unavailable, quota is OutOfCapacity, the unknown is Internal."""
    for number, cls in [
        (errno.ESTALE, Unavailable),
        (errno.EIO, Unavailable),
        (errno.EDQUOT, OutOfCapacity),
        (errno.EROFS, PermissionDenied),
        (errno.EMFILE, Busy),
        (errno.EINVAL, Internal),
    ]:
        assert type(from_errno(OSError(number, os.strerror(number)), "k")) is cls


def test_age_is_told_by_the_server(
    files: Store, killed: str, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host whose clock is a day ahead does not abort what others are writing."""
    monkeypatch.setattr(time, "time", lambda: 4_000_000_000.0)
    assert files.driver.abort_uploads("", call, older_than=3600) == 0
    upload = next((root_of(files) / ".bollard-tmp").rglob("*,*"))
    os.utime(upload, (1, 1))
    assert files.driver.abort_uploads(killed, call, older_than=3600) == 1
