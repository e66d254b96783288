"""Kills the example driver with -9 at each of its steps, and tells what each kill left.

Not a test but the child of one (test_example_vendor.py), with acme-bollard on its PYTHONPATH:

    python acme_kills.py DIRECTORY  ->  {"revert": {"before": …, "after": …, "seen": […], …}, …} as JSON

A step is a call that reaches the disk: fsync, rename, unlink, truncate. Forked, as starting Python for each
of a hundred kills costs a minute.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from acme_bollard.driver import AcmeDriver, AcmeOptions  # type: ignore[import-not-found]  # out of tree

from bollard.core.spi import Call, VolumeSpec
from bollard.transfer_objects.ids import SnapshotId, VolumeId

SIZE = 1 << 20
OLD, NEW = b"old" * 1000, b"new" * 1000
MEANS = {OLD: "old", NEW: "new", bytes(len(OLD)): "zeros"}
STEPS = ("fsync", "rename", "unlink", "truncate")
WEB, BEFORE = VolumeId("web"), SnapshotId("before")
MADE = VolumeSpec(id=VolumeId("made"), size=SIZE, name="n")
CLONE = VolumeSpec(id=MADE.id, size=2 * SIZE)

Driver = Any  # AcmeDriver is out of the type checker's sight
Deed = Callable[[Driver, Call], object]
DEEDS: dict[str, Deed] = {
    "create": lambda driver, call: driver.create_volume(MADE, call),
    "clone": lambda driver, call: driver.clone_volume(WEB, CLONE, call),
    "snapshot": lambda driver, call: driver.create_snapshot(WEB, SnapshotId("later"), call),
    "revert": lambda driver, call: driver.revert_volume(WEB, BEFORE, call),
    "resize": lambda driver, call: driver.resize_volume(WEB, 2 * SIZE, call),
    "delete": lambda driver, call: driver.delete_snapshot(BEFORE, call),
}


def prepare(driver: Driver, call: Call) -> None:
    """Make a volume `web` that holds NEW, with a snapshot that holds OLD."""
    driver.create_volume(VolumeSpec(id=WEB, size=SIZE), call)
    path = driver.locate_volume(WEB, call).path
    for text in (OLD, NEW):
        with path.open("r+b") as file:
            file.write(text)
        if text is OLD:
            driver.create_snapshot(WEB, BEFORE, call)


def look(driver: Driver, call: Call) -> list[str]:
    """Return what a new instance of the driver finds: an object and its bytes in each line."""
    volumes, snapshots = driver.list_volumes(call).items, driver.list_snapshots(WEB, call).items
    found = [(v, driver.locate_volume(v.id, call)) for v in volumes]
    found += [(s, driver.locate_snapshot(s.id, call)) for s in snapshots]
    return sorted(f"{o.id} {o.size} {MEANS.get(at.path.read_bytes()[: len(OLD)], 'torn')}" for o, at in found)


def killed_at(step: int, deed: Callable[[], object]) -> bool:
    """Do the deed in a child that dies before its n-th step; False if it had fewer."""
    child = os.fork()
    if child == 0:
        left = step

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def act(*arguments: Any, **named: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **named)

            return act

        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        deed()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def explore(pool: Path, fresh: Path, deed: Deed) -> dict[str, Any]:
    """Do the deed undisturbed, then kill it at each step, look, repeat it, and look again."""
    driver, call = AcmeDriver(AcmeOptions(path=pool)), Call()
    shutil.copytree(fresh, pool)
    before = look(driver, call)
    deed(driver, call)
    told: dict[str, Any] = {"before": before, "after": look(driver, call)}
    told |= {"seen": [], "repeated": [], "staged": []}
    while True:
        shutil.rmtree(pool)
        shutil.copytree(fresh, pool)
        if not killed_at(len(told["seen"]) + 1, lambda: deed(driver, call)):
            break
        told["seen"].append(look(driver, call))
        deed(driver, call)
        told["repeated"].append(look(driver, call))
        told["staged"] += [path.name for path in pool.glob("staging*")]
    shutil.rmtree(pool)
    return told


def main(directory: Path) -> None:
    """Print what was found, deed by deed."""
    fresh = directory / "fresh"
    fresh.mkdir()
    (fresh / "pool.id").write_text("b0a4b0ba-6c8d-4a41-9d1f-0e8b7c2a5d11\n", encoding="utf-8")
    prepare(AcmeDriver(AcmeOptions(path=fresh)), Call())
    told = {name: explore(directory / name, fresh, deed) for name, deed in DEEDS.items()}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
