"""The qcow2 driver when somebody else has the image open, works on the object, or time runs out."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from bollard.core.spi import Busy, Call, DeadlineExceeded, InUse, Outcome, VolumeSpec
from bollard.drivers.primary.qcow2 import Qcow2Driver
from primary_rig import COPY, DB, MIB, S1, S2, WEB, call
from qcow2_rig import files, opened, path_of, qemu_io, until


def test_an_image_that_a_vm_writes_to_is_left_alone(driver, serve, image_format):
    """While a QEMU has a volume open for writing, no copy, revert, resize or delete of it happens."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    driver.create_snapshot(WEB, S1, call())
    serve(path_of(driver, WEB), image_format)
    acts: list[Callable[[], object]] = [
        lambda: driver.create_snapshot(WEB, S2, call()),
        lambda: driver.clone_volume(WEB, VolumeSpec(id=COPY, size=MIB), call()),
        lambda: driver.revert_volume(WEB, S1, call()),
        lambda: driver.resize_volume(WEB, 2 * MIB, call()),
        lambda: driver.delete_volume(WEB, call()),
        lambda: driver.release_volume(WEB, call()),
    ]
    for act in acts[:-2]:
        with pytest.raises(InUse) as error:
            act()
        assert error.value.outcome is Outcome.NOT_APPLIED
    driver.delete_snapshot(S1, call())
    for act in acts[-2:]:
        with pytest.raises(InUse):
            act()
    assert driver.get_volume(WEB, call()).size == MIB


def test_a_reader_suffers_copies_but_no_replacement(driver, serve, image_format):
    """While an archive reads a volume, it can be copied, and neither reverted nor deleted."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    serve(path_of(driver, WEB), image_format, "-r")
    driver.create_snapshot(WEB, S1, call())
    with pytest.raises(InUse):
        driver.revert_volume(WEB, S1, call())
    driver.delete_snapshot(S1, call())
    with pytest.raises(InUse):
        driver.delete_volume(WEB, call())


def test_no_vm_starts_on_an_image_that_is_being_copied(driver, image_format):
    """The lock that a copy holds makes QEMU refuse to open the image for writing."""
    from bollard.core.dataplane import image_lock

    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    path = path_of(driver, WEB)
    with image_lock.reading(path):
        command = ["qemu-io", "-f", image_format, "-c", "write 0 512", path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert 'Failed to get "write" lock' in done.stderr
    qemu_io(path, image_format, "write 0 512")


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_late_call_ends_at_its_deadline_and_leaves_nothing(tmp_path, slow_qemu_img):
    """A hanging qemu-img is killed at the deadline; the volume does not exist and no file stays."""
    driver = opened(tmp_path)
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded) as error:
        driver.create_volume(VolumeSpec(id=WEB, size=MIB), Call.within(0.5))
    assert time.monotonic() - started < 20
    assert error.value.outcome is Outcome.NOT_APPLIED
    assert _gone(int((slow_qemu_img / "pid").read_text()))
    assert files(tmp_path) == []


def test_a_cancelled_call_ends_at_once(tmp_path, slow_qemu_img):
    """Setting the cancel event ends a running qemu-img, and the retry makes the volume."""
    driver, cancelled = opened(tmp_path), Call.within(60)

    def cancel() -> None:
        until((slow_qemu_img / "pid").exists)
        cancelled.cancel.set()

    timer = threading.Thread(target=cancel)
    timer.start()
    with pytest.raises(DeadlineExceeded):
        driver.create_volume(VolumeSpec(id=WEB, size=MIB), cancelled)
    timer.join()
    (slow_qemu_img / "go").touch()
    assert driver.create_volume(VolumeSpec(id=WEB, size=MIB), call()).size == MIB


def test_two_callers_of_one_object_do_not_mix(tmp_path, slow_qemu_img):
    """While one caller works on a volume another gets Busy for it, and works on any other object."""
    driver, second = opened(tmp_path), opened(tmp_path, "raw")
    first = threading.Thread(target=driver.create_volume, args=(VolumeSpec(id=WEB, size=MIB), call()))
    first.start()
    until((slow_qemu_img / "pid").exists)
    with pytest.raises(Busy):
        second.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    with pytest.raises(Busy):
        second.create_snapshot(WEB, S1, call())
    second.create_volume(VolumeSpec(id=DB, size=MIB), call())
    (slow_qemu_img / "go").touch()
    first.join()
    assert [volume.id for volume in second.list_volumes(call()).items] == [DB, WEB]
    assert not any(name.startswith(".bollard") for name in files(tmp_path))


def test_sixteen_creators_make_one_volume(tmp_path):
    """Any number of callers at once make one volume: each gets it, or Busy."""
    drivers = [opened(tmp_path, "raw") for _ in range(16)]
    results: list[object] = []

    def create(driver: Qcow2Driver) -> None:
        try:
            results.append(driver.create_volume(VolumeSpec(id=WEB, size=MIB), call()).id)
        except Busy:
            results.append(Busy)

    threads = [threading.Thread(target=create, args=(driver,)) for driver in drivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(results) <= {WEB, Busy}
    assert len(results) == 16
    assert WEB in results
    assert files(tmp_path) == ["volumes/web-1.json", "volumes/web-1.raw"]
