"""kill -9 before every step of every operation of the qcow2 driver, then: retry, or give up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bollard.core.spi import Busy, NotFound, StorageError, TemplateSpec, VolumeSpec
from bollard.drivers.primary.qcow2 import Qcow2Driver
from bollard.transfer_objects.ids import VolumeId
from primary_rig import DEBIAN, S1, S2, WEB, call
from qcow2_rig import opened, until

SIZE = 128 * 1024
NEW = VolumeId("new-1")
OLD, CUT = b"\x22" * SIZE, b"\x11" * SIZE

# Steps that change something outside of the process, as Python's audit hooks name them (PEP 578).
_STEPS = {"os.rename", "os.remove", "os.mkdir", "os.chmod", "os.chown", "os.truncate", "subprocess.Popen"}


def prepared(path: Path) -> None:
    """A volume with bytes OLD, its snapshot with bytes CUT, a foreign file, two templates."""
    driver = opened(path, "raw")
    driver.create_volume(VolumeSpec(id=WEB, size=SIZE), call())
    write(driver, WEB, CUT)
    driver.create_snapshot(WEB, S1, call())
    write(driver, WEB, OLD)
    (path / "foreign.raw").write_bytes(OLD)
    seed = driver.prepare_template(TemplateSpec(id=DEBIAN, size=SIZE), call())
    write(driver, seed.id, OLD)


def write(driver: Qcow2Driver, volume: VolumeId, content: bytes) -> None:
    """Overwrite a volume from its start."""
    with driver.locate_volume(volume, call()).path.open("r+b") as file:
        file.write(content)


def content(driver: Qcow2Driver, volume: VolumeId) -> bytes:
    """Return all bytes of a volume."""
    return driver.locate_volume(volume, call()).path.read_bytes()


def delete(driver: Qcow2Driver) -> None:
    """Delete the snapshot, then the volume."""
    driver.delete_snapshot(S1, call())
    driver.delete_volume(WEB, call())


def release(driver: Qcow2Driver) -> None:
    """Delete the snapshot, then give the volume's file back."""
    driver.delete_snapshot(S1, call())
    driver.release_volume(WEB, call())


def from_template(driver: Qcow2Driver) -> None:
    """Seal the template and make a volume of it."""
    driver.seal_template(DEBIAN, call())
    driver.create_volume_from_template(DEBIAN, VolumeSpec(id=NEW, size=2 * SIZE), call())


OPERATIONS: dict[str, Callable[[Qcow2Driver], object]] = {
    "create": lambda d: d.create_volume(VolumeSpec(id=NEW, size=SIZE), call()),
    "clone": lambda d: d.clone_volume(WEB, VolumeSpec(id=NEW, size=2 * SIZE), call()),
    "from_snapshot": lambda d: d.create_volume_from_snapshot(S1, VolumeSpec(id=NEW, size=SIZE), call()),
    "snapshot": lambda d: d.create_snapshot(WEB, S2, call()),
    "revert": lambda d: d.revert_volume(WEB, S1, call()),
    "resize": lambda d: d.resize_volume(WEB, 2 * SIZE, call()),
    "delete_snapshot": lambda d: d.delete_snapshot(S1, call()),
    "delete": delete,
    "from_template": from_template,
    "evict": lambda d: d.evict_template(DEBIAN, call()),
    "adopt": lambda d: d.adopt_volume("foreign.raw", VolumeSpec(id=NEW, size=SIZE), call()),
    "release": release,
}


