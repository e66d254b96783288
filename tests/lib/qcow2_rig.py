"""A qcow2 pool, and QEMU's own tools to write into its images and to judge them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from bollard.core.spi import parse_options
from bollard.drivers.primary.qcow2 import Qcow2Driver
from bollard.transfer_objects.ids import VolumeId
from primary_rig import call


def opened(path: Path, image_format: str = "qcow2", **options: object) -> Qcow2Driver:
    """Open the pool in `path`."""
    driver = Qcow2Driver(
        parse_options(Qcow2Driver.Options, {"path": path, "format": image_format, **options})
    )
    driver.open(call())
    return driver


def qemu_io(path: Path, image_format: str, *commands: str) -> None:
    """Run commands of qemu-io on an image; a failed read or write fails the test."""
    arguments = [part for command in commands for part in ("-c", command)]
    line = ["qemu-io", "-f", image_format, *arguments, str(path)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout, done.stdout


def equal(a: Path, b: Path, image_format: str) -> bool:
    """What `qemu-img compare` says; a longer image whose rest is zero counts as equal."""
    command = ["qemu-img", "compare", "-U", "-f", image_format, "-F", image_format, str(a), str(b)]
    code = subprocess.run(command, capture_output=True, timeout=60).returncode
    assert code in (0, 1), code
    return code == 0


def files(pool: Path) -> list[str]:
    """Return all files of a pool but its identity."""
    return sorted(
        str(path.relative_to(pool))
        for path in pool.rglob("*")
        if not path.is_dir() and path.name != "pool.json"
    )


def path_of(driver: Qcow2Driver, volume: VolumeId) -> Path:
    """Return the path of a volume."""
    return driver.locate_volume(volume, call()).path


def fill(driver: Qcow2Driver, volume: VolumeId, pattern: str, at: str = "0 64k") -> None:
    """Write a byte pattern into a volume."""
    place = driver.locate_volume(volume, call())
    qemu_io(place.path, place.format, f"write -P {pattern} {at}")


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that another thread or process brings about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
