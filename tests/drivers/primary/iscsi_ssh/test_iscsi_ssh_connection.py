"""The SSH connection and what can become of it, with a real sshd."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bollard.core.spi import (
    Call,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    Outcome,
    StorageError,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from bollard.drivers.primary.iscsi_ssh import IscsiSshDriver
from bollard.drivers.primary.iscsi_ssh.install import install, main
from bollard.drivers.primary.iscsi_ssh.ssh import SshArray
from iscsi_array import IscsiArray, run
from iscsi_rig import control_socket, opened, options_of, short, spec, typed_options
from kvm_lab.polling import until
from ports import free_port
from primary_rig import WEB, call

pytestmark = pytest.mark.real(root=True)


@pytest.fixture(autouse=True)
def _empty_again(array: IscsiArray) -> Iterator[None]:
    """Each test leaves the pool empty."""
    yield
    with opened(array) as driver:
        driver.delete_volume(WEB, call())


@contextmanager
def _standing_still(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _fails(error: type[StorageError], array: IscsiArray, seconds: float = 30, **changes: Any) -> StorageError:
    driver = IscsiSshDriver(typed_options(array, **changes))
    try:
        with pytest.raises(error) as caught:
            driver.open(short(seconds))
    finally:
        driver.close()
    assert caught.value.outcome is Outcome.NOT_APPLIED
    return caught.value


def test_another_host_key_is_refused_before_we_log_in(array: IscsiArray) -> None:
    """A machine with another host key is no array of ours, also when its key changes later."""
    with opened(array) as driver:
        array.change_host_key()
        with pytest.raises(Unauthenticated) as caught:
            until(lambda: driver.create_volume(spec(), call()) is None, 60, "the old connection to break")
        assert "host key" in caught.value.message
        assert (
            "Accepted" not in (array.pool.parent / "sshd.log").read_text().rpartition("Server listening")[2]
        )


def test_wrong_doors(array: IscsiArray, tmp_path: Path) -> None:
    """A key that opens nothing, a closed port, a missing pool and a silent server are errors of their own."""
    _fails(Unauthenticated, array, identity_file=str(array.strange_key))
    _fails(Unavailable, array, url=f"ssh://127.0.0.1:{free_port()}")
    _fails(NotFound, array, pool="/srv/no-such-pool")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        _fails(DeadlineExceeded, array, 1.0, url=f"ssh://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - began < 1 + 20
    damaged = tmp_path / "damaged"
    damaged.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n")
    assert "c2VjcmV0" not in repr(_fails(InvalidArgument, array, identity_file=str(damaged)))


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "http://array-1"},
        {"url": "ssh://root@array-1"},
        {"url": "ssh://array-1:99999"},
        {"owner": "Not.OK"},
        {"pool": "relative/path"},
        {"known_host": "ssh-ed25519"},
    ],
)
def test_bad_options_are_refused_at_once(array: IscsiArray, changes: dict[str, Any]) -> None:
    """What cannot work is refused with the option's name, before anything is opened."""
    with pytest.raises(InvalidArgument) as caught:
        IscsiSshDriver(typed_options(array, **changes))
    assert next(iter(changes)) in caught.value.message


def test_a_frozen_sshd_is_left_at_the_deadline(array: IscsiArray) -> None:
    """When sshd stands still, a call ends in time and its outcome is unknown; later the pool works again."""
    with opened(array) as driver:
        began = time.monotonic()
        with _standing_still(array.sshd_pid, *array.connections()), pytest.raises(DeadlineExceeded) as caught:
            driver.create_volume(spec(), short(1.0))
        assert time.monotonic() - began < 1 + 20
        assert caught.value.outcome is Outcome.UNKNOWN
        assert driver.create_volume(spec(), call()).id == WEB


def test_time_that_ran_out_after_sending_leaves_it_unknown(array: IscsiArray) -> None:
    """An end of the call that is seen in what follows a request leaves its outcome unknown all the same."""
    with closing(SshArray(typed_options(array))) as ssh:
        command = ssh.start("exec cat", call())
        late = Call(deadline=time.monotonic() - 1)
        with pytest.raises(DeadlineExceeded) as caught:
            command.status(late, Outcome.UNKNOWN)
        command.close()
    assert caught.value.outcome is Outcome.UNKNOWN


