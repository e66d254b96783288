"""Each reply and each request of each operation lost once, and an array that is killed: retries converge."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from array_rig import VM, host, read, spec, write
from bollard.core.dataplane.open import open_source
from bollard.core.spi import Busy, NotFound, Outcome, Qos, StorageError, TemplateSpec, parse_options
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.primary.array.controller import Controller
from bollard.simulators.array import ArraySimulator
from bollard.simulators.process import SimulatorProcess
from bollard.transfer_objects.ids import TemplateId, VolumeId
from lossy_proxy import LossyProxy
from primary_rig import DB, DEBIAN, MIB, S1, S2, WEB, call

NEW, FOREIGN = VolumeId("new-1"), VolumeId("foreign-1")
NATIVE = "bollard.v.foreign-1"
HOST = host()


def prepared(driver: ArrayDriver) -> None:
    """Two volumes with bytes, a snapshot of one, a sealed template, a volume that is not ours."""
    for volume, byte in ((WEB, 1), (DB, 2), (FOREIGN, 5)):
        driver.create_volume(spec(volume), call())
        write(driver, volume, byte)
    driver.create_snapshot(WEB, S1, call())
    write(driver, WEB, 3)
    seed = driver.prepare_template(TemplateSpec(id=DEBIAN, size=MIB), call())
    write(driver, seed.id, 4)
    driver.seal_template(DEBIAN, call())
    assert driver.release_volume(FOREIGN, call()) == NATIVE


def state(driver: ArrayDriver) -> object:
    """What can be seen of our volumes, and all objects that the array has."""
    talk = driver._client.talk(call())
    seen = {
        volume.id: (
            volume.size,
            read(driver, volume.id, length=1)[0] if volume.id in (WEB, NEW) else None,
            [snapshot.id for snapshot in driver.list_snapshots(volume.id, call()).items],
            [(grant.host, grant.read_only) for grant in driver.list_grants(volume.id, call())],
        )
        for volume in driver.list_volumes(call()).items
    }
    everything = {
        kind: sorted((one["name"], str(one.get("metadata"))) for one in talk.items(f"/{kind}"))
        for kind in ("volumes", "snapshots", "initiators")
    }
    return seen, everything


OPERATIONS: dict[str, Callable[[ArrayDriver], object]] = {
    "create": lambda d: d.create_volume(spec(NEW), call()),
    "delete": lambda d: d.delete_volume(DB, call()),
    "resize": lambda d: d.resize_volume(DB, 2 * MIB, call()),
    "clone": lambda d: d.clone_volume(DB, spec(NEW), call()),
    "from_snapshot": lambda d: d.create_volume_from_snapshot(S1, spec(NEW), call()),
    "from_template": lambda d: d.create_volume_from_template(DEBIAN, spec(NEW), call()),
    "snapshot": lambda d: d.create_snapshot(WEB, S2, call()),
    "delete_snapshot": lambda d: d.delete_snapshot(S1, call()),
    "revert": lambda d: d.revert_volume(WEB, S1, call()),
    "vm_snapshot": lambda d: d.take_vm_snapshot([WEB, DB], VM, call()),
    "grant": lambda d: d.grant(DB, HOST, call()),
    "set_qos": lambda d: d.set_qos(DB, Qos(max_iops=100), call()),
    "prepare_template": lambda d: d.prepare_template(TemplateSpec(id=TemplateId("new"), size=MIB), call()),
    "evict": lambda d: d.evict_template(DEBIAN, call()),
    "adopt": lambda d: d.adopt_volume(NATIVE, spec(NEW), call()),
    "release": lambda d: d.release_volume(DB, call()),
}
QUICK = {"create"}


@pytest.fixture(scope="module")
def pattern(tmp_path_factory) -> Path:
    """The state directory of an array with some objects."""
    path = tmp_path_factory.mktemp("pattern") / "state"
    with array_at(path) as simulator, driver_at(simulator.url) as driver:
        prepared(driver)
    return path


def array_at(path: Path) -> ArraySimulator:
    """An array without TLS, so that the proxy can count messages."""
    return ArraySimulator(path, pools={"pool-a": 1 << 30}, tls=False, password="pw", job_seconds=0.01)


@contextmanager
def driver_at(url: str) -> Iterator[ArrayDriver]:
    """An open driver."""
    options = {"url": url, "allow_http": True, "username": "admin", "password": "pw", "pool": "pool-a"}
    driver = ArrayDriver(parse_options(ArrayDriver.Options, options))
    driver.open(call())
    yield driver
    driver.close()


@contextmanager
def through(proxy: LossyProxy, pattern: Path, path: Path) -> Iterator[ArrayDriver]:
    """A driver that reaches a copy of the pattern through the proxy."""
    subprocess.run(["cp", "-a", "--sparse=always", pattern, path], check=True)
    with array_at(path) as simulator:
        proxy.connect_to(simulator.url)
        with driver_at(proxy.url) as driver:
            yield driver
    shutil.rmtree(path)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in OPERATIONS]
)
def test_lost_messages_converge(lossy_proxy, pattern, tmp_path, name):
    """Whichever message is lost, the error's outcome is true and the retry ends as if nothing was."""
    act = OPERATIONS[name]
    with through(lossy_proxy, pattern, tmp_path / "plain") as driver:
        before = state(driver)
        lossy_proxy.arm(None)
        act(driver)
        messages, wanted = lossy_proxy.seen, state(driver)
    assert messages > 1
    assert wanted != before or name == "set_qos"
    for case in itertools.product(range(messages), (False, True)):
        with through(lossy_proxy, pattern, tmp_path / "lost") as driver:
            lossy_proxy.arm(case[0], before_it_arrives=case[1])
            with pytest.raises(StorageError) as error:
                act(driver)
            assert error.value.retryable
            lossy_proxy.arm(None)
            if error.value.outcome is Outcome.NOT_APPLIED:
                assert state(driver) == before, case
            _repeated(act, driver)
            assert state(driver) == wanted, case