def run_and_die(path: Path, act: Callable[[Qcow2Driver], object], step: int) -> bool:
    """Run `act` in a child that is killed before its `step`-th outside step; tell whether it died."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            driver = opened(path, "raw")
            _die_at(step)
            act(driver)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


def _die_at(step: int) -> None:
    left = step

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        writes = (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_CREAT | os.O_WRONLY)
        )
        if event in _STEPS or writes:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def state(driver: Qcow2Driver, path: Path) -> dict[str, Any]:
    """Everything that can be seen of the pool: objects with their bytes, and all file names."""
    volumes = {v.id: (v.size, content(driver, v.id)) for v in driver.list_volumes(call()).items}
    snapshots = {
        s.id: driver.locate_snapshot(s.id, call()).path.read_bytes()
        for s in driver.list_snapshots(WEB, call()).items
    }
    names = sorted(str(p.relative_to(path)) for p in path.rglob("*") if not p.is_dir())
    return {"volumes": volumes, "snapshots": snapshots, "files": names}


@pytest.fixture(scope="module")
def pattern(tmp_path_factory) -> Path:
    """A pool to copy for each run."""
    path = tmp_path_factory.mktemp("pattern")
    prepared(path)
    return path


def pools(pattern: Path, tmp_path: Path, act: Callable[[Qcow2Driver], object]):
    """Yield one pool for each step of `act`, in which it was killed there."""
    for step in range(1000):
        path = tmp_path / f"killed-{step}"
        subprocess.run(["cp", "-a", "--sparse=always", pattern, path], check=True)
        if not run_and_die(path, act, step):
            assert step > 3, "the operation has more outside steps than were seen"
            return
        yield path


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_killed_operation_is_finished_by_the_retry(pattern, tmp_path, name):
    """Wherever it is killed, the retry gives the same objects, bytes and files as no kill at all."""
    act = OPERATIONS[name]
    plain = tmp_path / "plain"
    subprocess.run(["cp", "-a", "--sparse=always", pattern, plain], check=True)
    act(opened(plain, "raw"))
    wanted = state(opened(plain, "raw"), plain)
    before = state(opened(pattern, "raw"), pattern)
    for path in pools(pattern, tmp_path, act):
        driver = opened(path, "raw")
        between = state(driver, path)
        assert between["volumes"].items() <= before["volumes"].items() | wanted["volumes"].items(), path.name
        assert not any(file.startswith((".bollard/staging", ".bollard/locks")) for file in between["files"])
        act(driver)
        assert state(driver, path) == wanted, path.name


@pytest.mark.parametrize("name", ["create", "clone", "from_snapshot", "from_template", "adopt"])
def test_a_killed_creation_can_be_given_up(pattern, tmp_path, name):
    """Wherever a creation is killed, deleting instead leaves no file of it."""
    kept = {
        name for name in state(opened(pattern, "raw"), pattern)["files"] if not name.startswith("foreign")
    }
    for path in pools(pattern, tmp_path, OPERATIONS[name]):
        driver = opened(path, "raw")
        driver.delete_volume(NEW, call())
        with pytest.raises(NotFound):
            driver.get_volume(NEW, call())
        assert {n for n in state(driver, path)["files"] if not n.startswith("foreign")} == kept, path.name


def test_a_qemu_img_that_outlives_its_driver_keeps_the_lock(tmp_path, slow_qemu_img):
    """After a kill -9 the orphaned qemu-img still owns the object: Busy until it ends, then all is well."""
    driver = opened(tmp_path, "raw")
    driver.create_volume(VolumeSpec(id=WEB, size=SIZE), call())
    write(driver, WEB, CUT)
    child = os.fork()
    if child == 0:
        opened(tmp_path, "raw").create_snapshot(WEB, S1, call())
        os._exit(1)
    until((slow_qemu_img / "pid").exists)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with pytest.raises(Busy):
        opened(tmp_path, "raw").create_snapshot(WEB, S1, call())
    (slow_qemu_img / "go").touch()
    until(lambda: _succeeds(lambda: driver.create_snapshot(WEB, S1, call())))
    assert driver.locate_snapshot(S1, call()).path.read_bytes() == CUT


def _succeeds(act: Callable[[], object]) -> bool:
    try:
        act()
    except StorageError:
        return False
    return True