def test_a_lost_reply_is_an_unknown_outcome(array: IscsiArray) -> None:
    """A connection that breaks in the middle of a create is not its failure; the repeat finds it."""
    with opened(array) as driver:
        caught = list[StorageError]()

        def create() -> None:
            try:
                driver.create_volume(spec(), call())
            except StorageError as error:
                caught.append(error)

        creating = threading.Thread(target=create)
        with _locked(array):
            creating.start()
            until(lambda: _waiting(array), 60, "the agent to wait for its turn")
            for pid in array.connections():
                os.kill(pid, signal.SIGKILL)
            creating.join(10)
        (error,) = caught
        assert isinstance(error, Unavailable)
        assert error.outcome is Outcome.UNKNOWN
        until(lambda: driver.list_volumes(call()).items, 60, "the agent to end what it had begun")
        made = driver.get_volume(WEB, call())
        assert driver.create_volume(spec(), call()).identity == made.identity


@contextmanager
def _locked(array: IscsiArray) -> Iterator[None]:
    with (array.pool / ".bollard" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _waiting(array: IscsiArray) -> bool:
    """Tell whether somebody waits for the pool's lock, as the kernel shows it."""
    inode = (array.pool / ".bollard" / "lock").stat().st_ino
    return any(f":{inode} " in line for line in Path("/proc/locks").read_text().splitlines() if "->" in line)


def test_a_connection_that_broke_in_between_is_replaced(array: IscsiArray) -> None:
    """Between two calls the connection may go; the next call connects again and nothing is seen of it."""
    with opened(array) as driver:
        array.stop_sshd()
        array.start_sshd()
        assert driver.create_volume(spec(), call()).id == WEB


def test_many_calls_share_one_connection(array: IscsiArray) -> None:
    """Twenty calls at the same time succeed over one connection, more than sshd has sessions for."""
    with opened(array) as driver:
        driver.create_volume(spec(), call())
        sizes = list[int]()
        threads = [
            threading.Thread(target=lambda: sizes.append(driver.get_volume(WEB, call()).size))
            for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(sizes) == 20
        assert len(array.connections()) == 1


def test_a_closed_driver_leaves_nothing_running(array: IscsiArray) -> None:
    """After close there is no thread of ours, no connection, and no agent on the array."""
    before = set(threading.enumerate())
    with opened(array) as driver:
        driver.create_volume(spec(), call())
    assert set(threading.enumerate()) == before
    until(lambda: not array.connections(), 60, "sshd to end the connection")
    until(lambda: not _agents(array), 60, "the agents to end")


def _agents(array: IscsiArray) -> list[str]:
    place = str(array.pool).encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if place in (process / "cmdline").read_bytes():
                found.append(process.name)
        except OSError:
            continue  # it ended
    return found


def test_install_says_what_is_missing(array: IscsiArray, tmp_path: Path) -> None:
    """A machine without a mounted pool, reflinks or tgtd is not prepared, and the reason is told."""
    portal, socket_path = "127.0.0.1:3260", control_socket(array)
    with pytest.raises(InvalidArgument, match="nothing is mounted"):
        install(typed_options(array, pool=str(tmp_path)), portal=portal, socket=socket_path)
    with _tmpfs(tmp_path) as other, pytest.raises(Unsupported, match="reflink"):
        install(typed_options(array, pool=str(other)), portal=portal, socket=socket_path)
    with pytest.raises(Unavailable, match="tgtd"):
        install(typed_options(array), portal=portal, socket=tmp_path / "nobody")
    with pytest.raises(InvalidArgument, match="HOST:PORT"):
        install(typed_options(array), portal="127.0.0.1", socket=socket_path)


@contextmanager
def _tmpfs(directory: Path) -> Iterator[Path]:
    run("mount", "-t", "tmpfs", "none", directory)
    try:
        yield directory
    finally:
        run("umount", directory)


def test_install_is_a_command_that_can_be_repeated(
    array: IscsiArray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prepares a pool, keeps its identity when repeated, and tells a failure in one line."""
    config = tmp_path / "c.toml"
    lines = [f'{key} = "{value}"' for key, value in options_of(array).items()]
    config.write_text("\n".join(["[options]", *lines]))
    command = ["--config", str(config), "--portal", f"127.0.0.1:{array.portal[1]}"]
    command += ["--socket", str(control_socket(array))]
    with opened(array) as driver:
        identity = driver.open(call()).identity
    assert main(command) == 0
    assert identity in capsys.readouterr().out
    config.write_text("[options]\nurl = 'ftp://x'\n")
    assert main(command) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