def _repeated(act: Callable[[ArrayDriver], object], driver: ArrayDriver) -> None:
    """Do it again; a job of the lost request may still run, and a repeat that is quicker meets `Busy`."""
    until = call()
    while True:
        until.check()  # raises when the array is busy for ever
        try:
            act(driver)
        except Busy:
            continue
        return


@pytest.mark.slow
def test_lost_messages_of_a_revoke(lossy_proxy, pattern, tmp_path):
    """Whichever message of a revoke is lost, the repeat ends with the host out and forgotten."""
    for case in itertools.product(range(20), (False, True)):
        with through(lossy_proxy, pattern, tmp_path / "lost") as driver:
            place = driver.grant(DB, HOST, call())
            lossy_proxy.arm(case[0], before_it_arrives=case[1])
            if not _fails_retryably(partial(driver.revoke, DB, HOST.id, call())):
                assert case[0] > 4, "a revoke has more messages than were lost"
                return
            lossy_proxy.arm(None)
            driver.revoke(DB, HOST.id, call())
            assert driver.list_grants(DB, call()) == []
            with pytest.raises(StorageError):
                open_source(place, timeout=10)


def _fails_retryably(act: Callable[[], object]) -> bool:
    try:
        act()
    except StorageError as error:
        return error.retryable
    return False


# -- kill -9 of the array, and of the driver ----------------------------------------------------------


@pytest.fixture
def start(tmp_path):
    """Start the array as a process of its own on the same state and ports, again and again."""
    environment = {"BOLLARD_ARRAY_PASSWORD": "a-password-for-tests"}
    ports: dict[str, str] = {}
    running: list[SimulatorProcess] = []

    def run(job_seconds: float = 0.02) -> SimulatorProcess:
        arguments = [
            "--state",
            str(tmp_path / "array"),
            "--pool",
            "pool-a=1G",
            "--job-seconds",
            str(job_seconds),
        ]
        for option, value in ports.items():
            arguments += [option, value]
        process = SimulatorProcess.start("array", *arguments, env=environment)
        running.append(process)
        ports["--port"] = process.url.rpartition(":")[2]
        ports["--nbd-port"] = str(process.ready["nbd_port"])
        return process

    yield run
    running[-1].stop()


def options_of(process: SimulatorProcess) -> dict[str, object]:
    """Options for an array that runs as a process."""
    return {
        "url": process.url,
        "username": process.ready["username"],
        "password": "a-password-for-tests",
        "pool": "pool-a",
        "ca": process.ready["ca"],
    }


def opened(process: SimulatorProcess) -> ArrayDriver:
    """An open driver."""
    driver = ArrayDriver(parse_options(ArrayDriver.Options, options_of(process)))
    driver.open(call())
    return driver


def test_an_array_that_is_killed_during_a_copy(start):
    """Kill -9 of the array in the middle of a clone: a typed error now, a filled clone after the restart."""
    array = start(job_seconds=2)
    driver = opened(array)
    driver.create_volume(spec(DB), call())
    write(driver, DB, 2)
    errors: list[StorageError] = []

    def clone() -> None:
        try:
            driver.clone_volume(DB, spec(NEW), call())
        except StorageError as error:
            errors.append(error)

    thread = threading.Thread(target=clone)
    thread.start()
    watcher = opened(array)
    talk = watcher._client.talk(call())
    while not list(talk.items("/jobs")):
        talk.wait(0.01)
    array.kill()
    thread.join()
    assert [error.outcome for error in errors] == [Outcome.UNKNOWN]
    assert errors[0].retryable

    start(job_seconds=0.02)
    driver.clone_volume(DB, spec(NEW), call())
    assert read(driver, NEW, length=1)[0] == 2
    driver.close()
    watcher.close()


def test_a_restarted_array_needs_no_new_driver(start):
    """After a restart of the array the same driver goes on: it logs in again by itself."""
    array = start()
    driver = opened(array)
    made = driver.create_volume(spec(DB), call())
    array.kill()
    with pytest.raises(StorageError) as error:
        driver.get_volume(DB, call())
    assert (error.value.code, error.value.outcome) == ("unavailable", Outcome.NOT_APPLIED)
    start()
    assert driver.get_volume(DB, call()) == made
    driver.close()


def clone_and_die(process: SimulatorProcess, requests: int) -> bool:
    """Clone in a child that is killed after so many requests; tell whether it died."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            driver = opened(process)
            _die_after(requests)
            driver.clone_volume(DB, spec(NEW), call())
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
    return status != 0


def _die_after(requests: int) -> None:
    left, send = requests, Controller._send

    def counted(*arguments: Any, **rest: Any) -> object:
        nonlocal left
        answer = send(*arguments, **rest)
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    pytest.MonkeyPatch().setattr(Controller, "_send", counted)


def test_a_driver_that_is_killed_during_a_copy(start):
    """Kill -9 of the driver after each of its requests: nothing half-made shows, the retry is filled."""
    array = start()
    driver = opened(array)
    driver.create_volume(spec(DB), call())
    write(driver, DB, 2)
    for step in itertools.count():
        if not clone_and_die(array, step):
            assert step > 3
            break
        with suppress(NotFound):
            assert read(driver, NEW, length=1)[0] == 2
        driver.clone_volume(DB, spec(NEW), call())
        assert read(driver, NEW, length=1)[0] == 2
        driver.delete_volume(NEW, call())
    driver.close()
