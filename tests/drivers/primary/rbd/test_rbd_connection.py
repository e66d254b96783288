"""What can be wrong with a cluster, its answers, and the process that asks it."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bollard.core.spi import (
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    Outcome,
    PermissionDenied,
    StorageError,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from bollard.drivers.primary.rbd import RbdDriver
from ceph_lab import CephLab
from ports import free_port
from primary_rig import WEB, call
from rbd_rig import opened, spec, typed_options

pytestmark = pytest.mark.real

_STRANGER = "AQBaEQJriF4JJBAAUou4jvGySFWOoCnwLxQh/w=="


def _refused(lab: CephLab, error: type[StorageError], seconds: float = 30, **changes: Any) -> StorageError:
    driver = RbdDriver(typed_options(lab, **changes))
    began = time.monotonic()
    try:
        with pytest.raises(error) as caught:
            driver.open(call(seconds))
    finally:
        driver.close()
    assert time.monotonic() - began < seconds + 20
    assert lab.key not in f"{caught.value!r}{caught.value.detail}"
    return caught.value


@pytest.mark.parametrize(
    "changes", [{"key": _STRANGER}, {"user": "nobody"}, {"key": "no-base64"}, {"key": ""}]
)
def test_a_wrong_key_is_unauthenticated(lab: CephLab, changes: dict[str, Any]) -> None:
    """A key or user that the cluster does not know, or that is none, is unauthenticated."""
    assert _refused(lab, Unauthenticated, **changes).outcome is Outcome.NOT_APPLIED


def test_what_only_looks_has_changed_nothing(lab: CephLab) -> None:
    """A look that the cluster refuses is not applied, whatever the agent knows of its outcome."""
    lab.ceph("auth", "get-or-create", "client.looker", "mon", "profile rbd", "osd", "profile rbd")
    key = lab.ceph("auth", "get", "client.looker")[0]["key"]
    try:
        assert _refused(lab, PermissionDenied, user="looker", key=key).outcome is Outcome.NOT_APPLIED
    finally:
        lab.ceph("auth", "rm", "client.looker")


def test_a_pool_that_is_not_there(lab: CephLab) -> None:
    """A missing pool is not found."""
    assert "'other'" in _refused(lab, NotFound, pool="other").message


def test_nobody_listens(lab: CephLab) -> None:
    """A monitor that cannot be reached is unavailable before the call has to end."""
    error = _refused(lab, Unavailable, seconds=5, monitors=f"v2:127.0.0.1:{free_port()}/0")
    assert error.outcome is Outcome.NOT_APPLIED


def test_a_silent_monitor_is_left_in_time(lab: CephLab) -> None:
    """A monitor that takes the connection and says nothing costs no more than the call has."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        _refused(lab, Unavailable, seconds=4, monitors=f"v2:127.0.0.1:{silent.getsockname()[1]}/0")


def test_a_user_without_rights_is_told(lab: CephLab) -> None:
    """A user who may log in and nothing else is denied."""
    key = lab.ceph("auth", "get-or-create", "client.poor", "mon", "allow r")[0]["key"]
    _refused(lab, PermissionDenied, user="poor", key=key)


@pytest.mark.parametrize(
    "changes",
    [
        {"monitors": "10.0.0.1 --keyring x"},
        {"monitors": ""},
        {"pool": "rbd, allow *"},
        {"user": ""},
        {"owner": "Us"},
    ],
)
def test_options_that_cannot_be(lab: CephLab, changes: dict[str, Any]) -> None:
    """An option that would mean something else to Ceph is refused by name before anything is started."""
    with pytest.raises(InvalidArgument, match=next(iter(changes))):
        RbdDriver(typed_options(lab, **changes))


@pytest.mark.parametrize("python", [Path("/usr/bin/no-python"), Path("/bin/false")])
def test_a_python_that_is_none(lab: CephLab, python: Path) -> None:
    """A program that cannot be run, or has no bindings, is unsupported, and the option is named."""
    assert str(python) in _refused(lab, Unsupported, python=python).message


@contextmanager
def _standing_still(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_frozen_osd_ends_the_call_in_time_and_the_repeat_works(lab: CephLab, driver: RbdDriver) -> None:
    """While the OSD stands still a call ends at its deadline, with an unknown outcome; later all is well."""
    driver.create_volume(spec(), call())
    with _standing_still(lab.pids["ceph-osd"]):
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded) as caught:
            driver.resize_volume(WEB, 32 << 20, call(2))
        assert time.monotonic() - began < 2 + 20
        assert caught.value.outcome is Outcome.UNKNOWN
        with pytest.raises(DeadlineExceeded) as looked:
            driver.list_volumes(call(1))
        assert looked.value.outcome is Outcome.NOT_APPLIED
    assert driver.resize_volume(WEB, 32 << 20, call()).size == 32 << 20
    driver.delete_volume(WEB, call())


def test_a_cancelled_call_ends(lab: CephLab, driver: RbdDriver) -> None:
    """A call that is cancelled while it waits ends at once."""
    waiting = call(60)
    with _standing_still(lab.pids["ceph-osd"]):
        threading.Timer(0.5, waiting.cancel.set).start()
        with pytest.raises(DeadlineExceeded, match="cancelled"):
            driver.list_volumes(waiting)
    assert list(driver.list_volumes(call()).items) == []


def test_an_agent_that_dies_is_replaced(lab: CephLab, driver: RbdDriver) -> None:
    """An idle agent that was killed is noticed, and the next call has another one."""
    driver.create_volume(spec(), call())
    for agent in _agents():
        os.kill(agent, signal.SIGKILL)
        os.waitid(os.P_PID, agent, os.WEXITED | os.WNOWAIT)
    assert driver.get_volume(WEB, call()).id == WEB
    driver.delete_volume(WEB, call())


def test_close_ends_all_agents_and_the_key_is_nowhere(lab: CephLab) -> None:
    """While a pool is open no process shows the key; when it is closed no agent is left."""
    with opened(lab) as driver:
        driver.list_volumes(call())
        assert _agents()
        for process in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    text = (process / name).read_bytes()
                except OSError:
                    continue  # it ended
                assert lab.key.encode() not in text
    assert not _agents()


def _agents() -> list[int]:
    """Return our children that run the agent."""
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    pids = [int(pid) for path in children for pid in path.read_text().split()]
    return [pid for pid in pids if b"agent.main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
